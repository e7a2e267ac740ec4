"""What a labelling code answers with, beside labels: processes to submit, what to set up, what past labels took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from aiida.engine import Process

__all__ = ['VERSION_EXTRA', 'CodeSetup', 'PastLabel', 'SetupOption', 'Task']

VERSION_EXTRA = 'program_version'
"""Extra of a code: the version of its program."""


class Task(NamedTuple):
    """A process to be submitted: its class and its inputs. The call link label is set by who submits it."""

    process: type[Process]
    inputs: dict[str, Any]


class SetupOption(NamedTuple):
    """An option that ``mlip-autopipe init`` has for a labelling code: ``--NAME PATH``."""

    name: str
    help: str
    default: Path | None = None


@dataclass(frozen=True)
class CodeSetup:
    """The code that ``mlip-autopipe init`` makes on this computer.

    Attributes
    ----------
    label : str
        Its label, without the computer.
    executable : Path
    plugin : str or None
        Entry point of its calculation.
    prepend : str
        Shell lines before it runs.
    version : str or None
        Version of the program, which is stored with the code; None if it is not known.
    """

    label: str
    executable: Path
    plugin: str | None = None
    prepend: str = ''
    version: str | None = None


@dataclass(frozen=True)
class PastLabel:
    """A job that ended well, and what it took.

    Attributes
    ----------
    elements : frozenset of str
    n_atoms : int
    effort : float
        As `Labeller.effort` of its structure.
    wall_s : float
        Its wall time, in s.
    resources : mapping
        AiiDA's option ``resources`` of the job, which tells its cores.
    """

    elements: frozenset[str]
    n_atoms: int
    effort: float
    wall_s: float
    resources: Mapping[str, Any]
