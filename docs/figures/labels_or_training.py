"""Draw the two curves of ``docs/explanation/labels_or_training.md`` from the JSON file beside this one.

``python docs/figures/labels_or_training.py docs/_static``; ``tests/benchmarks/labels_or_training.py`` makes the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.science.drawing import COLOURS, draw_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETS = {'train': ('training set', 'o', '--'), 'test': ('test set', 's', '-'), 'hot': ('hotter test set', '^', ':')}
FORCES = 'force_rmse_meV_A'
TICKS_meV_A = (20, 30, 50, 70, 100, 150, 200, 300, 500)

Series = dict[str, Any]


def series(rows: Iterable[Mapping[str, Any]], key: str, name: str, title: str) -> Series:
    """Return the force error on a set, in meV/Å, of each training against its steps or labels."""
    points = sorted((row[key], row[name][FORCES]) for row in rows)
    return {'set': name, 'title': title, 'x': [x for x, _ in points], 'errors': [error for _, error in points]}


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Series]]:
    """Return what both figures show: steps with all labels, and labels at each number of steps that has several."""
    most = max(row['labels'] for row in rows)
    whole = [row for row in rows if row['labels'] == most]
    budgets = sorted({row['steps'] for row in rows if row['labels'] < most})
    return {
        'error_against_steps': [series(whole, 'steps', name, title) for name, (title, _, _) in SETS.items()],
        'error_against_labels': [
            series([row for row in rows if _alike(row['steps'], steps)], 'labels', name, f'{title}, {steps} steps')
            for steps in budgets
            for name, (title, _, _) in SETS.items()
        ],
    }


def _alike(steps: int, budget: int) -> bool:
    """Return whether steps are a budget, but for those that make no whole epoch."""
    return abs(steps / budget - 1) < 0.05


def drawing(label: str) -> Callable[[Axes, Sequence[Series]], None]:
    """Return a function that draws one figure: each training as a point, and the geometric mean of the seeds."""

    def draw(axes: Axes, shown: Sequence[Series]) -> None:
        for one, colour in zip(shown, COLOURS, strict=False):
            _, marker, line = SETS[one['set']]
            places = sorted(set(one['x']))
            means = [np.exp(np.mean(np.log([e for x, e in zip(one['x'], one['errors'], strict=True) if x == place])))
                     for place in places]  # fmt: skip
            axes.loglog(places, means, line, color=colour, label=one['title'])
            axes.loglog(one['x'], one['errors'], marker, color=colour)
        places = sorted({x for one in shown for x in one['x']})
        axes.set_xticks(places, [str(place) for place in places])
        axes.minorticks_off()
        low, high = axes.get_ylim()
        ticks = [tick for tick in TICKS_meV_A if low <= tick <= high]
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
