"""What a descriptor refuses, in which words, and what it masks instead; with SOAP as the example."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import SOAP, make_descriptor, stream_rows
from aiida_mlip_autopipe.science.frames import FrameChunk
from aiida_mlip_autopipe.science.parameters import SoapParameters


def engine(**changes):
    return SOAP(**({'species': ['Si', 'C'], 'r_cut': 4.0, 'n_max': 3, 'l_max': 2, 'sigma': 0.5} | changes))


def frame(seed=0):
    atoms = Atoms(
        'SiC2',
        scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.4, 0.9], [0.5, 0.8, 0.2]],
        cell=[[4.0, 0.0, 0.0], [1.1, 3.9, 0.0], [-0.7, 1.6, 4.4]],
        pbc=True,
    )
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=(len(atoms), 3))
    return atoms


def good_frames():
    return [frame(seed) for seed in range(5)]


def stacked(frames):
    return {
        'numbers': frames[0].numbers,
        'positions': np.array([atoms.positions for atoms in frames]),
        'cells': np.array([atoms.cell.array for atoms in frames]),
        'pbc': frames[0].pbc,
    }


def chunk_of(frames, first=0):
    n = len(frames)
    return FrameChunk(
        **stacked(frames),
        folder_index=0,
        shard={},
        first=first,
        steps=np.arange(n),
        energies=np.zeros(n),
        temperatures=np.zeros(n),
        max_forces=np.zeros(n),
        disagreements=np.full(n, np.nan),
    )


def with_position(value):
    def spoil(atoms):
        atoms.positions[1, 2] = value

    return spoil


def with_cell(change):
    def spoil(atoms):
        atoms.cell = change(atoms.cell.array)

    return spoil


def on_top(atoms):
    atoms.positions[2] = atoms.positions[0]


def on_top_across_the_boundary(atoms):
    atoms.positions[2] = atoms.positions[0] + [1, -2, 3] @ atoms.cell.array + [1e-7, 0, 0]


#: What can be wrong with a frame, and the value or bound that the message has to name.
BROKEN = {
    'position nan': (with_position(np.nan), r'not finite.*atom 1 .*nan'),
    'position inf': (with_position(-np.inf), r'not finite.*atom 1 .*-inf'),
    'exploded': (with_position(1e30), r'1e\+06 cells.*atom 1 .*1e\+30'),
    'cell nan': (with_cell(lambda cell: cell * [[1.0], [np.nan], [1.0]]), r'cell .*nan'),
    'cell inf': (with_cell(lambda cell: np.full_like(cell, np.inf)), r'cell .*(inf|nan)'),
    'cell zero': (with_cell(np.zeros_like), r'cell .*span.*0\.0, 0\.0, 0\.0'),
    'cell flat': (with_cell(lambda cell: cell[[0, 1, 1]]), r'cell .*span'),
    'cell flat by skew': (with_cell(lambda cell: np.array([cell[0], cell[1], cell[0] - cell[1]])), r'cell .*span'),
    'cell collapsed': (with_cell(lambda cell: cell * 1e-3), r'cell .*50000'),
    'cell huge': (with_cell(lambda cell: cell * 1e200), r'cell .*e\+200'),
    'coincident': (on_top, r'0 and 2.*0\.001'),
    'coincident across the boundary': (on_top_across_the_boundary, r'0 and 2.*0\.001'),
}


def broken_frames(spoil, *indices):
    frames = good_frames()
    for index in indices:
        spoil(frames[index])
    return frames


@pytest.mark.parametrize('average', ['off', 'inner', 'outer'])
@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_frame_is_named_with_its_value_and_the_bound(kind, average):
    spoil, words = BROKEN[kind]
    frames = broken_frames(spoil, 3)
    soap = engine(average=average)
    for call in (
        lambda: soap.create(frames),
        lambda: soap.create(frames, n_jobs=2),
        lambda: soap.create([*frames, bulk('Si')]),  # of unequal sizes: one by one
        lambda: soap.create_frames(**stacked(frames)),
        lambda: list(soap.stream([chunk_of(frames)])),
        lambda: list(soap.stream([chunk_of(frames[:2]), chunk_of(frames[2:])])),
    ):
        with pytest.raises(ValueError, match=rf'frame 3\b.*{words}'):
            call()
    with pytest.raises(ValueError, match=rf'frame 0\b.*{words}'):
        soap.create(frames[3])


@pytest.mark.parametrize('average', ['off', 'inner', 'outer'])
@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_frame_is_masked_and_its_neighbours_are_not(kind, average):
    spoil, words = BROKEN[kind]
    frames, good = broken_frames(spoil, 1, 3), good_frames()
    soap = engine(average=average)
    expected = soap.create_frames(**stacked(good))
    expected[[1, 3]] = np.nan
    np.testing.assert_array_equal(soap.create_frames(**stacked(frames), on_error='mask'), expected)
    np.testing.assert_array_equal(soap.create(frames, on_error='mask'), expected)
    chunks = [chunk_of(frames[:2]), chunk_of(frames[2:])]
    found = [(part.rows.copy(), part.masked) for part in soap.stream(chunks, on_error='mask')]
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in found]), expected)
    assert [list(masked) for _, masked in found] == [[1], [1]]  # within the chunk
    for _, masked in found:
        with pytest.raises(ValueError, match=words):
            raise ValueError(masked[1])


def test_an_image_of_an_atom_on_top_of_it_is_refused():
    atoms = Atoms('Si', cell=[5.0, 5.0, 5e-4], pbc=True)
    with pytest.raises(ValueError, match=r'frame 0\b'):
        engine().create(atoms)


def test_nothing_but_the_periodic_part_of_a_cell_must_be_right():
    atoms, isolated = frame(), frame()
    isolated.pbc = False
    rows = engine().create(isolated)
    for cell in (np.zeros((3, 3)), np.full((3, 3), np.nan), 1e-5 * np.eye(3)):
        isolated.cell = cell
        np.testing.assert_array_equal(engine().create(isolated), rows)
    atoms.pbc = [True, True, False]
    rows = engine().create(atoms)
    atoms.cell[2] = np.nan
    np.testing.assert_array_equal(engine().create(atoms), rows)


def test_an_unknown_element_is_named_and_never_masked():
    soap = engine()
    strange = frame()
    strange.numbers[1] = 79
    for call in (
        lambda: soap.create([frame(), frame(), strange]),
        lambda: soap.create([bulk('Si'), frame(), strange], on_error='mask'),
    ):
        with pytest.raises(ValueError, match=r'frame 2\b.*79.*\[6, 14\]|79.*frame 2\b.*\[6, 14\]'):
            call()
    for call in (
        lambda: soap.create_frames(**stacked([strange] * 2), on_error='mask'),
        lambda: list(soap.stream([chunk_of([frame()]), chunk_of([strange])], on_error='mask')),
    ):
        with pytest.raises(ValueError, match=r'79.*\[6, 14\]'):
            call()


def test_no_frames_and_no_atoms_are_refused():
    soap = engine()
    with pytest.raises(ValueError, match='empty'):
        soap.create([])
    with pytest.raises(ValueError, match=r'frame 0\b.*no atoms'):
        soap.create(Atoms())
    with pytest.raises(ValueError, match=r'frame 1\b.*no atoms'):
        soap.create([frame(), Atoms()])
    with pytest.raises(ValueError, match='no atoms'):
        soap.create_frames(np.array([], dtype=int), np.zeros((2, 0, 3)), np.array([np.eye(3)] * 2), [True] * 3)


@pytest.mark.parametrize('average', ['off', 'inner', 'outer'])
def test_an_empty_stream_and_an_empty_chunk_give_no_rows(average):
    soap = engine(average=average)
    assert list(soap.stream([])) == []
    arrays = stacked(good_frames())
    arrays['positions'], arrays['cells'] = arrays['positions'][:0], arrays['cells'][:0]
    expected = (0, 3, soap.get_number_of_features()) if average == 'off' else (0, soap.get_number_of_features())
    assert soap.create_frames(**arrays).shape == expected


@pytest.mark.parametrize(
    ('centers', 'words'),
    [
        ([3], r'frame 0\b.*3.*0 to 2'),
        ([0, -4], r'frame 0\b.*-4.*0 to 2'),
        ([0.5], r'frame 0\b.*0\.5'),
        ([], r'frame 0\b.*empty'),
        ([[0.0, 1.0]], r'frame 0\b.*\[0\.0, 1\.0\]'),
        ([[0.0, 1.0, np.nan]], r'frame 0\b.*not finite'),
        ([[0.0, 1.0, 1e30]], r'frame 0\b'),
    ],
    ids=str,
)
def test_centres_out_of_range_are_refused(centers, words):
    with pytest.raises(ValueError, match=words):
        engine().create(frame(), centers=centers)
    with pytest.raises(ValueError, match=words.replace('frame 0', 'frame 1')):
        engine().create([frame(), frame(1)], centers=[[0], centers])


def test_centres_for_another_number_of_frames_are_refused():
    with pytest.raises(ValueError, match=r'1 .*2 frames'):
        engine().create([frame(), frame()], centers=[[0]])


@pytest.mark.filterwarnings('ignore::scipy.linalg.LinAlgWarning')
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'r_cut': 0.0}, r'r_cut=0\.0.*above 1'),
        ({'r_cut': 0.0, 'rbf': 'polynomial'}, r'r_cut=0\.0.*above 0'),
        ({'r_cut': -4.0, 'rbf': 'polynomial'}, r'r_cut=-4\.0.*above 0'),
        ({'r_cut': 1.0}, r'r_cut=1\.0.*above 1'),
        ({'r_cut': np.nan}, r'r_cut=nan'),
        ({'r_cut': None}, r'r_cut'),
        ({'r_cut': None, 'weighting': {'w0': 0.0}}, r'r_cut'),
        ({'sigma': 0.0}, r'sigma=0\.0.*above 0'),
        ({'sigma': np.inf}, r'sigma=inf'),
        ({'n_max': 0}, r'n_max=0.*between 1 and'),
        ({'n_max': 2.5}, r'n_max=2\.5.*integer'),
        ({'n_max': 1000}, r'n_max=1000'),
        ({'n_max': 30}, r'n_max=30'),
        ({'l_max': -1}, r'l_max=-1.*between 0 and 20'),
        ({'l_max': 21}, r'l_max=21.*between 0 and 20'),
        ({'rbf': 'chebyshev'}, r"'chebyshev'.*'gto' or 'polynomial'"),
        ({'average': 'all'}, r"average='all'"),
        ({'dtype': 'float16'}, r"dtype='float16'"),
        ({'species': ['Xx']}, r"'Xx'"),
        ({'species': [0]}, r'holds 0'),
        ({'species': []}, r'species is empty'),
        ({'compression': {'mode': 'mu3'}}, r"'mu3'.*off, crossover, mu2, mu1nu1"),
        ({'compression': {'method': 'mu2'}}, r"'method'"),
        ({'compression': {'mode': 'mu2', 'species_weighting': {'Si': 1.0}}}, r'species_weighting.*\[6, 14\]'),
        ({'compression': {'species_weighting': {'Si': 1.0, 'C': np.nan}}}, r'species_weighting.*nan'),
        ({'compression': {'species_weighting': {'Si': 1.0, 'C': 1.0, 'H': 1.0}}}, r'species_weighting.*\[6, 14\]'),
        ({'weighting': {'function': 'gauss'}}, r"'gauss'.*poly, pow, exp"),
        ({'weighting': {'function': 'poly', 'c': 1, 'r0': 3}}, r"missing.*'m'"),
        ({'weighting': {'function': 'poly', 'c': 1, 'm': 2, 'r0': 0}}, r'r0=0\.0.*above 0'),
        ({'weighting': {'function': 'exp', 'c': 1, 'd': -1, 'r0': 3}}, r'd=-1\.0.*at least 0'),
        ({'weighting': {'w0': -1}}, r'w0=-1\.0.*at least 0'),
        ({'weighting': {'w_0': 1}}, r"'w_0'"),
    ],
    ids=str,
)
def test_bad_settings_are_named_with_their_bound(changes, words):
    with pytest.raises(ValueError, match=words):
        engine(**changes)


@pytest.mark.parametrize('changes', [{'average': 'off'}, {'average': 'outer'}])
def test_shapes_that_do_not_match_are_named(changes):
    soap = engine(**changes)
    right = stacked(good_frames())
    n_features = soap.get_number_of_features()
    for wrong, words in (
        ({'positions': right['positions'][:, :2]}, r'\(5, 2, 3\)'),
        ({'positions': right['positions'][0]}, r'\(3, 3\)'),
        ({'cells': right['cells'][:4]}, r'\(4, 3, 3\)'),
        ({'pbc': [True, True]}, r'\(2,\)'),
        ({'numbers': right['numbers'][:, None]}, r'\(3, 1\)'),
        ({'out': np.empty((5, 3, n_features + 1))}, r'out '),
        ({'out': np.empty((5, 3, n_features) if soap.average == 'off' else (5, n_features), np.float32)}, r'float32'),
    ):
        with pytest.raises(ValueError, match=words):
            soap.create_frames(**(right | wrong))


def test_on_error_knows_two_words():
    with pytest.raises(ValueError, match=r"on_error='skip'.*'raise' or 'mask'"):
        engine().create(good_frames(), on_error='skip')


# ------------------------------------------------------------------------------------------------- streams and describe


@pytest.mark.parametrize('average', ['off', 'inner', 'outer'])
def test_a_stream_gives_the_rows_of_its_chunks_in_order(average):
    frames = [*good_frames(), frame(7)]
    soap = engine(average=average)
    parts = [part.rows.copy() for part in soap.stream([chunk_of(frames[:4]), chunk_of(frames[4:])], n_jobs=2)]
    assert [len(part) for part in parts] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(parts), soap.create(frames))


def test_a_stream_reads_no_chunk_before_it_is_asked_for():
    read = []

    def chunks():
        for seed in range(3):
            read.append(seed)
            yield chunk_of([frame(seed)])

    stream = engine().stream(chunks())
    assert read == []
    next(stream)
    assert read == [0]


def parameters(**changes):
    return SoapParameters(**({'r_cut': 4.0, 'n_max': 3, 'l_max': 2, 'sigma': 0.5, 'average': 'outer'} | changes))


def described(chunks, chosen, progress=None, on_error='mask'):
    """Return all rows that are streamed."""
    rows = stream_rows(make_descriptor(chosen, ['Si', 'C']), chunks, progress, on_error=on_error)
    return np.concatenate([some.copy() for some in rows])


@pytest.mark.parametrize('average', ['inner', 'outer'])
def test_describe_gives_one_row_per_frame_in_order(average):
    frames = [*good_frames(), bulk('Si')]
    told = []
    rows = described([chunk_of(frames[:5]), chunk_of(frames[5:])], parameters(average=average), told.append)
    soap = engine(average=average)
    np.testing.assert_array_equal(rows, soap.create(frames))
    assert rows.shape == (6, soap.get_number_of_features())
    assert rows.dtype == np.float64
    assert told == [{'frames_described': 5}, {'frames_described': 6}]


def test_describe_masks_and_counts_by_what_is_wrong():
    """Reasons are counted, so they must not differ from frame to frame: a million exploded frames are one line."""
    frames = broken_frames(with_position(np.nan), 1, 3)
    frames[0].positions[2] = np.inf
    frames[4].positions[2] = frames[4].positions[0]
    told = []
    rows = described([chunk_of(frames)], parameters(), told.append)
    assert np.isnan(rows).all(axis=1).tolist() == [True, True, False, True, True]
    assert told[-1]['frames_described'] == 5
    assert sorted(told[-1]['frames_masked'].values()) == [1, 3]
    with pytest.raises(ValueError, match=r'frame 0\b'):
        described([chunk_of(frames)], parameters(), on_error='raise')


def test_describe_of_nothing_is_nothing():
    assert list(stream_rows(make_descriptor(parameters(), ['Si', 'C']), [])) == []


def test_parameters_make_the_descriptor_they_name():
    compression = {'mode': 'mu1nu1'}
    made = make_descriptor(parameters(rbf='polynomial', compression=compression, weighting={'w0': 0.5}), ['C', 'Si'])
    assert isinstance(made, SOAP)
    same = engine(rbf='polynomial', compression=compression, weighting={'w0': 0.5}, average='outer')
    np.testing.assert_array_equal(made.create(frame()), same.create(frame()))
