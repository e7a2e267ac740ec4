"""Guards: each fault is found, before it costs time or yields nonsense, and ends its replica alone."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import find_mic

from aiida_mlip_autopipe.science.dynamics import ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.ase.trajectory import run_dynamics
from aiida_mlip_autopipe.science.dynamics.guards import GuardedCalculator, Guards, GuardTripped, seeds_own_energy
from aiida_mlip_autopipe.science.dynamics.recorder import Record, Recorder
from aiida_mlip_autopipe.science.dynamics.recovery import describe_frames
from aiida_mlip_autopipe.science.dynamics.run import _why_no_frames
from aiida_mlip_autopipe.science.frames import iter_chunks
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, GuardParameters
from tests.support.pair_crystal import PairCrystal, argon
from tests.support.trajectories import few_steps, run_one

INTERVAL = 2
SETTINGS = {'temperatures_K': [25], 'n_steps': 60, 'sample_interval': INTERVAL, 'timestep_fs': 8.0,
            'barostat_time_fs': 2000.0, 'friction_per_fs': 0.01}  # fmt: skip


class Faulty(Calculator):
    """A potential that works until a call: what it says then is spoilt."""

    implemented_properties = ['energy', 'forces', 'stress']

    def __init__(self, inner, spoil, at_call):
        super().__init__()
        self._inner, self._spoil, self._at_call, self.n_calls = inner, spoil, at_call, 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Compute everything, and spoil it if its time has come."""
        self.n_calls += 1
        self._inner.calculate(atoms, properties, system_changes)
        self.results = {name: np.array(self._inner.results[name]) for name in self.implemented_properties}
        if self.n_calls == self._at_call:
            self._spoil(self.results)


def setting(name, value, where=...):
    """Return a fault: one result has another value."""
    return lambda results: results[name].__setitem__(where, value)


def potassium(rattle_A=0.0):
    """Return atoms of the weight of argon that count as bonded to their neighbours."""
    atoms = argon()
    atoms.numbers[:] = 19
    atoms.rattle(rattle_A, seed=1)
    return atoms


CALL = 31
"""At the end of step 30, the first call being that of the start."""

FAULTS = {
    'forces not finite': ('finite_forces', 30, setting('forces', np.nan, (3, 1)), {}),
    'energy not finite': ('finite_forces', 30, setting('energy', np.inf), {}),
    'stress not finite': ('finite_forces', 30, setting('stress', np.nan, 2), {'ensemble': 'npt'}),
    'cell not finite': ('finite_geometry', 31, setting('stress', 1e300), {'ensemble': 'npt'}),
    'a force too large': ('max_temperature_K', 30, setting('forces', 20.0, (3, 1)), {}),
    'an atom flung away': ('max_move_A', 31, setting('forces', 1e5, (3, 1)),
                           {'guards': {'max_temperature_factor': 1e30}}),
    'energy too high': ('energy_window_eV', 30, setting('energy', 50.0), {}),
    'energy too low': ('energy_window_eV', 30, setting('energy', -50.0), {}),
}  # fmt: skip


@pytest.mark.parametrize('n_drop', [0, 3])
@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_of_the_potential_ends_the_replica_at_once(fault, n_drop, tmp_path):
    name, step, spoil, changes = FAULTS[fault]
    parameters = with_guards(changes, n_drop=n_drop)
    calculator = Faulty(PairCrystal(argon()), spoil, CALL)
    ended, frames = run_one(argon(), calculator, parameters, tmp_path)
    check_end(ended, frames, tmp_path, name, n_drop)
    assert ended['guard']['step'] == step and calculator.n_calls == CALL


def with_guards(changes, **guards):
    """Return parameters with some changed, and some guards."""
    guards |= changes.get('guards', {})
    return DynamicsParameters(**(SETTINGS | changes | {'guards': GuardParameters(**guards)}))


def check_end(ended, frames, folder, name, n_drop):
    """Check that a guard ended the replica, that manifest and checkpoint say so, and which frames are left."""
    guard = ended['guard']
    assert ended['ended'] == 'guard' and guard['name'] == name
    replica = json.loads((folder / 'manifest.json').read_text())['replicas'][0]
    assert replica['guard'] == guard and replica['ended'] == 'guard'
    assert Record.read(folder, 0).facts['guard'] == guard
    written = (guard['step'] - 1) // INTERVAL
    assert replica['n_frames'] == ended['n_frames'] == written - n_drop > 0
    assert frames.steps.tolist() == [INTERVAL * (number + 1) for number in range(written - n_drop)]
    assert np.isfinite(frames.positions).all() and np.isfinite(frames.energies).all()
    if name in ('finite_forces', 'finite_geometry'):
        assert guard['value'] is None
    elif name.startswith('min'):
        assert guard['value'] < guard['bound']
    else:
        assert abs(guard['value']) > guard['bound']


DRIFTS = {
    'compressed': ('min_volume_ratio', {'min_volume_ratio': 0.92}, {'ensemble': 'npt', 'pressures_GPa': [2.0]}),
    'blown up': ('max_volume_ratio', {'max_volume_ratio': 1.1}, {'ensemble': 'npt', 'pressures_GPa': [-2.0]}),
    'too close': ('min_distance_factor', {'min_distance_factor': 0.88, 'check_interval': 1},
                  {'temperatures_K': [60]}),
    'torn apart': ('max_bond_stretch', {'max_bond_stretch': 1.02, 'check_interval': 1}, {'temperatures_K': [60]}),
    'hot': ('max_temperature_K', {'max_temperature_factor': 1.8}, {'temperatures_K': [10]}, 0.2),
}  # fmt: skip
"""Replicas that leave physics by themselves."""


@pytest.mark.parametrize('drift', DRIFTS)
def test_a_replica_that_leaves_physics_is_ended_and_its_last_frames_are_dropped(drift, tmp_path):
    name, guards, changes, *rattle_A = DRIFTS[drift]
    parameters = with_guards(changes, n_drop=1, **guards)
    ended, frames = run_one(potassium(*rattle_A), PairCrystal(potassium()), parameters, tmp_path)
    check_end(ended, frames, tmp_path, name, n_drop=1)
    if name in guards:
        assert ended['guard']['bound'] == guards[name]
        assert ended['guard']['value'] == pytest.approx(guards[name], rel=0.1)


def test_positions_that_are_not_finite_reach_no_force_call(tmp_path):
    calculator = Faulty(PairCrystal(argon()), setting('forces', 1e308), 1)
    ended, frames = run_one(argon(), calculator, with_guards({}), tmp_path)
    assert ended['guard'] == {'name': 'finite_geometry', 'step': 1, 'value': None, 'bound': 0.0}
    assert frames is None and calculator.n_calls == 1


def test_the_other_replicas_go_on(tmp_path):
    atoms = argon()
    atoms.info['frame_id'] = 'seed-00000001'
    parameters = with_guards({'temperatures_K': [20, 25, 30]})
    plan = ReplicaPlan([atoms], parameters)
    calculator = Faulty(PairCrystal(atoms), setting('forces', np.nan), 61 + CALL)  # they share it, as in a process
    for replica in plan.replicas:
        run_dynamics(Recorder(plan, replica, tmp_path, 'ase'), calculator, parameters)
    manifest = describe_frames(plan, plan.replicas, tmp_path, 'ase')
    assert manifest['complete']
    assert [replica['ended'] for replica in manifest['replicas']] == ['completed', 'guard', 'completed']
    assert [replica['n_frames'] for replica in manifest['replicas']] == [30, 12, 30]
    assert [shard['replica'] for shard in manifest['shards']] == [0, 1, 2]


def test_the_energy_is_compared_with_that_of_the_start_also_after_a_checkpoint(tmp_path):
    class Once:
        asked = 0

        def now(self):
            self.asked += 1
            return self.asked == 20

    def shifted(results):
        results['energy'] += 50.0

    parameters = with_guards({})
    ended, _ = run_one(argon(), PairCrystal(argon()), parameters, tmp_path, Once())
    assert ended['ended'] == 'interrupted'
    calculator = Faulty(PairCrystal(argon()), shifted, 3)  # before the first look after the checkpoint
    ended, _ = run_one(argon(), calculator, parameters, tmp_path)
    assert (ended['guard']['name'], ended['guard']['step']) == ('energy_window_eV', 22)
    assert sum(len(chunk) for chunk in iter_chunks([tmp_path])) == 10 - 2


# ----------------------------------------------------------------------------------------------------------- molecules


def nitrogen():
    """Return a molecule that lies across a face of its cell."""
    return Atoms('N2', positions=[[0.3, 2, 2], [7.2, 2, 2]], cell=[8, 8, 8], pbc=True)


class NitrogenBond(Calculator):
    """Morse's potential between two atoms, the nearest images of each other."""

    implemented_properties = ['energy', 'forces', 'stress']
    depth_eV, steepness, length_A = 2.0, 3.6, 1.1

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Compute everything; no test needs a stress."""
        vector, distance = find_mic(atoms.positions[1] - atoms.positions[0], atoms.cell, atoms.pbc)
        decay = np.exp(-self.steepness * (distance - self.length_A))
        force = 2 * self.depth_eV * self.steepness * decay * (1 - decay) * vector / distance
        energy = self.depth_eV * (1 - decay) ** 2
        self.results = {'energy': energy, 'forces': np.array([force, -force]), 'stress': np.zeros(6)}


def molecule_parameters(n_steps, **kwargs):
    """Return parameters for a molecule that must stay whole."""
    return few_steps(n_steps=n_steps, sample_interval=INTERVAL, temperatures_K=[300], timestep_fs=1.0,
                     guards=GuardParameters(check_interval=1, max_temperature_factor=1e4, **kwargs))  # fmt: skip


def test_a_molecule_that_vibrates_and_turns_stays_whole(tmp_path):
    ended, frames = run_one(nitrogen(), NitrogenBond(), molecule_parameters(1000, max_bond_stretch=1.2), tmp_path)
    assert ended['ended'] == 'completed' and len(frames) == 500
    bonds = frames.positions[:, 1] - frames.positions[:, 0] - [8, 0, 0]
    lengths = np.linalg.norm(bonds, axis=1)
    assert np.ptp(lengths) > 0.1 and lengths.max() < 1.2 * 1.42  # it vibrates
    assert (bonds / lengths[:, None])[:, 0].max() > 0  # and has turned round


@pytest.mark.parametrize('forbidden', [True, False])
def test_a_molecule_that_breaks_ends_its_replica_where_that_is_forbidden(forbidden, tmp_path):
    calculator = Faulty(NitrogenBond(), setting('forces', [[90, 0, 0], [-90, 0, 0]]), CALL)
    parameters = molecule_parameters(100, n_drop=1, max_bond_stretch=1.5 if forbidden else None)
    ended, frames = run_one(nitrogen(), calculator, parameters, tmp_path)
    assert ended['ended'] == ('guard' if forbidden else 'completed')
    if forbidden:
        check_end(ended, frames, tmp_path, 'max_bond_stretch', n_drop=1)
        assert 30 < ended['guard']['step'] < 60
        assert ended['guard']['value'] == pytest.approx(1.5, rel=0.1)


# --------------------------------------------------------------------------------------------------------- one by one


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
    inner = PairCrystal(atoms)
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


def test_the_temperature_guard_allows_for_few_atoms():
    atoms = argon()
    guards = Guards(atoms, GuardParameters(max_temperature_factor=2), 100)
    bound = 200 * (1 + 5 / np.sqrt(24))
    for target, trips in ((0.9 * bound, False), (1.1 * bound, True), (np.nan, True)):
        momenta = np.zeros((8, 3))
        momenta[0, 0] = np.sqrt(target * units.kB * 21 * atoms.get_masses()[0])
        atoms.set_momenta(momenta)
        if trips:
            with pytest.raises(GuardTripped, match='max_temperature_K'):
                guards.after_step(atoms)
        else:
            guards.after_step(atoms)


def test_a_start_that_is_too_hot_by_itself_is_told_so_and_its_displacements_are_named(tmp_path):
    """Argon displaced by 0.4 Å, aimed at 2 K: what it releases is its own energy, and no lower target helps."""
    atoms = argon()
    atoms.rattle(0.4, seed=3)
    parameters = few_steps(temperatures_K=[2], n_steps=200, timestep_fs=8.0)
    end, _ = run_one(atoms, PairCrystal(argon()), parameters, tmp_path)
    guard = end['guard']
    assert guard['name'] == 'max_temperature_K' and guard['step'] <= 100 and guard['released_eV'] > 0
    told = seeds_own_energy(guard)
    assert 'meV per atom of its own potential energy' in told
    heated = 2 * guard['released_eV'] / (3 * units.kB)
    assert f'{heated:.0f} K' in told and heated > 0.5 * guard['bound']
    assert seeds_own_energy({**guard, 'step': 5000}) is None
    assert seeds_own_energy({**guard, 'released_eV': -0.1}) is None
    manifest = {'replicas': [{'guard': guard}]}
    assert 'generation.rattled.stdev_A' in _why_no_frames(manifest, None)
    assert 'lower the temperatures' not in _why_no_frames(manifest, None)
    later = {'replicas': [{'guard': guard}, {'guard': {**guard, 'step': 5000}}]}
    assert 'lower the temperatures' in _why_no_frames(later, None)


def test_distances_are_found_in_any_cell():
    for pbc, cell in ((True, [9, 9, 9]), (False, [9, 9, 9]), (False, None), ([True, True, False], [9, 9, 0])):
        atoms = Atoms('Ar2', positions=[[0.2, 1, 1], [0.2, 1, 3]], cell=cell, pbc=pbc)
        atoms.calc = NitrogenBond()
        guards = Guards(atoms, GuardParameters(energy_window_eV=1e9), 100)
        guards.structure(atoms)
        atoms.positions[1] = [0.2, 1, 2]
        with pytest.raises(GuardTripped, match='min_distance_factor') as caught:
            guards.structure(atoms)
        assert caught.value.value == pytest.approx(1 / 2.12)
    atoms.positions = [[0.2, 1, 1], [8.9, 1, 1]]  # 0.3 Å across the face
    with pytest.raises(GuardTripped, match='min_distance_factor') as caught:
        guards.structure(atoms)
    assert caught.value.value == pytest.approx(0.3 / 2.12)


def test_a_checked_geometry_is_not_computed_twice():
    atoms = argon()
    calculator = Faulty(PairCrystal(atoms), setting('energy', 0.0), 0)
    atoms.calc = GuardedCalculator(calculator, Guards(atoms, GuardParameters(), 100))
    for change, calls in (
        (lambda: None, 1),
        (lambda: atoms.get_stress(), 1),
        (lambda: atoms.positions.__iadd__(1e-12), 2),
        (lambda: atoms.set_cell(atoms.cell.array * (1 + 1e-12)), 3),
        (lambda: atoms.positions.__setitem__(0, atoms.positions[0].copy()), 3),
    ):
        change()
        atoms.get_forces()
        assert calculator.n_calls == calls
