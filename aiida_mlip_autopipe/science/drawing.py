"""How figures are drawn: SVG files, the same bytes for the same data, beside a JSON file of what they show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['COLOURS', 'Drawing', 'draw_figures', 'short', 'write_figures', 'write_numbers']

Drawing = Callable[['Axes', Mapping[str, Any]], None]

#: Colours that the colour-blind can tell apart (M. Okabe and K. Ito, 2008); markers tell further ones apart.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#E69F00', '#CC79A7', '#56B4E9', '#444444')

#: The salt makes the identifiers inside the SVG the same each time.
STYLE: dict[Any, Any] = {
    'svg.hashsalt': 'mlip-autopipe',
    'svg.fonttype': 'path',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.titlesize': 'medium',
    'legend.fontsize': 'small',
    'legend.framealpha': 0.9,
}


def draw_figures(data: Mapping[str, Any], drawings: Mapping[str, Drawing], folder: str | Path) -> list[Path]:
    """Draw each figure whose name is among the data, and return their paths.

    Parameters
    ----------
    data : mapping
        Name of a figure -> what it shows; read back from JSON or not.
    drawings : mapping
        Name of a figure -> function of axes and what is shown.
    folder : str or pathlib.Path
        Made where it is missing. The file ``NAME.svg`` has the same bytes for the same data.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    with mpl.rc_context(STYLE):
        for name in (name for name in drawings if name in data):
            figure = Figure(figsize=(6.4, 4.6), layout='constrained')
            drawings[name](figure.add_subplot(), data[name])
            paths.append(Path(folder) / f'{name}.svg')
            figure.savefig(paths[-1], metadata={'Date': None})
    return paths


def write_figures(data: Mapping[str, Any], drawings: Mapping[str, Drawing], folder: str | Path) -> list[Path]:
    """Draw the figures, and write ``figures.json``, what they show, beside them; return all paths."""
    return [*draw_figures(data, drawings, folder), write_numbers(data, folder)]


def write_numbers(data: Mapping[str, object], folder: str | Path) -> Path:
    """Write what figures show to ``figures.json`` and return its path."""
    path = Path(folder) / 'figures.json'
    path.write_text(json.dumps(data, allow_nan=False), encoding='utf-8')
    return path


def short(values: Iterable[float]) -> list[float]:
    """Return five digits of each value of an array of one dimension."""
    return [float(f'{value:.5g}') for value in values]
