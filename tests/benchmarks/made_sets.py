"""Labelled frames of further materials, made by classical potentials: to confirm what other sets have decided.

The groups are those of the sets of Zuo et al. (J. Phys. Chem. A 124, 731 (2020)): strained cells, dynamics at four
temperatures, the hottest of a liquid, dynamics with a vacancy, surfaces. Nickel and the alloy Pd-Au by effective
medium theory (K. W. Jacobsen, P. Stoltze and J. K. Nørskov, Surf. Sci. 366, 394 (1996)), silicon carbide by Tersoff's
potential (Phys. Rev. B 39, 5566 (1989)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from ase import Atoms, units
from ase.build import bulk, fcc100, fcc110, fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from .selection_sets import less_composition, species_of

__all__ = ['MADE', 'made']

#: Frames of each trajectory, steps of 2 fs between them.
N_FRAMES, N_STEPS = 20, 25

#: Of Si-C; two elements' parameters are mixed as the source says (chi = 0.9776).
SILICON = (1.8308e3, 4.7118e2, 2.4799, 1.7322, 1.1000e-6, 7.8734e-1, 1.0039e5, 1.6217e1, -5.9825e-1, 2.7, 3.0)
CARBON = (1.3936e3, 3.467e2, 3.4879, 2.2119, 1.5724e-7, 7.2751e-1, 3.8049e4, 4.384, -5.7058e-1, 1.8, 2.1)
CHI = 0.9776


def _tersoff() -> Calculator:
    """Return Tersoff's potential of silicon carbide: of a triplet, the bond order is that of its first atom."""

    def between(first: tuple[float, ...], second: tuple[float, ...], chi: float) -> list[float]:
        return [
            np.sqrt(first[0] * second[0]),
            chi * np.sqrt(first[1] * second[1]),
            (first[2] + second[2]) / 2,
            (first[3] + second[3]) / 2,
            np.sqrt(first[9] * second[9]),
            np.sqrt(first[10] * second[10]),
        ]

    elements = {'Si': SILICON, 'C': CARBON}
    parameters = {}
    for one, own in elements.items():
        for two, other in elements.items():
            for three, third in elements.items():
                a, b, lambda_1, lambda_2, *_ = between(own, other, 1.0 if one == two else CHI)
                *_, inner, outer = between(own, third, 1.0)
                parameters[one, two, three] = TersoffParameters(
                    m=3,
                    gamma=1.0,
                    lambda3=0.0,
                    c=own[6],
                    d=own[7],
                    h=own[8],
                    n=own[5],
                    beta=own[4],
                    lambda2=lambda_2,
                    B=b,
                    R=(inner + outer) / 2,
                    D=(outer - inner) / 2,
                    lambda1=lambda_1,
                    A=a,
                )
    return Tersoff(parameters)


def _labelled(atoms: Atoms, calculator: Calculator, group: str, description: str) -> Atoms:
    """Return a frame with its energy and forces, and where it belongs."""
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.calc = calculator
    energy, forces = frame.get_potential_energy(), frame.get_forces()
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    frame.info = {'group': group, 'description': description}
    return frame


def _dynamics(
    start: Atoms, calculator: Callable[[], Calculator], temperature: float, group: str, seed: int
) -> Iterator[Atoms]:
    """Yield frames of a trajectory, after as many steps as are between two of them."""
    atoms, generator = start.copy(), np.random.default_rng(seed)
    atoms.calc = calculator()
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=generator)
    run = Langevin(atoms, 2 * units.fs, temperature_K=temperature, friction=0.02, rng=generator)
    for _ in range(N_FRAMES):
        run.run(N_STEPS)
        yield _labelled(atoms, calculator(), group, f'{group}, {temperature:g} K')


def _made(
    cells: list[Atoms], surfaces: list[Atoms], calculator: Callable[[], Calculator], melting: float
) -> Iterator[Atoms]:
    """Yield the frames of a material of which some cells of the crystal and some slabs are given."""
    seeds = count()
    for cell in cells:
        generator = np.random.default_rng(next(seeds))
        for _ in range(2 * N_FRAMES // len(cells)):
            strained = cell.copy()
            change = np.triu(generator.uniform(-0.06, 0.06, (3, 3)))
            strained.set_cell(cell.cell @ (np.eye(3) + (change + change.T) / 2), scale_atoms=True)
            yield _labelled(strained, calculator(), 'Elastic', 'strained')
        for fraction in (0.2, 0.6, 1.0, 2.0):
            temperature = float(round(fraction * melting, -1))
            yield from _dynamics(cell, calculator, temperature, 'Dynamics', next(seeds))
    lacking = cells[0].copy()
    del lacking[0]
    for fraction in (0.2, 1.0):
        yield from _dynamics(lacking, calculator, float(round(fraction * melting, -1)), 'Vacancy', next(seeds))
    for slab in surfaces:
        generator = np.random.default_rng(next(seeds))
        for _ in range(N_FRAMES // len(surfaces)):
            moved = slab.copy()
            moved.positions += generator.normal(scale=0.05, size=moved.positions.shape)
            yield _labelled(moved, calculator(), 'Surface', 'slab')


def nickel() -> list[Atoms]:
    """Return frames of nickel, 31 to 36 atoms."""
    slabs = [fcc100('Ni', (2, 2, 8), vacuum=5), fcc110('Ni', (2, 2, 8), vacuum=5), fcc111('Ni', (2, 2, 8), vacuum=5)]
    for slab in slabs:
        slab.pbc = True
    return list(_made([bulk('Ni', cubic=True) * 2], slabs, EMT, 1728))


def palladium_gold() -> list[Atoms]:
    """Return frames of random Pd-Au, 32 atoms, three compositions."""
    cells = []
    for number, n_gold in enumerate((8, 16, 24)):
        cell = bulk('Pd', cubic=True, a=3.89 + 0.19 * n_gold / 32) * 2
        cell.symbols[np.random.default_rng(number).choice(32, n_gold, replace=False)] = 'Au'
        cells.append(cell)
    slab = cells[1].copy()
    slab.center(vacuum=5, axis=2)
    return list(_made(cells, [slab], EMT, 1500))


def silicon_carbide() -> list[Atoms]:
    """Return frames of silicon carbide, 63 and 64 atoms."""
    cell = bulk('SiC', 'zincblende', a=4.32, cubic=True) * 2
    slab = cell.copy()
    slab.center(vacuum=5, axis=2)
    return list(_made([cell], [slab], _tersoff, 3000))


MADE: dict[str, Callable[[], list[Atoms]]] = {'Ni': nickel, 'Pd-Au': palladium_gold, 'SiC': silicon_carbide}
"""Name of the material -> its frames."""


def made(name: str) -> list[Atoms]:
    """Return the frames of a material, with energies (eV, less what is linear in the composition) and forces (eV/Å)."""
    frames = MADE[name]()
    return frames if len(species_of(frames)) == 1 else less_composition(frames)
