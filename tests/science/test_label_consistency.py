"""Labels that disagree with each other: a cutoff that is too low shows in them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.units import GPa

from aiida_mlip_autopipe.science.evaluation.label_consistency import (
    LARGEST_MISMATCH_GPA,
    cutoff_warning,
    stress_mismatch,
)
from aiida_mlip_autopipe.science.evaluation.physics.volume_curve import birch_murnaghan, curve_doubts
from aiida_mlip_autopipe.science.generate.strained import random_strain

PULAY_GPA = 20.0


def labelled(atoms: Atoms, method: str, pulay_GPa: float = 0.0) -> Atoms:
    """Return a copy with the label of a pair potential, and a stress that is off by a pressure."""
    atoms = atoms.copy()
    atoms.calc = LennardJones(sigma=2.3, epsilon=0.5, rc=8.0, smooth=True)
    atoms.info.update(method=method, REF_energy=atoms.get_potential_energy())
    atoms.info['REF_stress'] = atoms.get_stress() + pulay_GPa * GPa * np.array([1, 1, 1, 0, 0, 0])
    atoms.calc = None
    return atoms


@pytest.fixture(scope='module')
def seeds() -> tuple[Atoms, list[Atoms]]:
    """Return a crystal, and copies with random strains of its cell."""
    crystal = bulk('Cu', 'fcc', a=3.6, cubic=True)
    rng = np.random.default_rng(3)
    return crystal, [random_strain(crystal, 0.03, rng) for _ in range(6)]


def test_consistent_labels_are_no_reason_for_a_warning(seeds):
    """The work of the stress along the strain is the difference of the energies, even in one as stiff as diamond."""
    crystal, strained = seeds
    frames = [labelled(crystal, 'pristine'), *(labelled(atoms, 'strained') for atoms in strained)]
    found = [stress_mismatch(frames[0], other) for other in frames[1:]]
    assert any(mismatch is not None for mismatch in found)
    assert max(mismatch for mismatch in found if mismatch is not None) < 0.5 * LARGEST_MISMATCH_GPA
    assert cutoff_warning(frames) is None


def test_a_stress_that_misses_the_energies_is_told_with_its_size(seeds):
    """As labels with too low a cutoff have it, where the stress is off by tens of GPa."""
    crystal, strained = seeds
    frames = [labelled(crystal, 'pristine', PULAY_GPA), *(labelled(atoms, 'strained', PULAY_GPA) for atoms in strained)]
    warning = cutoff_warning(frames)
    assert warning is not None and 'cutoff of the labels is too low' in warning
    assert float(warning.partition('disagree by ')[2].partition(' GPa')[0]) == pytest.approx(PULAY_GPA, abs=5)


def test_only_the_same_crystal_in_another_cell_is_compared(seeds):
    """Moved atoms, another number of them, a stress that is not known: nothing to say."""
    crystal, strained = seeds
    first, second = labelled(crystal, 'pristine'), labelled(strained[0], 'strained')
    moved, without = second.copy(), second.copy()
    moved.positions[0] += 0.1
    del without.info['REF_stress']
    assert stress_mismatch(first, moved) is None and stress_mismatch(first, without) is None
    assert stress_mismatch(first, first * (1, 1, 2)) is None and stress_mismatch(first, first) is None
    assert cutoff_warning([]) is None


def curve(derivative: float, pulay_GPa: float = 0.0, noise_eV: float = 0.0) -> tuple[np.ndarray, ...]:
    """Return volumes (Å³), energies (eV) and pressures (GPa) on an equation of state of third order, B = 400 GPa."""
    volumes, modulus = np.linspace(0.94, 1.06, 7) * 5.9, 400.0 * GPa
    x = (5.9 / volumes) ** (2 / 3)
    energies = 9 * 5.9 * modulus / 16 * ((x - 1) ** 3 * derivative + (x - 1) ** 2 * (6 - 4 * x))
    pressures = 1.5 * modulus * (x**3.5 - x**2.5) * (1 + 0.75 * (derivative - 4) * (x - 1))
    energies = energies + noise_eV * np.array([1, -1, 1, -1, 1, -1, 1])
    return volumes, energies, pressures / GPa + pulay_GPa


def test_a_sound_equation_of_state_is_not_doubted():
    """The curve of the test is that of its parameters, and pressure and slope agree."""
    volumes, energies, pressures = curve(4.0)
    assert birch_murnaghan(volumes, energies)[:3] == pytest.approx([5.9, 400 * GPa, 4.0], rel=0.01)
    assert curve_doubts(volumes, energies, pressures) == []
    assert curve_doubts(volumes[:4], energies[:4], pressures[:4]) == []


@pytest.mark.parametrize(
    ('strange', 'told'),
    [
        ({'derivative': 4.0, 'pulay_GPa': 30.0}, 'differ by 30 GPa'),
        ({'derivative': -4.3}, "B' of DFT is -4.3, outside of 2 to 8"),
        ({'derivative': 4.0, 'noise_eV': 0.02}, 'scatter by'),
    ],
)
def test_an_equation_of_state_of_poor_labels_is_doubted(strange, told):
    """Boron nitride at 30 Ry, where the family has 44, gave B' = -4.3 and a pressure 18 to 42 GPa off the slope."""
    assert any(told in doubt for doubt in curve_doubts(*curve(**strange)))
