"""What a configuration would run: counts by hand, hours as count times speed, and budgets that end a run early."""

from __future__ import annotations

from typing import Any

import pytest
from ase import Atoms

from aiida_mlip_autopipe.config import ConfigExpander, Expansion
from aiida_mlip_autopipe.config.plan import Hours, Plan, Rate, Speeds, make_plan

INPUT: dict[str, Any] = {
    'system': {'prototype': 'diamond', 'composition': 'Si', 'relax': 'none'},
    'generation': {'target_atoms': 8, 'strained': {'n': 1}, 'rattled': {'n': 2}, 'n_test_seeds': 2},
    'exploration': {'temperatures_K': [300.0, 600.0], 'n_steps': 100, 'sample_interval': 20, 'n_to_select': 5},
    'training': {'committee_size': 2, 'n_steps': 40, 'batch_size': 5},
    'evaluation': {'n_test': 6},
    'loop': {'max_rounds': 3},
}
N_SEEDS, N_ATOMS = 4, 8
MEASURED = Speeds(
    dynamics=Rate(0.001, 0.003, 'steps'),
    training=Rate(0.1, 0.2, 'steps'),
    evaluation=Rate(9.0, 9.0, 'jobs'),
    label=lambda atoms: Rate(10.0 * len(atoms), 20.0 * len(atoms), f'{len(atoms)} atoms'),
)


def expand(**sections: Any) -> Expansion:
    """Return the expansion of the input, with some sections replaced."""
    return ConfigExpander({**INPUT, **sections}).expand()


def plan(speeds: Speeds | None = None, **sections: Any) -> Plan:
    """Return the plan of the input, with some sections replaced."""
    expansion = expand(**sections)
    return make_plan(expansion.configuration, expansion.sources, speeds)


def stages_of(found: Plan) -> dict[str, Any]:
    """Return the stages of a plan by their names."""
    return {stage.name: stage for stage in found.stages}


def test_the_stages_are_those_of_the_outline():
    """A bootstrapped run of one round has them all in the order in which they run."""
    names = [stage.name for stage in plan(loop={'max_rounds': 1, 'min_rounds': 1}).stages]
    before = ['generate_seeds', 'label_initial', 'train_bootstrap', 'explore_test', 'label_test', 'evaluate_surrogate']
    assert names == [*before, 'explore_r1', 'label_r1', 'evaluate_labels_r1', 'train_r1', 'evaluate_r1']


def test_a_relaxation_comes_first_and_is_counted():
    """Of each structure one; what it takes is told as a range of labels."""
    found = plan(MEASURED, system={'prototype': 'diamond', 'composition': 'Si'})
    first = found.stages[0]
    assert (first.name, first.relaxations, first.labels) == ('relax', 1, 0)
    assert (first.hours.least, first.hours.most) == pytest.approx((4 * 20 / 3600, 40 * 40 / 3600))
    assert first.basis.startswith('4 to 40 labels of each structure')
    assert found.totals()['labels'] == plan(MEASURED).totals()['labels']


def test_counts():
    """Each seed at each temperature; the test set has a hotter part, too; a committee is so many trainings."""
    stages = stages_of(found := plan())
    assert stages['generate_seeds'].seeds == N_SEEDS + 2
    assert stages['label_initial'].labels == 1 + N_SEEDS
    test, first = stages['explore_test'], stages['explore_r1']
    assert (test.replicas, test.md_steps, test.frames) == (2 * 3, 6 * 100, 6 * 5)
    assert (first.replicas, first.md_steps, first.frames) == (N_SEEDS * 2, 8 * 100, 8 * 5)
    assert (stages['label_test'].labels, stages['label_r3'].labels) == (6, 5)
    assert (stages['train_r1'].trainings, stages['train_r1'].training_steps) == (2, 80)
    totals = found.totals()
    assert found.n_rounds == 3 and not found.warnings
    assert totals['labels'] == 5 + 6 + 3 * 5
    assert totals['trainings'] == 2 * 4
    assert totals['evaluations'] == 1 + 3 * 2
    assert totals['frames'] == 30 + 3 * 40


def test_hours_are_counts_times_speeds():
    """Steps times atoms, labels one by one, steps of a training times the frames of a batch."""
    stages = stages_of(found := plan(MEASURED))
    # After the bootstrap a committee explores: the other member judges each frame.
    calls = 8 * 100 * N_ATOMS + 8 * 5 * N_ATOMS
    assert stages['explore_r1'].hours == Hours(pytest.approx(calls * 0.001 / 3600), pytest.approx(calls * 0.003 / 3600))
    core_s = 10 * (1 + N_SEEDS * N_ATOMS)
    assert stages['label_initial'].hours == Hours(pytest.approx(core_s / 3600), pytest.approx(2 * core_s / 3600))
    assert stages['label_initial'].basis == '1 atoms; 8 atoms'
    assert stages['label_r1'].hours == Hours(pytest.approx(5 * 80 / 3600), pytest.approx(5 * 160 / 3600))
    for name in ('train_bootstrap', 'train_r1', 'train_r3'):
        assert stages[name].hours.least == pytest.approx(0.1 * 80 * 5 / 3600), name
    assert found.unmeasured() == {}
    total = found.hours()['core']
    assert total.least == pytest.approx(sum(stage.hours.least for stage in found.stages if stage.hours))
    assert total.least < total.most


def test_without_measurements_there_are_no_hours():
    """What was not measured has no hours, and says what would measure it."""
    speeds = Speeds(
        dynamics=MEASURED.dynamics, missing={'label': 'run one', 'training': 'train', 'evaluation': 'judge'}
    )
    found = plan(speeds)
    assert found.unmeasured() == {'label': 'run one', 'train': 'train', 'evaluate': 'judge'}
    assert set(found.hours()) == {'core'}
    data = found.as_dict()
    label = next(stage for stage in data['stages'] if stage['name'] == 'label_r1')
    assert label['core_hours'] is None and label['labels'] == 5
    assert data['totals']['core_hours']['most'] == pytest.approx(found.hours()['core'].most)


def test_gpu_hours_are_told_apart():
    """Dynamics on a GPU, of which an upper bound is known, beside labels on cores."""
    speeds = Speeds(dynamics=Rate(0.0, 1e-4, 'in batches', 'GPU'), label=MEASURED.label)
    hours = plan(speeds).hours()
    assert set(hours) == {'core', 'GPU'}
    assert hours['GPU'].least == 0 < hours['GPU'].most
    assert plan(speeds).as_dict()['totals']['gpu_hours'] == {'least': 0.0, 'most': hours['GPU'].most}


def test_a_budget_of_labels_ends_the_run():
    """Rounds that do not fit are not planned; the warning says what all of them need, and with that they fit."""
    found = plan(loop={'max_rounds': 3, 'max_labels': 17})
    assert found.n_rounds == 1 and found.totals()['labels'] == 16
    assert 'loop.max_labels: 17 ends the run after round 1 of 3' in found.warnings[0]
    assert 'at least 26' in found.warnings[0]
    assert plan(loop={'max_rounds': 3, 'max_labels': 26}).n_rounds == 3
    assert plan(loop={'max_rounds': 3, 'max_labels': 25}).n_rounds == 2


def test_a_budget_of_core_hours_may_end_the_run():
    """It is told in which round it may be spent; one that suffices is not told of."""
    total = plan(MEASURED).hours()['core'].most
    (warning,) = plan(MEASURED, loop={'max_rounds': 3, 'max_core_hours': 0.5 * total}).warnings
    assert 'loop.max_core_hours' in warning and 'of 3' in warning
    assert not plan(MEASURED, loop={'max_rounds': 3, 'max_core_hours': 1.1 * total}).warnings


def test_physics_is_planned_after_the_rounds():
    """The structures of the checks are counted as they are made; dynamics is timed for nve."""
    physics = {'checks': ['equation_of_state', 'nve'], 'n_volumes': 5, 'supercell_atoms': 2, 'nve_steps': 100}
    stages = stages_of(plan(MEASURED, physics=physics))
    assert list(stages)[-2:] == ['label_physics', 'physics']
    assert stages['label_physics'].labels == 5
    assert stages['physics'].hours.least == pytest.approx(100 * 2 * 0.001 / 3600)


def test_a_larger_supercell_is_labelled_and_timed():
    """Candidates have the atoms of the replica, not of the seed."""
    exploration = {**INPUT['exploration'], 'supercell_atoms': 64}
    generation = {'target_atoms': 8, 'strained': {'n': 0}, 'rattled': {'n': 0}, 'n_test_seeds': 1}
    stages = stages_of(plan(MEASURED, exploration=exploration, generation=generation))
    assert stages['label_r1'].basis == '64 atoms'
    assert stages['label_initial'].basis == '1 atoms; 8 atoms'


def test_seeds_that_cannot_be_made_are_told_of():
    """Strains that bring atoms together are found before anything runs."""
    generation = {**INPUT['generation'], 'strained': {'n': 1, 'max_strain': 0.2}, 'min_distance_factor': 1.05}
    with pytest.raises(ValueError, match='min_distance_factor'):
        plan(generation=generation)


def test_several_sources_with_one_formula():
    """Two structures give twice the seeds; each is labelled at the rate of its own size."""
    expansion = expand()
    two = [expansion.sources[0], Atoms(expansion.sources[0].repeat((2, 1, 1)))]
    two[1].set_cell(two[1].cell * 1.02, scale_atoms=True)
    found = make_plan(expansion.configuration, two, MEASURED)
    assert stages_of(found)['label_initial'].labels == 1 + 2 * N_SEEDS


def test_data_is_trained_on_and_some_of_it_labelled_again():
    """Three of the frames are labelled before the seeds; a training takes as many steps as without them."""
    expansion = expand(data='node:1')
    frames = [expansion.sources[0].copy() for _ in range(40)]
    for number, atoms in enumerate(frames):
        atoms.arrays['REF_forces'] = atoms.positions * number
    found = make_plan(expansion.configuration, expansion.sources, MEASURED, frames)
    assert [stage.name for stage in found.stages][1:3] == ['label_data', 'label_initial']
    stages, without = stages_of(found), stages_of(plan(MEASURED))
    assert stages['label_data'].labels == 3
    assert stages['train_bootstrap'].hours == without['train_bootstrap'].hours
