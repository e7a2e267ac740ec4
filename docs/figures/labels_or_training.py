"""Draw the two curves of ``docs/explanation/labels_or_training.md`` from the JSON file beside this one.

``python docs/figures/labels_or_training.py docs/_static``; ``tests/benchmarks/labels_or_training.py`` makes the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.science.drawing import COLOURS, draw_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETS = {
    'train': ('training set', 'o', '--'),
    'validation': ('validation set', '^', ':'),
    'test': ('test set', 's', '-'),
}
FORCES = 'force_rmse_meV_A'


def against(key: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return, by set, the force error of each seed, in meV/Å, against steps or labels."""
    rows = list(rows)
    values = sorted({row[key] for row in rows})
    return {
        'x': values,
        'errors': {
            name: [[row[name][FORCES] for row in rows if row[key] == value] for value in values] for name in SETS
        },
    }


def curves(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what both figures show: steps with all labels, and labels with the number of steps that has several."""
    most = max(row['labels'] for row in rows)
    (steps,) = {row['steps'] for row in rows if row['labels'] < most}
    return {
        'error_against_steps': against('steps', (row for row in rows if row['labels'] == most)),
        'error_against_labels': against('labels', (row for row in rows if row['steps'] == steps)),
    }


def drawing(label: str) -> Callable[[Axes, Mapping[str, Any]], None]:
    """Return a function that draws one figure: the geometric mean over the seeds, and each of them as a point."""

    def draw(axes: Axes, shown: Mapping[str, Any]) -> None:
        for (name, (title, marker, line)), colour in zip(SETS.items(), COLOURS, strict=False):
            errors = shown['errors'][name]
            means = [float(np.exp(np.mean(np.log(values)))) for values in errors]
            axes.loglog(shown['x'], means, line, color=colour, marker=marker, label=title)
            for x, values in zip(shown['x'], errors, strict=True):
                axes.loglog([x] * len(values), values, marker, color=colour, alpha=0.35, markersize=4)
        axes.set_xticks(shown['x'], [str(x) for x in shown['x']])
        axes.minorticks_off()
        ticks = [one for one in (10, 20, 50, 100, 200, 500) if axes.get_ylim()[0] <= one <= axes.get_ylim()[1]]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set(xlabel=label, ylabel='force RMSE (meV/Å)')
        axes.grid(alpha=0.3)
        axes.legend()

    return draw


DRAWINGS = {
    'error_against_steps': drawing('optimiser steps'),
    'error_against_labels': drawing('labelled structures in the training set'),
}


def main() -> None:
    """Draw both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    rows = json.loads(Path(__file__).with_suffix('.json').read_text(encoding='utf-8'))
    draw_figures(curves(rows), DRAWINGS, parser.parse_args().folder)


if __name__ == '__main__':
    main()
