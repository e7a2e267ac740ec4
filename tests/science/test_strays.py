"""What knows MACE, and what knows Quantum ESPRESSO, stays in its room."""

import re
from pathlib import Path

import aiida_mlip_autopipe

PACKAGE = Path(aiida_mlip_autopipe.__file__).parent
QE_IN_WORDS = 8
"""So many files outside of its room may name Quantum ESPRESSO, for a reader; none branches on it."""


def files_that_match(pattern: str, *rooms: str) -> list[str]:
    """Return the files of the package that match, but for those in the rooms."""
    found = []
    for path in sorted(PACKAGE.rglob('*')):
        name = path.relative_to(PACKAGE).as_posix()
        if not path.is_file() or '__pycache__' in name or name.startswith(rooms):
            continue
        if re.search(pattern, path.read_text(), re.IGNORECASE | re.MULTILINE):
            found.append(name)
    return found


def test_mace_is_imported_in_its_room_alone():
    pattern = r'^\s*(import|from) mace\b'
    assert files_that_match(pattern, 'science/potential/') == []
    assert len(files_that_match(pattern)) > 3


def test_quantum_espresso_is_named_in_few_files_outside_its_room():
    found = files_that_match(r'espresso|pw\.x|\bpw_', 'labelling/espresso/')
    assert len(found) <= QE_IN_WORDS, found
