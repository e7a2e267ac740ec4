"""Select representative frames from an extxyz file with descriptors and DIRECT, without AiiDA.

    python examples/direct_on_extxyz.py trajectory.extxyz --select 20 --output selected.extxyz --figures figures

Without a file it generates increasingly rattled and strained silicon. Frames may differ in size and
composition; each becomes one vector, averaged over its atoms: by SOAP, ACE or the features of a MACE potential. The
selection avoids frames close to labelled ones (--known). The report measures how well the selected and labelled frames
cover all frames, compared with a random and a farthest-point selection of the same size; the figures show this.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import make_descriptor
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import descriptor_parameters
from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.figures import figure_data, write_figures

# ------------------------------------------------------------------------------------------------------------ 1. frames


def rattled_silicon(n_frames: int = 500, random_seed: int = 0) -> list[Atoms]:
    """Return cubic cells of silicon, later ones with larger displacements (up to 0.2 Å) and strains (up to 5%)."""
    rng = np.random.default_rng(random_seed)
    frames = []
    for amplitude in np.linspace(0.05, 1.0, n_frames):
        atoms = bulk('Si', 'diamond', a=5.43, cubic=True)
        strain = amplitude * rng.uniform(-0.05, 0.05, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.2 * amplitude, size=(len(atoms), 3))
        frames.append(atoms)
    return frames


# ----------------------------------------------------------------------------------------------------------- 2. vectors


def describe(frames: list[Atoms], species: list[str], kind: str, potential: Path | None = None) -> np.ndarray:
    """Return the vector of each frame, (n_frames, n_features)."""
    return np.atleast_2d(make_descriptor(descriptor_parameters(kind), species, potential).create(frames))


# ------------------------------------------------------------------------------------------------------------ 3. report


def lines(report: dict[str, Any], indent: str = '') -> list[str]:
    """Return a line for each number; what belongs together is indented."""
    found = []
    for name, value in report.items():
        if isinstance(value, dict):
            found += [indent + name, *lines(value, indent + '    ')] if value else []
        elif value is not None:
            found.append(
                f'{indent + name:<32}{value:.4g}' if isinstance(value, float) else f'{indent + name:<32}{value}'
            )
    return found


# ------------------------------------------------------------------------------------------------ 4. all of it together


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('frames', nargs='?', type=Path, help='an extxyz file; by default rattled silicon')
    parser.add_argument('-k', '--known', type=Path, help='an extxyz file of labelled frames')
    parser.add_argument('-n', '--select', type=int, default=20, help='number of frames to select (default: 20)')
    parser.add_argument('-d', '--descriptor', choices=['soap', 'ace', 'mace'], default='soap')
    parser.add_argument('--potential', type=Path, help='a MACE .model file, for the descriptor mace')
    parser.add_argument('--clustering', choices=['kmeans', 'birch', 'kmedoids'], default='kmeans')
    parser.add_argument('--random-seed', type=int, default=0)
    parser.add_argument('-o', '--output', type=Path, help='write the selected frames to an extxyz file')
    parser.add_argument('--figures', type=Path, help='a folder for figures of the selection, with their data as JSON')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> DirectSampler:
    """Read or make frames, describe them, select, report, draw."""
    chosen = options(arguments)
    frames = read_extxyz(chosen.frames) if chosen.frames else rattled_silicon()
    labelled = read_extxyz(chosen.known) if chosen.known else []

    species = sorted({symbol for atoms in frames + labelled for symbol in atoms.symbols})
    rows = describe(frames, species, chosen.descriptor, chosen.potential)
    known = describe(labelled, species, chosen.descriptor, chosen.potential) if labelled else None

    sampler = DirectSampler(chosen.select, clustering=chosen.clustering, random_state=chosen.random_seed)
    sampler.fit(rows, known=known)
    print(*lines(sampler.report_), sep='\n')
    print(f'{"selected frames":<31}', *sampler.selected_idx_)

    if chosen.output:
        write_extxyz(chosen.output, [frames[index] for index in sampler.selected_idx_])
    if chosen.figures:
        print(*write_figures(figure_data(sampler), chosen.figures), sep='\n')
    return sampler


if __name__ == '__main__':
    main()
