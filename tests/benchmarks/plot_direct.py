"""Draw what DIRECT selects from rows like those of molecular dynamics, for the documentation.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.plot_direct docs/_static``
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.figures import draw_figures, figure_data

from .md_rows import md_rows

N_FRAMES, N_TO_SELECT = 100_000, 1000
SHOWN = ('selection_map', 'radius_by_budget')


def main() -> None:
    """Select and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    folder = parser.parse_args().folder
    sampler = DirectSampler(N_TO_SELECT).fit(lambda: md_rows(N_FRAMES))
    with TemporaryDirectory() as scratch:
        for path in draw_figures(figure_data(sampler), scratch):
            if path.stem in SHOWN:
                shutil.copyfile(path, folder / f'direct_{path.name}')


if __name__ == '__main__':
    main()
