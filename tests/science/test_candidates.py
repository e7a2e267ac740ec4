"""From shards on disk to candidates: descriptors, selection and what each candidate tells about itself."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import SOAP, make_descriptor
from aiida_mlip_autopipe.science.frames import (
    ManifestError,
    iter_chunks,
    load_frames,
    read_extxyz,
    read_manifest,
    write_extxyz,
)
from aiida_mlip_autopipe.science.parameters import SamplingParameters, descriptor_parameters
from aiida_mlip_autopipe.science.sampling import DirectSampler, describe_folders, select_candidates
from aiida_mlip_autopipe.science.sampling.overview import note, overview
from tests.support.md_job import write_md_job
from tests.support.potentials import tiny_potential

DESCRIPTOR = {'r_cut': 3.5, 'n_max': 3, 'l_max': 2}


def write_job(folder, name, replicas, **options):
    """Write a job's shards: for each replica its frames, unless a guard left none."""

    def rows(frames):
        for step, atoms in enumerate(frames):
            if atoms.info.get('kept', True):
                disagreement = atoms.info.get('disagreement', np.nan)
                yield 10 * step, atoms.positions, atoms.cell.array, -1.0 - 1e-4 * step, 300.0 + step, 0.0, disagreement

    return write_md_job(folder, name, [(frames[0], rows(frames)) for frames in replicas], **options)


def trajectory(atoms, n_frames, seed, stdev=0.15):
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        frame = atoms.copy()
        frame.positions += generator.normal(scale=stdev, size=(len(atoms), 3))
        frames.append(frame)
    return frames


@pytest.fixture
def folders(tmp_path):
    """Two jobs: silicon of two sizes, one replica that a guard left without frames, and carbide in the second."""
    empty = bulk('Ge')
    empty.info['kept'] = False
    carbide = trajectory(bulk('SiC', 'zincblende', a=4.36), 15, seed=3)
    carbide[4].positions[0] = np.nan
    first = [trajectory(bulk('Si'), 20, seed=1), [empty], trajectory(bulk('Si', cubic=True), 10, seed=2)]
    return [write_job(tmp_path / 'md_0', 'aaaaaaaa', first), write_job(tmp_path / 'md_1', 'bbbbbbbb', [carbide])]


@pytest.mark.slow
def test_candidates_carry_origin_and_reason(folders, tmp_path):
    told = []
    parameters = SamplingParameters(n_to_select=10, descriptor=DESCRIPTOR)
    selection = select_candidates(folders, parameters, told.append)

    assert selection.report['n_frames'] == 45
    assert selection.report['n_finite'] == 44
    assert len(selection.candidates) == selection.report['n_selected'] == 10
    assert 34 not in selection.table['index']
    masked = selection.report['frames_masked']
    assert told[-1] == {'frames_described': 45, 'frames_total': 45, 'frames_masked': masked}
    assert sum(masked.values()) == 1
    assert 'frames_masked' not in told[0]
    elements = {symbol for atoms in selection.candidates for symbol in atoms.symbols}
    assert elements == {'Si', 'C'}

    expected = load_frames(folders, selection.table['index'])
    path = tmp_path / 'candidates.extxyz'
    write_extxyz(path, selection.candidates)
    for rank, (atoms, same) in enumerate(zip(read_extxyz(path), expected, strict=True)):
        for name in ('frame_id', 'md_job', 'replica', 'step', 'temperature_K', 'seed_id', 'origin', 'config_type'):
            assert atoms.info[name] == same.info[name]
        np.testing.assert_array_equal(atoms.positions, same.positions)
        assert atoms.info['rank'] == rank
        for name in ('cluster', 'rank', 'distance', 'reason', 'frame_id'):
            assert atoms.info[name] == selection.table[name][rank]
    assert selection.table['reason'].tolist() == ['random'] * 5 + ['variance'] * 5


def test_what_there_was_to_choose_from_is_told(folders):
    """Each frame with where it comes from, how it was there, and the candidate that stands for it."""
    selection = select_candidates(folders, SamplingParameters(n_to_select=10, descriptor=DESCRIPTOR))
    frames, table = selection.frames, selection.table
    assert {len(column) for column in frames.values()} == {45}
    chunks = list(iter_chunks(folders))
    for name, field in (('step', 'steps'), ('energy_eV', 'energies'), ('temperature_K', 'temperatures')):
        expected = np.concatenate([getattr(chunk, field) for chunk in chunks])
        np.testing.assert_allclose(frames[name], expected, rtol=1e-6)
    assert frames['folder'].tolist() == [0] * 30 + [1] * 15
    assert frames['replica'].tolist() == [0] * 20 + [2] * 10 + [0] * 15
    assert np.flatnonzero(np.isnan(frames['components']).any(axis=1)).tolist() == [34]
    assert frames['rank'][table['index']].tolist() == list(range(10))
    assert np.count_nonzero(frames['rank'] >= 0) == 10
    assert frames['represented_by'][table['index']].tolist() == list(range(10))
    assert frames['represented_by'][34] == frames['cluster'][34] == -1
    represented = frames['represented_by'][frames['represented_by'] >= 0]
    np.testing.assert_array_equal(np.bincount(represented, minlength=10), table['represents'])


def test_of_many_frames_some_are_told_and_all_candidates(folders):
    sampler = DirectSampler(8).fit(np.random.default_rng(0).normal(size=(45, 5)))
    told = overview([note(chunk) for chunk in iter_chunks(folders)], sampler, max_frames=10)
    assert set(sampler.selected_idx_) <= set(told['index'])
    assert set(range(0, 45, 5)) == set(told['index']) - set(sampler.selected_idx_[sampler.selected_idx_ % 5 > 0])


def test_all_frames_with_a_geometry_can_be_selected_once(folders):
    parameters = SamplingParameters(n_to_select=44, descriptor=DESCRIPTOR)
    selection = select_candidates(folders, parameters)
    assert sorted(selection.table['index'].tolist()) == [index for index in range(45) if index != 34]
    assert selection.report['covering_radius'] == 0.0


def test_scores_are_those_of_the_frames_descriptors(folders):
    parameters = SamplingParameters(n_to_select=8, selection='direct', descriptor=DESCRIPTOR)
    frames = load_frames(folders, [index for index in range(45) if index != 34])
    rows = SOAP(['Si', 'C'], 3.5, 3, 2, 0.5, average='outer').create(frames)
    np.testing.assert_array_equal(np.delete(describe_folders(folders, parameters.descriptor), 34, axis=0), rows)
    sampler = DirectSampler(8).fit(rows)
    selection = select_candidates(folders, parameters)
    components = np.delete(selection.frames['components'], 34, axis=0)
    np.testing.assert_allclose(components, sampler.scores_[:, :3], rtol=1e-5, atol=1e-5)
    index = selection.table['index']
    np.testing.assert_array_equal(index - (index > 34), sampler.selected_idx_)


@pytest.mark.slow
@pytest.mark.parametrize(
    'descriptor',
    [
        {'rbf': 'polynomial', 'n_max': 3, 'l_max': 2, 'r_cut': 3.5, 'compression': {'mode': 'mu1nu1'}},
        {
            'weighting': {'function': 'pow', 'r0': 2.0, 'c': 1.0, 'd': 1.0, 'm': 4.0},
            'n_max': 3,
            'l_max': 2,
            'r_cut': 3.5,
        },
        {'kind': 'ace', 'r_cut': 4.0, 'correlation_order': 3, 'n_max': [3, 2, 1], 'l_max': [0, 2, 1]},
        {'kind': 'ace', 'r_cut': 4.0, 'max_degree': 3, 'average': 'inner'},
        {'kind': 'mace', 'batch_size': 4},
    ],
)
def test_frames_are_selected_by_each_descriptor(folders, tmp_path, descriptor):
    chosen = descriptor_parameters(descriptor)
    potential = tiny_potential(tmp_path, ['C', 'Si']) if chosen.kind == 'mace' else None
    frames = load_frames(folders, [index for index in range(45) if index != 34])
    one_by_one = make_descriptor(chosen, ['C', 'Si'], potential)
    expected = [one_by_one.create(atoms) for atoms in frames]
    rows = describe_folders(folders, chosen, potential=potential)
    assert np.isnan(rows[34]).all()
    np.testing.assert_allclose(np.delete(rows, 34, axis=0), expected, rtol=1e-4, atol=1e-6)

    parameters = SamplingParameters(n_to_select=8, descriptor=chosen)
    selection = select_candidates(folders, parameters, potential=potential)
    assert len(selection.candidates) == 8
    assert sum(selection.report['frames_masked'].values()) == 1
    again = select_candidates(folders, SamplingParameters(**parameters.model_dump(mode='json')), potential=potential)
    np.testing.assert_array_equal(again.table['index'], selection.table['index'])


def test_features_of_a_potential_need_one(folders):
    with pytest.raises(ValueError, match='needs a potential'):
        select_candidates(folders, SamplingParameters(descriptor='mace'))


def test_same_answer_twice_and_for_another_seed_another_baseline(folders):
    def indices(**changes):
        parameters = SamplingParameters(n_to_select=8, descriptor=DESCRIPTOR, **changes)
        return select_candidates(folders, parameters).table['index'].tolist()

    assert indices() == indices()
    assert indices(selection='random') == indices(selection='random')
    assert indices(selection='random') != indices(selection='random', random_seed=1)


def test_the_random_baseline_says_so(folders):
    parameters = SamplingParameters(n_to_select=6, selection='random', descriptor=DESCRIPTOR)
    selection = select_candidates(folders, parameters)
    assert selection.table['reason'].tolist() == ['random'] * 6
    assert selection.table['cluster'].tolist() == [-1] * 6
    assert all(np.isfinite(atoms.info['distance']) for atoms in selection.candidates)


def test_more_wanted_than_there_are(folders):
    parameters = SamplingParameters(n_to_select=100, selection='direct', clustering='kmedoids', descriptor=DESCRIPTOR)
    selection = select_candidates(folders, parameters)
    assert len(selection.candidates) == 44
    assert selection.report['n_shortfall'] == 56


def test_folders_without_a_frame_are_refused(tmp_path):
    empty = bulk('Si')
    empty.info['kept'] = False
    folder = write_job(tmp_path / 'md_0', 'aaaaaaaa', [[empty]])
    with pytest.raises(ValueError, match='hold no frame'):
        select_candidates([folder], SamplingParameters())


def test_known_frames_of_any_number_and_size_are_kept_away_from(folders):
    frames = load_frames(folders, [0, 25])
    assert [len(atoms) for atoms in frames] == [2, 8]
    for known in (frames[:1], frames):
        selection = select_candidates(folders, SamplingParameters(n_to_select=44, descriptor=DESCRIPTOR), known=known)
        assert selection.report['n_known'] == selection.report['n_not_new'] == len(known)
        assert len(selection.candidates) == 44 - len(known)
        assert not {atoms.info['frame_id'] for atoms in known} & set(selection.table['frame_id'])
        assert (selection.table['novelty'] > 1e-3).all()


@pytest.mark.parametrize('settings', [{'selection': 'set-cover'}, {'selection': 'direct', 'environment_fill': 0.4}])
def test_the_atoms_of_known_frames_are_known(folders, settings):
    parameters = SamplingParameters(n_to_select=5, descriptor=DESCRIPTOR, **settings)
    first = select_candidates(folders, parameters)
    assert len(first.candidates) == 5 and {'cover', 'environment'} & set(first.table['reason'])
    second = select_candidates(folders, parameters, known=first.candidates)
    assert not set(second.table['frame_id']) & set(first.table['frame_id'])
    assert len(second.candidates) == 5 and second.report['n_known'] == 5


def test_a_missing_shard_is_told_apart(folders):
    (folders[1] / 'shards/r000.0.h5').unlink()
    with pytest.raises(ManifestError):
        select_candidates(folders, SamplingParameters(descriptor=DESCRIPTOR))


def test_a_trajectory_in_parts_is_one_group(tmp_path):
    """Two replicas, one in three files: each gives half of the candidates."""
    long, short = trajectory(bulk('Si'), 1500, seed=1), trajectory(bulk('Si'), 40, seed=2)
    folder = write_job(tmp_path, 'aaaaaaaa', [long, short], max_megabytes=0.06)
    replicas = [shard['replica'] for shard in read_manifest(folder)['shards']]
    assert replicas == [0, 0, 0, 1]
    parameters = SamplingParameters(n_to_select=8, group_by='trajectory', descriptor=DESCRIPTOR)
    chosen = select_candidates([folder], parameters).candidates
    assert sorted(atoms.info['replica'] for atoms in chosen) == [0] * 4 + [1] * 4


def test_candidates_tell_how_far_a_committee_disagreed(tmp_path):
    frames = trajectory(bulk('Si'), 12, seed=1)
    for number, atoms in enumerate(frames):
        atoms.info['disagreement'] = number / 4 if number < 6 else np.nan
    folder = write_job(tmp_path, 'aaaaaaaa', [frames])
    parameters = SamplingParameters(n_to_select=12, min_expected_error_eV_A=0, descriptor=DESCRIPTOR)
    selection = select_candidates([folder], parameters)
    told = {atoms.info['step'] // 10: atoms.info.get('disagreement_eV_A') for atoms in selection.candidates}
    assert told == {number: number / 4 if number < 6 else None for number in range(12)}
    write_extxyz(tmp_path / 'candidates.extxyz', selection.candidates)
    back = read_extxyz(tmp_path / 'candidates.extxyz')
    assert [atoms.info for atoms in back] == [atoms.info for atoms in selection.candidates]


def test_what_a_committee_is_certain_of_is_not_selected(tmp_path):
    """Its disagreement counts as the error that it has meant so far; where nobody was asked nothing is certain."""
    frames = trajectory(bulk('Si'), 12, seed=1)
    for number, atoms in enumerate(frames):
        atoms.info['disagreement'] = number / 100 if number < 6 else np.nan
    folder = write_job(tmp_path, 'aaaaaaaa', [frames])

    def selected(factor: float, bound: float) -> list[int]:
        parameters = SamplingParameters(
            n_to_select=12, disagreement_factor=factor, min_expected_error_eV_A=bound, descriptor=DESCRIPTOR
        )
        selection = select_candidates([folder], parameters)
        assert selection.report['n_certain'] == 12 - len(selection.candidates)
        assert np.isfinite(selection.frames['components']).all()
        return sorted(atoms.info['step'] // 10 for atoms in selection.candidates)

    assert selected(1.0, 0.035) == [4, 5, *range(6, 12)]
    assert selected(2.0, 0.035) == [2, 3, 4, 5, *range(6, 12)]
    assert selected(1.0, 1.0) == list(range(6, 12))
