"""What a section of the report is made of, and how its numbers travel.

A section says what it shows; the template (``static/report.html.j2``) says how that looks. Charts are figures of
Plotly, as plain dictionaries. Long arrays are encoded as Plotly takes them: base64 of the bytes, with their type.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiida_mlip_autopipe.pipeline.stages import Stage

__all__ = ['LOG_AXIS', 'Chart', 'Image', 'Links', 'Section', 'Table', 'Text', 'Widget', 'encoded', 'number', 'title_of']

#: Shorter arrays are lists: they are no longer than their encoding, and can be read.
SHORT = 32
#: A logarithmic axis with ticks at 1, 2 and 5, written out.
LOG_AXIS = {'type': 'log', 'dtick': 'D2', 'tickformat': '~g'}


@dataclass(frozen=True)
class Text:
    """A paragraph; ``kind`` is 'plain', 'note' (small), 'note hint' (not printed), 'good' or 'warning' (in a box)."""

    text: str
    kind: str = 'plain'


@dataclass(frozen=True)
class Table:
    """A table; of its columns, the first ``n_names`` are names and the others numbers; ``folded``: opened on demand."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_names: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure of Plotly: its traces and its layout.

    Attributes
    ----------
    name : str
        By which the page finds it.
    title, alt : str
        What stands above it, and what is seen, for who does not see it.
    width : str
        'half', 'third' or 'wide': of the page.
    """

    name: str
    title: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    width: str = 'half'


@dataclass(frozen=True)
class Image:
    """A drawing (SVG) that the graph holds."""

    svg: bytes
    alt: str

    @property
    def source(self) -> str:
        """Return the image as a data URL."""
        return f'data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}'


@dataclass(frozen=True)
class Links:
    """A list of references: text and address."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Widget:
    """Something to work with: its markup is ``static/NAME.html.j2``, its data is what ``report.js`` draws."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the report: its anchor, its title and its blocks."""

    anchor: str
    title: str
    blocks: list[Any]


def encoded(values: Any, dtype: str | None = None) -> Any:
    """Return an array of one dimension as Plotly takes it; a short one, or one of text, as a list.

    Parameters
    ----------
    values : array_like, (n,)
        Numbers or texts. What is not finite is None in a list and stays what it is otherwise.
    dtype : str, optional
        'f4', 'i4' ...; by default float32 for floating point numbers and int32 for integers.
    """
    array = np.asarray(values)
    if array.dtype.kind in 'US':
        return array.tolist()
    kind = dtype or ('i4' if array.dtype.kind in 'iub' else 'f4')
    array = array.astype(f'<{kind}')
    if len(array) <= SHORT:
        return [None if not np.isfinite(value) else _shortest(value) for value in array]
    return {'dtype': kind, 'bdata': base64.b64encode(array.tobytes()).decode()}


def _shortest(value: Any) -> float | int:
    """Return a number that is written with no more digits than its type has."""
    return int(value) if value.dtype.kind == 'i' else float(str(value))


def number(value: float | None, form: str = '{:.4g}') -> str:
    """Return a number in words; a dash where there is none."""
    return '–' if value is None else form.format(value)


def title_of(stage: Stage) -> str:
    """Return what a stage is called in the report: 'round 2', 'surrogate', 'test set', 'seeds'."""
    if stage.round:
        return f'{"new labels of " if stage.judges_labels else ""}round {stage.round}'
    names = {'test': 'test set', 'initial': 'seeds', 'bootstrap': 'surrogate'}
    return names.get(stage.purpose, stage.purpose or stage.name)
