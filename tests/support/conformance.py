"""What all that is registered must say of itself: a sentence for the methods text, and the publications it cites."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiida_mlip_autopipe.science.references import Reference


def check_sentence(sentence: str) -> None:
    """Assert that a sentence is whole, on one line, and has nothing that only the code knows."""
    assert sentence == sentence.strip() and '\n' not in sentence and '  ' not in sentence
    assert re.match(r'[A-Z0-9]', sentence) and sentence.endswith('.') and len(sentence.split()) > 3
    assert not re.search(r'\b(None|True|False|nan)\b|[{}`]|\w+_\w+\(', sentence), sentence


def check_references(references: Sequence[Reference]) -> None:
    """Assert that each reference tells its authors, where it appeared and when, and has an address."""
    for one in references:
        assert isinstance(one, Reference)
        assert re.match(r'([A-Z]\.[- ]?)+ ?\S+', one.text), one.text  # initials and a name
        assert re.search(r'\((19|20)\d\d\)$', one.text), one.text
        assert re.match(r'https://(doi\.org/10\.\d+/|arxiv\.org/abs/)\S+$', one.url), one.url
