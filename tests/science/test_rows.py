"""Rows however they arrive: blocks, files, the covariance of one reading and the scores of the second."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from aiida_mlip_autopipe.science.sampling.reduction import measure, project, reduce
from aiida_mlip_autopipe.science.sampling.rows import BLOCK, RowFile, blocks, write_rows

CHUNKS = [1, 7, 1000, BLOCK, 5000]


def correlated(seed=0, n_rows=400, n_features=30, rank=5):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n_rows, rank)) @ generator.normal(size=(rank, n_features))
    return rows + 0.01 * generator.normal(size=rows.shape)


def chunks_of(X, size):
    """Return a callable that yields X in chunks of so many rows."""
    return lambda: (X[first : first + size] for first in range(0, len(X), size))


def eigenvalues_of(X):
    """Return the eigenvalues of the correlation matrix by scikit-learn in double precision, largest first."""
    pca = PCA().fit(StandardScaler().fit_transform(np.asarray(X, dtype=np.float64)))
    return pca.explained_variance_ * (len(X) - 1) / len(X)


@pytest.mark.parametrize('size', CHUNKS)
@pytest.mark.parametrize('n_rows', [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_blocks_do_not_depend_on_the_chunks(n_rows, size):
    X = correlated(n_rows=n_rows, n_features=6)
    sizes, seen = [], []
    for block in blocks(chunks_of(X, size)):
        sizes.append(len(block))
        seen.append(block.copy())
    assert sizes == [BLOCK] * (n_rows // BLOCK) + [n_rows % BLOCK] * (n_rows % BLOCK > 0)
    np.testing.assert_array_equal(np.concatenate(seen), X)


def test_a_source_may_use_its_buffer_again():
    X = correlated(n_rows=50, n_features=3)

    def source():
        buffer = np.empty((7, 3))
        for first in range(0, 50, 7):
            n_rows = min(7, 50 - first)
            buffer[:n_rows] = X[first : first + n_rows]
            yield buffer[:n_rows]

    np.testing.assert_array_equal(next(blocks(source)), X)


@pytest.mark.parametrize(
    ('dtype', 'expected'), [('f4', 'f4'), ('f8', 'f8'), ('>f4', 'f8'), ('f2', 'f8'), ('i8', 'f8'), ('?', 'f8')]
)
def test_blocks_are_of_single_or_double_precision_and_contiguous(dtype, expected):
    X = np.asfortranarray(10 * correlated(n_rows=2000, n_features=4)).astype(dtype)
    for block in blocks(X):
        assert block.dtype == np.dtype(expected) and block.flags.c_contiguous
    np.testing.assert_array_equal(np.concatenate([block.copy() for block in blocks(X)]), X)


def test_empty_chunks_are_passed_over():
    X = correlated(n_rows=20, n_features=3)
    source = [np.empty((0, 3)), X[:5], np.empty((0, 3)), X[5:], np.empty((0, 3))]
    np.testing.assert_array_equal(next(blocks(lambda: source)), X)


@pytest.mark.parametrize(
    ('chunks', 'words'),
    [
        ([np.zeros((4, 3)), np.zeros((4, 2))], r'chunk of shape \(4, 2\).*\(n_rows, 3\)'),
        ([np.zeros((4, 3)), np.zeros(3)], r'chunk of shape \(3,\)'),
        ([np.zeros(3)], r'chunk of shape \(3,\).*n_features'),
        ([np.zeros((4, 0))], r'chunk of shape \(4, 0\)'),
    ],
)
def test_a_chunk_of_another_shape_is_refused(chunks, words):
    with pytest.raises(ValueError, match=words):
        list(blocks(lambda: chunks))


@pytest.mark.parametrize('shape', [(3,), (3, 2, 2), ()])
def test_an_array_that_is_no_table_is_refused(shape):
    with pytest.raises(ValueError, match='X has shape'):
        list(blocks(np.zeros(shape)))


# -- files


@pytest.mark.parametrize('n_rows', [1, BLOCK, BLOCK + 3])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_a_row_file_gives_the_rows_again_and_again(tmp_path, n_rows, dtype):
    X = correlated(n_rows=n_rows, n_features=5).astype(dtype)
    np.save(tmp_path / 'rows.npy', X)
    rows = RowFile(tmp_path / 'rows.npy')
    assert (rows.shape, len(rows), rows.dtype) == (X.shape, n_rows, dtype)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([block.copy() for block in blocks(rows)]), X)


def test_written_rows_are_read_back_in_single_precision(tmp_path):
    X = correlated(n_rows=2500, n_features=5)
    rows = write_rows(tmp_path / 'rows.npy', chunks_of(X, 700)(), 2500)
    np.testing.assert_array_equal(np.load(tmp_path / 'rows.npy'), X.astype(np.float32))
    np.testing.assert_array_equal(np.concatenate([block.copy() for block in rows()]), X.astype(np.float32))


def test_rows_after_an_empty_chunk_are_written_where_they_belong(tmp_path):
    X = correlated(n_rows=4, n_features=5)
    rows = write_rows(tmp_path / 'rows.npy', [X[:0], X[:0], X], 4)
    np.testing.assert_array_equal(next(rows()), X.astype(np.float32))


@pytest.mark.parametrize('n_rows', [0, 3, 5])
def test_another_number_of_rows_than_announced_is_refused(tmp_path, n_rows):
    with pytest.raises(ValueError, match=f'{n_rows} rows were written instead of the 4 announced'):
        write_rows(tmp_path / 'rows.npy', [np.ones((n_rows, 2))] if n_rows else [], 4)


def test_a_file_whose_writing_was_interrupted_is_refused(tmp_path):
    def chunks():
        yield np.ones((10, 4))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / 'rows.npy', chunks(), 20)
    with pytest.raises(ValueError, match='is 160 bytes too short: writing was interrupted'):
        RowFile(tmp_path / 'rows.npy')


@pytest.mark.parametrize('missing', [1, 7, 8 * 30])
def test_a_truncated_file_is_refused(tmp_path, missing):
    path = tmp_path / 'rows.npy'
    np.save(path, correlated())
    with path.open('r+b') as handle:
        handle.truncate(path.stat().st_size - missing)
    with pytest.raises(ValueError, match=f'is {missing} bytes too short'):
        RowFile(path)


@pytest.mark.parametrize(
    'array', [np.zeros(3), np.zeros((3, 2), int), np.zeros((3, 2), '>f4'), np.zeros((3, 2), order='F')]
)
def test_a_file_of_something_else_is_refused(tmp_path, array):
    np.save(tmp_path / 'rows.npy', array)
    with pytest.raises(ValueError, match='rows are float32 or float64'):
        RowFile(tmp_path / 'rows.npy')


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / 'rows.npy').write_bytes(b'no array at all')
    with pytest.raises(ValueError, match='magic'):
        RowFile(tmp_path / 'rows.npy')


# -- moments and principal components


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_sums_are_in_double_precision(dtype):
    moments = measure(correlated(n_rows=3000).astype(dtype))
    assert moments.mean.dtype == moments.covariance.dtype == np.float64


@pytest.mark.parametrize('offset', [0.0, 1e2, 1e4])
@pytest.mark.parametrize('size', [7, 5000])
def test_an_offset_of_many_spreads_in_double_precision_costs_no_digit_of_the_eigenvalues(offset, size):
    X = correlated(n_rows=20_000, n_features=12)
    X += offset * X.std(axis=0)
    expected = eigenvalues_of(X)
    found = reduce(measure(chunks_of(X, size))).explained_variance
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize('offset', [0.0, 10.0, 1e3])
def test_rows_in_single_precision_give_the_eigenvalues_of_double(offset):
    X = (correlated(n_rows=60_000, n_features=12) + offset).astype(np.float32)
    found = reduce(measure(X)).explained_variance
    expected = eigenvalues_of(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 * expected[0])


def test_a_mean_that_drifts_costs_no_digit_either():
    X = correlated(n_rows=20_000, n_features=12) + np.linspace(0, 100, 20_000)[:, None]
    np.testing.assert_allclose(reduce(measure(X)).explained_variance, eigenvalues_of(X), rtol=1e-6, atol=1e-9)


def test_reduction_agrees_with_scikit_learn():
    X = correlated()
    moments = measure(X)
    reduction = reduce(moments, min_eigenvalue=1.0)
    pca = PCA().fit(StandardScaler().fit_transform(X))
    eigenvalues = pca.explained_variance_ * (len(X) - 1) / len(X)
    kept = (eigenvalues > 1).sum()
    assert len(reduction.components) == kept == 5
    np.testing.assert_allclose(reduction.explained_variance, eigenvalues, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(reduction.explained_variance_ratio, pca.explained_variance_ratio_, atol=1e-12)
    scores = pca.transform(StandardScaler().fit_transform(X))[:, :kept]
    signs = np.sign((reduction.components * pca.components_[:kept]).sum(axis=1))
    np.testing.assert_allclose(reduction.transform(X), signs * scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(project(X, reduction, moments), signs * scores, rtol=1e-5, atol=1e-6)


def test_the_largest_loading_of_each_component_is_positive():
    components = reduce(measure(correlated())).components
    assert (components[np.arange(5), np.abs(components).argmax(axis=1)] > 0).all()


def test_reduction_with_fewer_rows_than_features():
    X = correlated(n_rows=12)
    moments = measure(X)
    reduction = reduce(moments, min_eigenvalue=0.0)
    assert len(reduction.components) == 11
    np.testing.assert_allclose(reduction.components @ reduction.components.T, np.eye(11), atol=1e-10)
    scores = project(X, reduction, moments)
    np.testing.assert_allclose((scores**2).mean(axis=0), reduction.explained_variance[:11], rtol=1e-5)


@pytest.mark.parametrize(('weighting', 'power'), [('none', 0), ('half', 0.5), ('maml', 1)])
def test_scores_are_weighted_by_a_power_of_the_explained_variance_ratio(weighting, power):
    X = correlated()
    moments = measure(X)
    plain, weighted = reduce(moments), reduce(moments, weighting=weighting)
    factors = plain.explained_variance_ratio[:5] ** power
    np.testing.assert_allclose(weighted.transform(X), plain.transform(X) * factors, rtol=1e-6)
    np.testing.assert_allclose(project(X, weighted, moments), plain.transform(X) * factors, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weighted.weights * weighted.relative_weights, plain.explained_variance_ratio[:5], 1e-6)


@pytest.mark.parametrize(('bound', 'most', 'expected'), [(100.0, None, 1), (1.0, None, 5), (1.0, 3, 3), (0.0, 400, 30)])
def test_components_are_those_above_the_bound_at_least_one_and_at_most_so_many(bound, most, expected):
    assert len(reduce(measure(correlated()), bound, most).components) == expected


def test_a_column_that_varies_by_rounding_alone_is_constant():
    X = correlated()
    noisy = np.column_stack([X, 1e3 * (1 + 1e-15 * np.random.default_rng(0).normal(size=len(X)))])
    np.testing.assert_allclose(reduce(measure(noisy)).components[:, -1], 0.0, atol=1e-12)
    single = np.column_stack([X, 1e3 + np.zeros(len(X))]).astype(np.float32)
    single[::3, -1] = np.nextafter(np.float32(1e3), np.float32(2e3))
    np.testing.assert_allclose(reduce(measure(single)).components[:, -1], 0.0, atol=1e-12)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('n_features', [1, 30, 200])
@pytest.mark.parametrize('n_rows', [60, BLOCK, BLOCK + 1, BLOCK + 6, 2 * BLOCK + 3])
def test_equal_rows_have_equal_digests_and_equal_scores(n_rows, n_features, dtype):
    distinct = correlated(n_rows=7, n_features=n_features).astype(dtype)
    which = np.random.default_rng(0).integers(0, 7, n_rows)
    moments = measure(distinct[which])
    scores = project(distinct[which], reduce(moments), moments)
    assert len(np.unique(moments.digests)) == len(np.unique(scores, axis=0)) == 7
    for number in range(7):
        assert len(np.unique(moments.digests[which == number])) == 1


def test_digests_tell_rows_apart_by_value():
    rows = np.array([[1.0, 2.0], [0.0, -0.0], [1.0, 2.0], [0.0, 0.0], [2.0, 1.0], [-1.0, 2.0], [1.0, np.nan]])
    for dtype in (np.float32, np.float64):
        digests = measure(rows.astype(dtype)).digests
        assert digests[0] == digests[2] and digests[1] == digests[3]
        assert len(np.unique(digests)) == 5


def test_rows_that_are_not_finite_or_rejected_have_no_influence():
    X = correlated(n_rows=3000)
    spoilt = np.insert(X, [0, 100, 2999], np.nan, axis=0)
    spoilt[101, :] = [np.inf] + [0.0] * 29
    spoilt = np.concatenate([spoilt, 1e6 * X[:50]])
    rejected = np.arange(len(spoilt)) >= len(spoilt) - 50
    moments, plain = measure(spoilt, rejected), measure(X)
    assert moments.finite.sum() == 3050 and moments.usable.sum() == 3000
    np.testing.assert_array_equal(spoilt[moments.usable], X)
    np.testing.assert_array_equal(moments.digests[moments.usable], plain.digests)
    np.testing.assert_allclose(moments.mean, plain.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(moments.covariance, plain.covariance, rtol=1e-12, atol=1e-14)


def test_a_first_block_without_a_usable_row_is_no_obstacle():
    X = correlated(n_rows=2 * BLOCK) + 1e4
    spoilt = np.concatenate([np.full((BLOCK, 30), np.nan), X])
    found = reduce(measure(spoilt)).explained_variance
    np.testing.assert_allclose(found, eigenvalues_of(X), rtol=1e-7, atol=1e-10)


def test_rows_without_any_usable_one_are_refused():
    with pytest.raises(ValueError, match='none of the 3 rows of X is finite and not excluded'):
        measure(np.ones((3, 2)), np.ones(3, bool))
    with pytest.raises(ValueError, match='X has no row'):
        measure(lambda: [])


def changed_value(X):
    Y = X.copy()
    Y[1500, 3] += 1e-9
    return Y


@pytest.mark.parametrize(
    ('second', 'words'),
    [
        (lambda X: X[:-1], '2999 rows instead of the 3000'),
        (lambda X: X[:0], '0 rows instead of the 3000'),
        (lambda X: np.concatenate([X, X[:1]]), 'more than the 3000 rows'),
        (changed_value, 'row 1500 has changed'),
        (lambda X: X[::-1], 'row 0 has changed'),
        (lambda X: X.astype(np.float32), 'row 0 has changed'),
    ],
)
def test_a_second_reading_that_differs_is_refused(second, words):
    X = correlated(n_rows=3000)
    moments = measure(X)
    with pytest.raises(ValueError, match=words):
        project(second(X), reduce(moments), moments)
