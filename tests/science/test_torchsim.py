"""The batched engine: each replica moves as if it were alone, and a batch survives its members."""

import logging
import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from batch_cases import (
    WIDE,
    Faulty,
    Kept,
    Limited,
    argon,
    batch_of,
    break_first,
    deviation,
    ends,
    named,
    parameters,
    run,
    silicon,
    soft_model,
)

from aiida_mlip_autopipe.science.dynamics.batch.engine import available, run_batch
from aiida_mlip_autopipe.science.dynamics.batch.guards import before_forces
from aiida_mlip_autopipe.science.dynamics.batch.random import VELOCITIES, philox, standard_normal
from aiida_mlip_autopipe.science.dynamics.batch.run import BatchRun
from aiida_mlip_autopipe.science.dynamics.batch.state import Slot
from aiida_mlip_autopipe.science.dynamics.recorder import Record
from aiida_mlip_autopipe.science.dynamics.replicas import ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.potential import PotentialError
from aiida_mlip_autopipe.science.potential.batch import (
    evaluate,
    faster_if_equal,
    fastest_model,
    load_batch_model,
    neighbours,
)
from aiida_mlip_autopipe.science.potential.load import load_calculator
from tests.support.potentials import tiny_potential as make_potential

# ------------------------------------------------------------------------------------------------------------- numbers


def words(*values):
    return tuple(torch.tensor([value]) for value in values)


@pytest.mark.parametrize(
    ('counter', 'key', 'expected'),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_random_bits_are_those_published_for_philox(counter, key, expected):
    assert tuple(int(word) for word in philox(words(*counter), words(*key))) == expected


def test_normal_numbers_are_normal_and_independent():
    index = torch.arange(50_000)
    numbers = standard_normal(torch.full_like(index, 7), VELOCITIES, torch.full_like(index, 3), index).numpy()
    assert np.abs(numbers.mean(axis=0)).max() < 0.02
    assert np.abs(numbers.std(axis=0) - 1).max() < 0.02
    assert np.abs((numbers**4).mean(axis=0) - 3).max() < 0.15
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.02
    neighbour = standard_normal(torch.full_like(index, 8), VELOCITIES, torch.full_like(index, 3), index).numpy()
    assert np.abs(np.corrcoef(numbers[:, 0], neighbour[:, 0])[0, 1]) < 0.02


# --------------------------------------------------------------------------------------------------------------- batch


def test_leaving_and_joining_keep_each_replica_whole(tmp_path):
    settings = parameters(guards={'max_bond_stretch': 1.5})
    batch = batch_of(settings, [silicon(), silicon(cubic=False), silicon()], tmp_path)
    batch.positions = torch.randn(18, 3, dtype=torch.float64)
    some = batch.select(np.array([True, False, True])).join(batch.select(np.array([False, True, False])))
    assert [len(slot.recorder.atoms) for slot in some.slots] == [8, 8, 2]
    assert some.owner.tolist() == [0] * 8 + [1] * 8 + [2] * 2
    assert torch.equal(some.positions, batch.positions[[*range(8), *range(10, 18), 8, 9]])
    bonds = [batch.owner[batch.bond_first].bincount().tolist(), some.owner[some.bond_first].bincount().tolist()]
    assert bonds == [[16, 4, 16], [16, 16, 4]]
    for one in (batch, some):
        assert torch.equal(one.owner[one.bond_first], one.owner[one.bond_second])
    vectors = [b.positions[b.bond_second] - b.positions[b.bond_first] for b in (batch, some)]
    assert torch.equal(vectors[0][-16:], vectors[1][16:32])


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-10), ('float32', 2e-5)])
def test_forces_are_those_of_the_engine_ase(dtype, tolerance, tiny_potential, tmp_path):
    slab = fcc100('Al', (1, 1, 2), a=4.5)
    slab.numbers[:] = 14
    seeds = {
        'bulk': [silicon(), silicon(cubic=False)],
        'slab': [named(slab)],
        'molecule': [named(Atoms('Si3', positions=[[0, 0, 0], [2.3, 0, 0], [0, 2.5, 40]]))],
    }
    settings = parameters(dtype=dtype)
    model, calculator = load_batch_model(tiny_potential, settings, 'cpu'), load_calculator(tiny_potential, dtype, 'cpu')
    for atoms in seeds.values():
        for structure in atoms:
            structure.rattle(0.1, seed=1)
            structure.positions += structure.cell.sum(axis=0) * 3
        batch = batch_of(settings, atoms, tmp_path)
        output = evaluate(model, batch)
        expected = []
        for structure in atoms:
            calculator.calculate(structure)
            expected.append((calculator.results['energy'], calculator.results['forces']))
        assert np.abs(output['forces'].numpy() - np.concatenate([forces for _, forces in expected])).max() < tolerance
        assert output['energy'].tolist() == pytest.approx([energy for energy, _ in expected], abs=tolerance)


def test_neighbours_are_found_where_the_fast_list_is_full():
    positions = torch.rand(60, 3, dtype=torch.float64) * 2
    cell = torch.eye(3, dtype=torch.float64)[None] * 20
    pairs, systems, shifts = neighbours(positions, cell, torch.ones(1, 3) > 0, 4.0, torch.zeros(60, dtype=torch.long))
    assert pairs.shape == (2, 60 * 59) and not systems.any() and not shifts.any()


# --------------------------------------------------------------------------------------- alone, together, again, later


@pytest.mark.parametrize('ensemble', ['nvt', 'npt'])
def test_a_replica_moves_alone_as_in_a_batch_of_other_sizes(ensemble, tiny_potential, tmp_path):
    settings = parameters(ensemble=ensemble, dtype='float64', temperatures_K=[600], equilibration_steps=5)
    seeds = [silicon(), silicon(cubic=False), named(silicon() * (2, 1, 1))]
    model = load_batch_model(tiny_potential, settings, 'cpu')
    together, _ = run(tmp_path / 'together', seeds, settings, model)
    plan = ReplicaPlan(seeds, settings)
    for replica in plan.replicas:
        alone, _ = run(tmp_path / 'alone', seeds, settings, model, replicas=[replica])
        assert deviation(alone[0].kept, together[replica.index].kept) < 1e-9
    start = plan.atoms(plan.replicas[0]).positions
    assert np.abs(together[0].kept[-1][1] - start).max() > 0.05


@pytest.mark.parametrize('ensemble', ['nvt', 'npt', 'nve'])
def test_the_same_run_gives_the_same_bits(ensemble, tiny_potential, tmp_path):
    settings = parameters(ensemble=ensemble, n_steps=20, temperatures_K=[300, 600])
    model = load_batch_model(tiny_potential, settings, 'cpu')
    first, _ = run(tmp_path / 'first', [silicon()], settings, model)
    again, _ = run(tmp_path / 'again', [silicon()], settings, model)
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one.kept, other.kept, strict=True):
            assert a[1].tobytes() == b[1].tobytes() and a[2].tobytes() == b[2].tobytes() and a[3:6] == b[3:6]


def test_replicas_that_wait_enter_as_others_leave(tmp_path):
    settings = parameters(n_steps=20, temperatures_K=[50, 100])
    seeds = [argon(), argon(n=2), argon(5.8), argon(5.9)]
    everybody, whole = run(tmp_path / 'whole', seeds, settings)
    model = Faulty(soft_model(), break_first('forces', math.nan))  # the place of a replica is free in the middle
    few, small = run(tmp_path / 'small', seeds, settings, model, room=40)
    assert whole.facts()['largest_batch'] == 8 and small.facts()['largest_batch'] == 4
    broken, *others = sorted(few, key=lambda recorder: len(recorder.kept))
    assert len(broken.atoms) == 32 and not broken.kept
    assert ends(tmp_path / 'small', others) == [('completed', 20, None)] * 7
    for recorder in others:
        assert deviation(recorder.kept, everybody[recorder.replica.index].kept) < 1e-9


def test_structures_periodic_in_other_directions_share_no_batch(tiny_potential, tmp_path):
    cluster = named(Atoms('Si4', positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0], [0, 0, 2.4]]))
    settings = parameters(n_steps=10)
    model = load_batch_model(tiny_potential, settings, 'cpu')
    recorders, batch = run(tmp_path, [cluster, silicon(), cluster], settings, model)
    assert ends(tmp_path, recorders) == [('completed', 10, None)] * 3
    assert batch.facts()['largest_batch'] == 2
    assert not recorders[0].kept[-1][2].any()


@pytest.mark.parametrize('ensemble', ['nvt', 'npt'])
def test_a_stopped_run_goes_on_bit_for_bit(ensemble, tiny_potential, tmp_path):
    settings = parameters(
        ensemble=ensemble, temperatures_K=[300, (300, 900)], n_steps=30, equilibration_steps=10,
        checkpoint_interval_s=1e-3,
    )  # fmt: skip
    model, seeds = load_batch_model(tiny_potential, settings, 'cpu'), [silicon()]
    whole, _ = run(tmp_path / 'whole', seeds, settings, model)
    parts = {0: [], 1: []}
    for stops_at in (4, 21, 100):
        stop = Stop()

        def change(output, state, n_calls, stop=stop, last=stops_at):
            if n_calls == last:
                stop.request()
            return output

        recorders, _ = run(tmp_path / 'parts', seeds, settings, Faulty(model, change), stop=stop)
        for recorder in recorders:
            parts[recorder.replica.index] += recorder.kept
    assert ends(tmp_path / 'parts', recorders) == [('completed', 30, None)] * 2
    for recorder in whole:
        for a, b in zip(recorder.kept, parts[recorder.replica.index], strict=True):
            assert a[0] == b[0] and a[1].tobytes() == b[1].tobytes() and a[3:6] == b[3:6]


def test_a_stop_leaves_checkpoints_of_what_was_begun(tmp_path):
    stop, told = Stop(), []
    settings = parameters(n_steps=40)

    def change(output, state, n_calls):
        if n_calls == 12:
            stop.request()
        return output

    model = Faulty(soft_model(), change)
    run(tmp_path, [argon()] * 3, settings, model, room=8, stop=stop, on_end=told.append)
    records = [Record.read(tmp_path, index) for index in range(3)]
    assert [record and record.facts['ended'] for record in records] == ['interrupted', 'interrupted', None]
    assert [record.facts['step'] for record in records[:2]] == [11, 11]
    assert [result['ended'] for result in told] == ['interrupted'] * 2


# -------------------------------------------------------------------------------------------------------------- guards


INJECTED = {
    'finite_forces': ({}, ('forces', math.nan), 2),
    'max_temperature_K': ({}, ('forces', 40.0), 2),
    'max_move_A': ({'guards': {**WIDE, 'max_temperature_factor': 1e9}}, ('forces', 1e5), 3),
    'energy_window_eV': ({'guards': {'energy_window_eV': 2.0}}, ('energy', 100.0), 2),
}


@pytest.mark.parametrize('guard', INJECTED)
def test_a_guard_ends_one_replica_alone(guard, tmp_path):
    settings, (name, value), step = INJECTED[guard]
    settings = parameters(**({'guards': WIDE} | settings), sample_interval=1, n_steps=6)
    if guard == 'energy_window_eV':
        settings = settings.model_copy(update={'sample_interval': 2})
    model = Faulty(soft_model(compute_stress=False), break_first(name, value))
    recorders, _ = run(tmp_path, [argon(), argon()], settings, model)
    assert ends(tmp_path, recorders) == [('guard', step, guard), ('completed', 6, None)]
    assert len(recorders[1].kept) == 6 // settings.sample_interval
    undisturbed, _ = run(tmp_path / 'undisturbed', [argon(), argon()], settings, soft_model(compute_stress=False))
    assert deviation(recorders[1].kept, undisturbed[1].kept) < 1e-9


def test_positions_and_cells_must_be_finite_before_a_call(tmp_path):
    settings = parameters()
    batch = batch_of(settings, [argon()] * 3, tmp_path)
    assert not before_forces(batch, batch.positions, settings.guards)
    previous = batch.positions.clone()
    batch.positions[6, 1], batch.cell[2, 0, 0] = math.inf, math.nan
    tripped = before_forces(batch, previous, settings.guards)
    assert {number: guard.name for number, guard in tripped.items()} == dict.fromkeys((1, 2), 'finite_geometry')
    assert tripped[1].record(7) == {'name': 'finite_geometry', 'step': 7, 'value': None, 'bound': 0.0}


def test_guards_of_the_start_and_of_the_cell(tmp_path):
    clash = named(Atoms('Ar2', positions=[[0, 0, 0], [1.0, 0, 0]], cell=[9, 9, 9], pbc=True))
    images = named(Atoms('Ar', cell=[1.1, 9, 9], pbc=True))
    nowhere = named(Atoms('Ar2', positions=[[0, 0, 0], [math.nan, 0, 0]], cell=[9, 9, 9], pbc=True))
    recorders, _ = run(tmp_path / 'start', [clash, images, nowhere, argon()], parameters(n_steps=5))
    assert ends(tmp_path / 'start', recorders) == [
        ('guard', 0, 'min_distance_factor'),
        ('guard', 0, 'min_distance_factor'),
        ('guard', 0, 'finite_geometry'),
        ('completed', 5, None),
    ]
    squeezed = parameters(
        ensemble='npt', pressures_GPa=[-40.0, 1.0, 100.0], barostat_time_fs=20, n_steps=40,
        guards={'max_temperature_factor': 1e6, 'energy_window_eV': 1e3},
    )  # fmt: skip
    recorders, _ = run(tmp_path / 'cell', [argon()], squeezed)
    assert [name for _, _, name in ends(tmp_path / 'cell', recorders)] == ['max_volume_ratio', None, 'min_volume_ratio']


def test_a_molecule_that_must_stay_whole_ends_when_it_breaks(tmp_path):
    settings = parameters(
        temperatures_K=[5000], n_steps=100, timestep_fs=0.5,
        guards={**WIDE, 'max_bond_stretch': 1.8, 'max_temperature_factor': 1e6},
    )  # fmt: skip
    run(tmp_path, [named(molecule('H2O'))], settings, soft_model(compute_stress=False))
    guard = Record.read(tmp_path, 0).facts['guard']
    assert guard['name'] == 'max_bond_stretch' and guard['value'] > guard['bound'] == 1.8
    settings = parameters(
        temperatures_K=[5000], n_steps=100, timestep_fs=0.5, guards={**WIDE, 'max_temperature_factor': 1e6}
    )
    recorders, _ = run(tmp_path / 'free', [named(molecule('H2O'))], settings, soft_model(compute_stress=False))
    assert ends(tmp_path / 'free', recorders) == [('completed', 100, None)]


def test_a_replica_that_shows_nothing_new_makes_room(tmp_path):
    settings = parameters(
        temperatures_K=[1.0, 300.0], n_steps=20, sample_interval=1, timestep_fs=5.0,
        early_stop={'min_novelty': 0.002, 'chunk_frames': 5, 'patience': 2},
    )  # fmt: skip
    recorders, _ = run(tmp_path, [argon()], settings)
    assert ends(tmp_path, recorders) == [('nothing_new', 10, None), ('completed', 20, None)]


# -------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize('ensemble', ['nvt', 'npt'])
def test_injected_out_of_memory_halves_the_batch_and_goes_on(ensemble, tmp_path):
    settings = parameters(ensemble=ensemble, n_steps=20, temperatures_K=[50, 100, 150, 200])
    seeds = [argon(), argon(5.8)]
    free, _ = run(tmp_path / 'free', seeds, settings)
    model, told = Limited(soft_model(), 1000), []
    plan = ReplicaPlan(seeds, settings)
    recorders = [Kept(plan, replica, tmp_path / 'tight') for replica in plan.replicas]
    recorders[0].on_step = lambda step: setattr(model, 'limit', 12)  # in the middle of the run
    batch = BatchRun(model, [Slot(recorder, 0) for recorder in recorders], settings, room=1000, on_end=told.append)
    batch.run()
    assert model.n_errors == 2 and batch.facts()['batch_halvings'] == 2  # 32 atoms, 16 atoms, then 8
    assert batch.facts()['batch_atoms'] == 8
    assert [result['ended'] for result in told] == ['completed'] * 8
    for one, other in zip(free, recorders, strict=True):
        assert deviation(one.kept, other.kept) < 1e-9


def test_injected_out_of_memory_at_the_start_and_with_one_replica(tmp_path):
    settings = parameters(n_steps=10)
    recorders, batch = run(tmp_path / 'start', [argon()] * 5, settings, Limited(soft_model(), 4))
    assert ends(tmp_path / 'start', recorders) == [('completed', 10, None)] * 5
    assert batch.facts()['batch_halvings'] == 2
    with pytest.raises(MemoryError, match=r'1 replicas do not fit .* replica 0 with 32 atoms'):
        run(tmp_path / 'large', [argon(n=2), argon()], settings, Limited(soft_model(), 20))
    assert Record.read(tmp_path / 'large', 0) is None
    assert Record.read(tmp_path / 'large', 1).facts['ended'] == 'completed'


def test_a_replica_that_no_longer_fits_leaves_a_checkpoint(tmp_path):
    settings, model = parameters(n_steps=20), Limited(soft_model(), 100)
    plan = ReplicaPlan([argon()], settings)
    recorder = Kept(plan, plan.replicas[0], tmp_path, on_step=lambda step: setattr(model, 'limit', 0))
    with pytest.raises(MemoryError):
        BatchRun(model, [Slot(recorder, 0)], settings, room=100).run()
    facts = Record.read(tmp_path, 0).facts
    assert (facts['ended'], facts['step']) == ('interrupted', 5) and sum(p['n_frames'] for p in facts['parts']) == 1
    (later,), _ = run(tmp_path, [argon()], settings)
    (whole,), _ = run(tmp_path / 'whole', [argon()], settings)
    assert deviation(later.kept, whole.kept[1:]) < 1e-9


# ------------------------------------------------------------------------------------------------------ with potentials


def run_files(folder, potential, seeds, settings, committee=(), **kwargs):
    plan = ReplicaPlan(seeds, settings)
    recorders = [Kept(plan, replica, folder) for replica in plan.replicas]
    facts = run_batch(
        iter(recorders), potential=potential, committee=committee, parameters=settings, device='cpu', **kwargs
    )
    return recorders, facts


def test_a_committee_disagrees_by_the_definition(tiny_potential, tmp_path):
    others = [make_potential(tmp_path, seed=seed) for seed in (1, 2)]
    settings = parameters(n_steps=10, dtype='float64', max_batch_atoms=20)
    recorders, facts = run_files(tmp_path, tiny_potential, [silicon()] * 5, settings, others, batch_divisor=2)
    assert facts['batch_atoms'] == 10 and facts['largest_batch'] == 1 and facts['device'] == 'cpu'
    assert facts['parity_eV_A'] is None and not facts['compile'] and not facts['cuequivariance']
    calculators = [load_calculator(path, 'float64', 'cpu') for path in (tiny_potential, *others)]
    for recorder in recorders[::2]:
        _, positions, cell, energy, _, max_force, disagreement = recorder.kept[-1]
        forces = []
        for calculator in calculators:
            calculator.calculate(Atoms('Si8', positions=positions, cell=cell, pbc=True))
            forces.append(calculator.results['forces'])
            if calculator is calculators[0]:
                assert energy == pytest.approx(calculator.results['energy'], abs=1e-9)
        spread = np.linalg.norm(forces - np.mean(forces, axis=0), axis=2)
        assert disagreement == pytest.approx(np.sqrt((spread**2).mean(axis=0)).max(), rel=1e-6)
        assert max_force == pytest.approx(np.linalg.norm(forces[0], axis=1).max(), rel=1e-6)


def test_what_cannot_run_is_named(tiny_potential, tmp_path):
    assert available() is None
    carbon = named(bulk('C', 'diamond', a=3.6))
    with pytest.raises(PotentialError, match='knows Si, but the structures hold C'):
        run_files(tmp_path, tiny_potential, [carbon], parameters())
    with pytest.raises(ValueError, match='cuequivariance-torch is not installed here'):
        run_files(tmp_path, tiny_potential, [silicon()], parameters(cuequivariance=True))
    with pytest.raises(ValueError, match='no replica to run'):
        run_batch([], potential=tiny_potential, parameters=parameters(), device='cpu')


def test_a_faster_variant_is_used_only_if_its_forces_are_equal(tiny_potential, tmp_path, caplog):
    settings = parameters()
    batch = batch_of(settings, [silicon()], tmp_path)
    plain, facts = fastest_model(tiny_potential, settings, 'cpu', batch)
    assert facts == {'cuequivariance': False, 'compile': False, 'parity_eV_A': None}

    def shifted(by):
        return lambda: Faulty(plain, lambda output, state, n: output | {'forces': output['forces'] + by})

    def broken():
        raise RuntimeError('no kernel for this')

    with caplog.at_level(logging.WARNING):
        fast, parity = faster_if_equal(plain, shifted(5e-5), batch, 'compile')
        assert fast is not None and parity == pytest.approx(5e-5, rel=0.05) and not caplog.messages
        for by in (2e-4, math.nan):
            assert faster_if_equal(plain, shifted(by), batch, 'compile')[0] is None
        assert faster_if_equal(plain, broken, batch, 'compile') == (None, None)
    assert 'compile is switched off: the forces of the first frame differ by 2.0e-04' in caplog.messages[0]
    assert 'no kernel for this' in caplog.messages[2]
