"""Frames of files: selected and described by the functions that serve the shards of MD jobs, and by the commands."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from click.testing import CliRunner

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.science.descriptors import make_descriptor
from aiida_mlip_autopipe.science.frames import load_frames
from aiida_mlip_autopipe.science.frames.trajectories import TrajectoryFrames
from aiida_mlip_autopipe.science.parameters import SamplingParameters, descriptor_parameters
from aiida_mlip_autopipe.science.sampling import select_candidates, select_frames
from tests.support.md_job import write_md_job

SMALL = ['--r-cut', '3.5', '--n-max', '2', '--l-max', '1']
DESCRIPTOR = {'r_cut': 3.5, 'n_max': 2, 'l_max': 1}


def rattled(atoms: Atoms, n_frames: int, seed: int) -> list[Atoms]:
    """Return frames with results of a calculation; the forces are large in the last."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(n_frames):
        frame = atoms.copy()
        frame.positions += rng.normal(scale=0.1, size=(len(atoms), 3))
        frame.info = {'temperature_K': 300 + number, 'comment': 'kept'}
        forces = rng.normal(size=(len(atoms), 3))
        stress = rng.normal(scale=0.01, size=6)
        frame.calc = SinglePointCalculator(frame, energy=-1.0 - 0.01 * number, forces=forces, stress=stress)
        frames.append(frame)
    return frames


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return two files: an isolated atom and silicon of two sizes, and carbide."""
    atom = Atoms('Si', cell=[8, 8, 8], pbc=True)
    atom.info['config_type'] = 'IsolatedAtom'
    first = [atom, *rattled(bulk('Si'), 8, 1), *rattled(bulk('Si', cubic=True), 3, 2)]
    paths = [tmp_path / 'silicon.extxyz', tmp_path / 'carbide.traj']
    write(paths[0], first)
    write(paths[1], rattled(bulk('SiC', 'zincblende', a=4.36), 6, 3))
    return paths


def command(*arguments: object) -> str:
    """Run a command; return what it printed, or fail with it."""
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.output


def problem(*arguments: object) -> str:
    """Run a command that is refused; return why."""
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    return ' '.join(done.output.split())


def test_frames_of_files_come_in_chunks_of_the_same_atoms(files):
    source = TrajectoryFrames(files)
    chunks = list(source.chunks())
    assert [(chunk.folder_index, len(chunk), len(chunk.numbers)) for chunk in chunks] == [
        (0, 8, 2),
        (0, 3, 8),
        (1, 6, 2),
    ]
    assert (source.n_frames, source.n_isolated, source.species) == (17, 1, [6, 14])
    assert source.frame_number.tolist() == [*range(1, 12), *range(6)]
    np.testing.assert_allclose(chunks[0].energies, -1.0 - 0.01 * np.arange(8))
    forces = read(files[0], 1).get_forces()
    assert chunks[0].max_forces[0] == pytest.approx(np.linalg.norm(forces, axis=1).max())


def test_a_file_and_the_shards_of_the_same_frames_give_the_same_selection(tmp_path):
    """There is one way to select: only the reading differs."""
    frames = rattled(bulk('Si'), 20, seed=1)
    rows = [(step, atoms.positions, atoms.cell.array, -1.0, 300.0, 0.0, np.nan) for step, atoms in enumerate(frames)]
    folder = write_md_job(tmp_path / 'md', 'aaaaaaaa', [(frames[0], iter(rows))])
    write(tmp_path / 'frames.traj', load_frames([folder], range(20)))  # with all digits: what is drawn depends on them
    parameters = SamplingParameters(n_to_select=6, descriptor=DESCRIPTOR)
    of_shards = select_candidates([folder], parameters)
    of_file = select_frames(TrajectoryFrames([tmp_path / 'frames.traj']), parameters)
    for name in ('index', 'cluster', 'reason', 'represents'):
        np.testing.assert_array_equal(of_file.table[name], of_shards.table[name])


def test_picks_keep_what_the_file_says_and_tell_what_they_stand_for(files, tmp_path):
    output, figures = tmp_path / 'picks.extxyz', tmp_path / 'figures'
    told = command('select', *files, *SMALL, '-n', 5, '-o', output, '--figures', figures)
    picks = read(output, ':')
    assert len(picks) == 5 and sum(atoms.info['represents'] for atoms in picks) == 17
    for atoms in picks:
        same = read(atoms.info['from_file'], int(atoms.info['from_frame']))
        np.testing.assert_allclose(atoms.positions, same.positions, atol=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), same.get_forces(), atol=1e-12)
        np.testing.assert_allclose(atoms.get_stress(), same.get_stress(), atol=1e-12)
        assert atoms.get_potential_energy() == same.get_potential_energy()
        assert atoms.info['comment'] == 'kept' and atoms.info['temperature_K'] == same.info['temperature_K']
    assert {path.name for path in figures.glob('*.svg')} >= {'selection_map.svg', 'radius_by_budget.svg'}
    assert 'carbide.traj' in told and 'at random' in told
    assert '1 isolated atoms were not among the frames to choose from' in told


def test_frames_that_break_a_limit_or_are_known_are_told(files, tmp_path):
    known = tmp_path / 'known.extxyz'
    write(known, read(files[0], '1:4'))
    told = command(
        'select',
        files[0],
        *SMALL,
        '-n',
        4,
        '-k',
        known,
        '-o',
        tmp_path / 'picks.extxyz',
        '-s',
        'limits.max_force_eV_A=3',
    )
    forces = [np.linalg.norm(atoms.get_forces(), axis=1).max() for atoms in read(files[0], '1:')]
    assert f'{np.count_nonzero(np.array(forces) > 3)} of 11 frames break limits.max_force_eV_A' in told
    assert 'frames are as good as known' in told
    chosen = [int(atoms.info['from_frame']) for atoms in read(tmp_path / 'picks.extxyz', ':')]
    assert not {1, 2, 3} & set(chosen)


def test_fewer_distinct_frames_than_asked_for_are_a_warning(tmp_path):
    write(tmp_path / 'same.extxyz', [bulk('Si')] * 4)
    told = command('select', tmp_path / 'same.extxyz', *SMALL, '-n', 3, '-o', tmp_path / 'picks.extxyz')
    assert 'Warning: 1 frames were selected, 2 fewer than asked for' in told


@pytest.mark.parametrize('subject', ['select', 'describe'])
@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['missing.extxyz'], 'missing.extxyz cannot be read'),
        (['empty.extxyz'], 'empty.extxyz cannot be read: Empty file'),
        (['silicon.extxyz', 'carbide.traj', '--elements', 'Si'], 'carbide.traj has C, but the elements are to be Si'),
        (['silicon.extxyz', '--elements', 'Sj'], "--elements: 'Sj' is not an element"),
        (['silicon.extxyz', '--r-cut', '0.5'], 'exploration.descriptor.r_cut: 0.5 is not > 1'),
        (['silicon.extxyz', '-s', 'descriptor.nmax=3'], 'descriptor.nmax: unknown key; did you mean'),
        (['silicon.extxyz', '-s', 'sigma'], '--set sigma: give a key and a value'),
        (['silicon.extxyz', '-d', 'mace'], 'descriptor mace needs a potential'),
        (['silicon.extxyz', '--potential', 'si.model'], '--potential: the descriptor soap uses none'),
    ],
)
def test_bad_input_is_told_in_words(files, tmp_path, monkeypatch, subject, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path('empty.extxyz').touch()
    assert words in problem(subject, *arguments)
    assert not list(tmp_path.glob('selected*')) and not list(tmp_path.glob('descriptors*'))


def test_more_picks_than_frames_are_refused(files, tmp_path):
    told = problem('select', files[0], '-n', 12, '-o', tmp_path / 'picks.extxyz')
    assert '--number: 12 picks, but there are 11 frames' in told


def test_rows_are_those_of_the_descriptor_in_the_order_of_the_frames(files, tmp_path):
    output = tmp_path / 'rows.npy'
    told = command('describe', *files, *SMALL, '-o', output)
    frames = [*read(files[0], '1:'), *read(files[1], ':')]
    descriptor = make_descriptor(descriptor_parameters(DESCRIPTOR), ['Si', 'C'])
    np.testing.assert_allclose(np.load(output), descriptor.create(frames), rtol=1e-6)
    assert f'17 frames x {descriptor.get_number_of_features()} features, float32, Å³' in told
    assert re.search(r'B of rows in memory; 17 frames of C, Si in \d+\.\d s', told)


def test_rows_for_atoms_say_of_which_atom_of_which_frame(files, tmp_path):
    output = tmp_path / 'rows.npz'
    command('describe', *files, *SMALL, '--per-atom', '--elements', 'Si,C,O', '-o', output)
    one = read(files[1], 2)
    descriptor = make_descriptor(descriptor_parameters(DESCRIPTOR), ['Si', 'C', 'O'], average='off')
    with np.load(output) as written:
        chosen = (written['file_index'] == 1) & (written['frame'] == 2)
        assert written['number'][chosen].tolist() == one.numbers.tolist()
        np.testing.assert_allclose(written['descriptors'][chosen], descriptor.create(one), rtol=1e-5)
        assert len(written['descriptors']) == 8 * 2 + 3 * 8 + 6 * 2
        assert written['files'].tolist() == list(map(str, files))


def test_a_frame_that_cannot_be_described_is_a_row_of_nan_and_told(tmp_path):
    frames = [bulk('Si'), bulk('Si')]
    frames[1].positions[1] = frames[1].positions[0]
    write(tmp_path / 'frames.extxyz', frames)
    told = command('describe', tmp_path / 'frames.extxyz', *SMALL, '-o', tmp_path / 'rows.npy')
    assert np.isnan(np.load(tmp_path / 'rows.npy')).all(axis=1).tolist() == [False, True]
    assert '1 frames are rows of NaN: two atoms stand on top of each other' in told


@pytest.mark.parametrize(
    ('kind', 'power', 'settings'),
    [
        ('soap', 3, {'rbf': 'polynomial', 'n_max': 1, 'l_max': 2, 'r_cut': 3.0, 'sigma': 0.4}),
        ('ace', 0, {'n_max': [2, 1, 1], 'l_max': [0, 1, 1], 'r_cut': 3.0}),
    ],
)
def test_the_unit_that_is_told_is_that_of_the_features(kind, power, settings):
    """All lengths twice as long: features in Å³ are eight times as large, those without a unit the same.

    With one radial function: several are orthogonalised in another way at another length.
    """
    atoms = bulk('Si', cubic=True)
    atoms.rattle(0.1, seed=0)
    double = atoms.copy()
    double.set_cell(2 * atoms.cell.array, scale_atoms=True)
    longer = {name: 2 * value if name in ('r_cut', 'sigma') else value for name, value in settings.items()}
    rows = [
        make_descriptor(descriptor_parameters({'kind': kind, **some}), ['Si']).create(frame)
        for some, frame in ((settings, atoms), (longer, double))
    ]
    np.testing.assert_allclose(rows[1], 2.0**power * rows[0], rtol=1e-6, atol=1e-9)
