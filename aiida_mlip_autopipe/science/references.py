"""A publication, as the report cites it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ['Reference']


class Reference(NamedTuple):
    """A publication: authors, journal and year in one line, and its address."""

    text: str
    url: str
