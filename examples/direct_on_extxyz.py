"""Pick representative frames from an extxyz file: descriptors and DIRECT alone, without AiiDA.

    python examples/direct_on_extxyz.py trajectory.extxyz --select 20 --output selected.extxyz

Without a file it makes its own frames: silicon, rattled and strained more and more. Frames may differ in size and
composition; each becomes one vector, averaged over its atoms: by SOAP, ACE or the features of a MACE potential. The
report tells how well the selection covers all frames, beside a random selection of the same size.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import make_descriptor
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import DescriptorParameters, descriptor_parameters
from aiida_mlip_autopipe.science.sampling import DirectSampler


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


def describe(frames: list[Atoms], parameters: DescriptorParameters, potential: Path | None = None) -> np.ndarray:
    """Return the vector of each frame, (n_frames, n_features)."""
    species = sorted({symbol for atoms in frames for symbol in atoms.symbols})
    return np.asarray(make_descriptor(parameters, species, potential).create(frames))


def main(arguments: list[str] | None = None) -> DirectSampler:
    """Read or make frames, describe them, select, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('frames', nargs='?', type=Path, help='an extxyz file; rattled silicon if not given')
    parser.add_argument('-n', '--select', type=int, default=20, help='how many frames to select (default: 20)')
    parser.add_argument('-o', '--output', type=Path, help='write the selected frames to an extxyz file')
    parser.add_argument('-d', '--descriptor', choices=['soap', 'ace', 'mace'], default='soap')
    parser.add_argument('--potential', type=Path, help='a MACE .model file, for the descriptor mace')
    parser.add_argument('--clustering', choices=['kmeans', 'kmedoids'], default='kmeans')
    parser.add_argument('--random-seed', type=int, default=0)
    chosen = parser.parse_args(arguments)

    frames = read_extxyz(chosen.frames) if chosen.frames else rattled_silicon()
    rows = describe(frames, descriptor_parameters(chosen.descriptor), chosen.potential)
    sampler = DirectSampler(chosen.select, chosen.clustering, random_state=chosen.random_seed).fit(rows)

    for name, value in sampler.report_.items():
        print(f'{name:<28}{value:.4g}' if isinstance(value, float) else f'{name:<28}{value}')
    print('selected frames             ', *sampler.selected_idx_)
    if chosen.output:
        write_extxyz(chosen.output, [frames[index] for index in sampler.selected_idx_])
    return sampler


if __name__ == '__main__':
    main()
