"""What every ensemble must hold with each of its engines, whoever wrote it: each that is registered is asked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import units

from aiida_mlip_autopipe.science.dynamics.ase.trajectory import run_dynamics
from aiida_mlip_autopipe.science.dynamics.ensembles.base import Ensemble, ensemble_of
from aiida_mlip_autopipe.science.dynamics.guards import degrees_of_freedom
from aiida_mlip_autopipe.science.dynamics.recorder import Recorder
from aiida_mlip_autopipe.science.dynamics.recovery import describe_frames
from aiida_mlip_autopipe.science.dynamics.replicas import ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.run import choose_engine
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.registry import ENSEMBLES
from tests.support.conformance import check_references, check_sentence
from tests.support.pair_crystal import PairCrystal, PairCrystalModel, argon

IMPORTABLE = ['ase'] + (['torchsim'] if find_spec('torch_sim') else [])
CASES = [(name, engine) for name, one in ENSEMBLES.items() for engine in one.integrators if engine in IMPORTABLE]
PRESSURE_GPa = 0.05

each_case = pytest.mark.parametrize(('name', 'engine'), CASES, ids=map('-'.join, CASES))
each_ensemble = pytest.mark.parametrize('name', list(ENSEMBLES))


class Kept(Recorder):
    """A recorder that keeps the frames as they came, and the momenta of the checkpoints, one after each frame."""

    def __init__(self, *args):
        super().__init__(*args)
        self.kept, self.momenta = [], []

    def frame(self, step, positions, cell, energy, temperature, max_force, disagreement=np.nan):
        """Keep a frame."""
        self.kept.append((step, np.array(positions), np.array(cell), energy, temperature))
        return super().frame(step, positions, cell, energy, temperature, max_force, disagreement)

    def checkpoint(self, step, state):
        """Keep the momenta."""
        self.momenta.append(np.array(state['momenta']))
        super().checkpoint(step, state)


class StopAfter(Stop):
    """Stops at the n-th question."""

    def __init__(self, n):
        super().__init__()
        self.left = n

    def now(self):
        """Return whether it is time."""
        self.left -= 1
        return self.left <= 0


def few_steps(name, engine, **changes):
    defaults = {'n_steps': 60, 'sample_interval': 5, 'timestep_fs': 4.0, 'temperatures_K': [30.0], 'engine': engine,
                'equilibration_steps': 10, 'pressures_GPa': [PRESSURE_GPa], 'checkpoint_interval_s': 1e-9}  # fmt: skip
    return DynamicsParameters(ensemble=name, **(defaults | changes))


def run(folder, name, engine, stop=None, **changes):
    """Run a replica of eight atoms, or go on with it; return its recorder and how it ended."""
    atoms, parameters = argon(), few_steps(name, engine, **changes)
    atoms.info['frame_id'] = 'seed-00000001'
    plan = ReplicaPlan([atoms], parameters)
    recorder, ended = Kept(plan, plan.replicas[0], Path(folder), engine), []
    if engine == 'ase':
        ended.append(run_dynamics(recorder, PairCrystal(atoms), parameters, stop)['ended'])
    else:
        from aiida_mlip_autopipe.science.dynamics.batch.run import BatchRun
        from aiida_mlip_autopipe.science.dynamics.batch.state import Slot

        slot = Slot(recorder, -parameters.equilibration_steps)
        on_end = lambda result: ended.append(result['ended'])  # noqa: E731
        BatchRun(PairCrystalModel(atoms), [slot], parameters, room=1000, stop=stop, on_end=on_end).run()
    return recorder, ended[0]


@each_case
def test_it_moves_atoms_keeps_the_centre_at_rest_and_the_cell_unless_it_has_a_barostat(name, engine, tmp_path):
    recorder, ended = run(tmp_path, name, engine)
    assert ended == 'completed' and [frame[0] for frame in recorder.kept] == list(range(5, 61, 5))
    assert np.ptp([frame[1] for frame in recorder.kept], axis=0).max() > 1e-3
    assert np.abs(np.array(recorder.momenta).sum(axis=1)).max() < 1e-9
    cells = np.array([frame[2] for frame in recorder.kept])
    assert np.isfinite(cells).all() and (np.ptp(cells, axis=0).max() > 1e-6) == ENSEMBLES[name].controls_pressure


@each_case
def test_energy_is_conserved_without_a_thermostat_and_only_then(name, engine, tmp_path):
    recorder, _ = run(tmp_path, name, engine, n_steps=300, equilibration_steps=0, friction_per_fs=0.02)
    kinetic = np.array([frame[4] for frame in recorder.kept]) * units.kB * degrees_of_freedom(8) / 2
    total = kinetic + [frame[3] for frame in recorder.kept]
    assert (total.std() < 0.02 * kinetic.std()) == (not ENSEMBLES[name].controls_temperature)


@each_case
def test_the_same_seed_gives_the_same_bits_and_another_one_others(name, engine, tmp_path):
    one, same, other = (
        run(tmp_path / folder, name, engine, random_seed=seed)[0].kept
        for folder, seed in (('a', 1), ('b', 1), ('c', 2))
    )
    assert all(np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2]) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[-1][1], other[-1][1])


@pytest.mark.parametrize('temperature', [30.0, (20.0, 50.0)], ids=['constant', 'ramp'])
@each_case
def test_an_interrupted_replica_goes_on_bit_for_bit(name, engine, temperature, tmp_path):
    whole, _ = run(tmp_path / 'whole', name, engine, temperatures_K=[temperature])
    for n in (5, 33):  # in equilibration, and after it
        folder = tmp_path / str(n)
        first, ended = run(folder, name, engine, StopAfter(n), temperatures_K=[temperature])
        rest, _ = run(folder, name, engine, temperatures_K=[temperature])
        assert ended == 'interrupted' and len(first.kept) < len(whole.kept)
        for a, b in zip(whole.kept, first.kept + rest.kept, strict=True):
            assert a[0] == b[0] and np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2])


@each_case
def test_its_integrator_is_recorded_with_the_frames(name, engine, tmp_path):
    atoms = argon()
    atoms.info['frame_id'] = 'seed-00000001'
    plan = ReplicaPlan([atoms], few_steps(name, engine))
    recorder, _ = run(tmp_path, name, engine)
    recorder.close()
    manifest = describe_frames(plan, plan.replicas, tmp_path, engine)
    for entry in (*manifest['shards'], *manifest['replicas']):
        assert entry['ensemble'] == name and entry['integrator'] == ENSEMBLES[name].integrators[engine]


@each_ensemble
def test_it_says_which_replicas_it_allows(name):
    ensemble = ENSEMBLES[name]
    atoms = argon()
    atoms.info['frame_id'] = 'seed-00000001'
    pressures = {replica.pressure_GPa for replica in ReplicaPlan([atoms], few_steps(name, 'auto')).replicas}
    assert pressures == ({PRESSURE_GPa} if ensemble.controls_pressure else {None})
    assert ensemble.needs_stress or not ensemble.controls_pressure
    atoms.pbc = (True, True, False)
    if ensemble.needs_periodic_cell:
        with pytest.raises(ValueError, match=rf"does not fill a cell .*: ensemble '{name}' needs that; use '"):
            ReplicaPlan([atoms], few_steps(name, 'auto'))
    else:
        assert len(ReplicaPlan([atoms], few_steps(name, 'auto')).replicas) == 1


@each_ensemble
def test_it_says_what_it_does(name):
    ensemble = ensemble_of(few_steps(name, 'auto'))
    assert isinstance(ensemble, Ensemble) and ensemble.integrators and (type(ensemble).__doc__ or '').strip()
    for engine, integrator in ensemble.integrators.items():
        check_sentence(ensemble.sentence(engine))
        check_references(ensemble.references(engine))
        assert engine in ('ase', 'torchsim') and integrator == integrator.strip() != ''


def test_an_engine_without_an_integrator_for_the_ensemble_is_refused(monkeypatch):
    monkeypatch.setattr(ENSEMBLES['nve'], 'integrators', {'torchsim': 'velocity Verlet'})
    with pytest.raises(
        ValueError, match="'ase' has no integrator for ensemble 'nve'; use engine 'torchsim', or another"
    ):
        choose_engine(few_steps('nve', 'ase'), 'cpu')


def test_an_ensemble_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="Input should be 'npt', 'nve' or 'nvt'"):
        few_steps('npH', 'ase')
