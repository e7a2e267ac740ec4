"""Guards: each fault is found, before it costs time or yields nonsense."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.lj import LennardJones

from aiida_mlip_autopipe.science.dynamics.guards import GuardedCalculator, Guards, GuardTripped
from aiida_mlip_autopipe.science.parameters import GuardParameters


def argon():
    """Return a cell of argon."""
    return bulk('Ar', cubic=True, a=5.4)


@pytest.mark.parametrize(
    ('name', 'change'),
    [
        ('finite_geometry', lambda atoms: atoms.positions.__setitem__((0, 0), np.nan)),
        ('finite_geometry', lambda atoms: atoms.set_cell(np.full((3, 3), np.inf))),
        ('min_volume_ratio', lambda atoms: atoms.set_cell(atoms.cell.array * 0.5)),
        ('max_volume_ratio', lambda atoms: atoms.set_cell(atoms.cell.array * 1.5)),
        ('max_move_A', lambda atoms: atoms.positions.__setitem__((0, 0), 1e20)),
    ],
)
def test_what_a_force_call_cannot_survive_never_reaches_it(name, change):
    atoms = argon()
    inner = LennardJones(epsilon=0.01, sigma=3.4)
    atoms.calc = GuardedCalculator(inner, Guards(atoms, GuardParameters(), 100))
    atoms.get_forces()
    before = inner.results
    change(atoms)
    with pytest.raises(GuardTripped) as caught:
        atoms.get_forces()
    assert caught.value.name == name
    assert inner.results is before
    record = caught.value.record(7)
    assert record['step'] == 7 and (record['value'] is None) == (name == 'finite_geometry')


def test_temperature_and_energy_guards():
    atoms = argon()
    atoms.calc = LennardJones(epsilon=0.01, sigma=3.4)
    guards = Guards(atoms, GuardParameters(max_temperature_factor=2, energy_window_eV=1), 100)
    guards.structure(atoms)
    bound = 200 * (1 + 5 / np.sqrt(12))
    for target, trips in ((0.9 * bound, False), (1.1 * bound, True), (np.nan, True)):
        momenta = np.zeros((4, 3))
        momenta[0, 0] = np.sqrt(target * units.kB * 9 * atoms.get_masses()[0])
        atoms.set_momenta(momenta)
        if trips:
            with pytest.raises(GuardTripped, match='max_temperature_K'):
                guards.after_step(atoms)
        else:
            guards.after_step(atoms)
    atoms.positions[0] = atoms.positions[1] + [2.2, 0, 0]
    with pytest.raises(GuardTripped, match='energy_window_eV'):
        guards.structure(atoms)
