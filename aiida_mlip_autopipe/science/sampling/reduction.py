"""Standardisation and principal components of descriptors, the first step of DIRECT.

Each feature is brought to zero mean and unit variance; the principal components of the correlation matrix with an
eigenvalue above a bound are kept (Kaiser's rule: a component worth keeping explains more than one feature does). The
rows are read twice: once for their covariance, once to project them. They are never held together.

Sums are in double precision. Within a block rows are multiplied in single precision, after a row near their mean was
subtracted from them in double: otherwise an offset of 1e4 spreads would cost four digits of the eigenvalues.

Source: J. Qi, T. W. Ko, B. C. Wood, T. A. Pham and S. P. Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiida_mlip_autopipe.science.sampling.rows import BLOCK, RowSource, blocks

__all__ = ['WEIGHTINGS', 'Moments', 'Reduction', 'known_scores', 'measure', 'project', 'read_again', 'reduce']

#: A feature whose spread is below this fraction of its size is constant up to rounding: in double, in single precision.
CONSTANT = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-6}

#: Scores of known frames are below this: their squares are in single precision.
FARTHEST = 1e18

#: Distinct rows that are kept as a sample of all: what their digests say, not where they stand.
SAMPLE = 2048

#: Exponent of the explained-variance ratio that multiplies each component.
WEIGHTINGS = {'none': 0.0, 'half': 0.5, 'maml': 1.0}


@dataclass(frozen=True)
class Moments:
    """What one reading of the rows tells.

    Attributes
    ----------
    digests : numpy.ndarray
        A number for the content of each row (n_rows,), uint64: equal for equal rows.
    finite : numpy.ndarray
        Which rows have no NaN and no infinity (n_rows,), bool.
    usable : numpy.ndarray
        Which of these were not rejected, either (n_rows,), bool.
    mean : numpy.ndarray
        Of the usable rows (n_features,).
    covariance : numpy.ndarray
        Of the usable rows (n_features, n_features).
    dtype : numpy.dtype
        float32 or float64.
    sample : numpy.ndarray
        Some of the distinct usable rows, or all if they are few (n_sample, n_features), float64.
    extremes : numpy.ndarray
        Smallest and largest value of each feature among the usable rows (2, n_features), float64.
    """

    digests: np.ndarray
    finite: np.ndarray
    usable: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    dtype: np.dtype
    sample: np.ndarray
    extremes: np.ndarray


@dataclass(frozen=True)
class Reduction:
    """The way from a row to its scores.

    Attributes
    ----------
    mean, scale : numpy.ndarray
        (n_features,); the scale of a constant feature is 1.
    components : numpy.ndarray
        Axes (n_components, n_features), orthonormal, largest eigenvalue first; the largest loading is positive.
    explained_variance : numpy.ndarray
        All eigenvalues of the correlation matrix (n_features,), the largest first.
    weights : numpy.ndarray
        Factor of each component (n_components,).
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    weights: np.ndarray

    @property
    def relative_weights(self) -> np.ndarray:
        """Return what turns scores into those of the weighting ``maml``, (n_components,), float32."""
        ratio = self.explained_variance_ratio[: len(self.components)]
        return (ratio / np.where(self.weights > 0, self.weights, 1.0)).astype(np.float32)

    @property
    def factors(self) -> np.ndarray:
        """Return what a row less the mean is multiplied with to give its scores, (n_features, n_components)."""
        return (self.components / self.scale * self.weights[:, None]).T

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores (n, n_components), float32, of rows (n, n_features), without reading them in blocks."""
        return ((rows - self.mean) @ self.factors).astype(np.float32)

    @property
    def explained_variance_ratio(self) -> np.ndarray:
        """Return all eigenvalues over their sum; zeros where nothing varies."""
        return _ratio(self.explained_variance)


def measure(source: RowSource, rejected: np.ndarray | None = None) -> Moments:
    """Read all rows once.

    Parameters
    ----------
    source : RowSource
        The rows.
    rejected : numpy.ndarray, optional
        Rows that do not count (n_rows,), bool.

    Raises
    ------
    ValueError
        If there is no row, or no usable one; if there are not as many rows as ``rejected`` says; if the square of a
        value overflows.
    """
    stage = shift = None
    digests, finite, n_rows, n_usable = [], [], 0, 0
    total, products, extent = np.zeros(1), np.zeros((1, 1)), _Extent()
    for rows in blocks(source):
        stage = stage or _Stage(rows)
        wanted = np.ones(len(rows), np.bool_) if rejected is None else ~rejected[n_rows : n_rows + len(rows)]
        if rejected is not None and len(wanted) < len(rows):
            raise ValueError(f'exclude has {len(rejected)} entries, X has more rows; give one for each row')
        if shift is None:
            fit = wanted & np.isfinite(rows).all(axis=1)
            shift = rows[fit].mean(axis=0, dtype=np.float64) if fit.any() else None
        staged, digest, fit = stage(rows, np.zeros(rows.shape[1]) if shift is None else shift, wanted)
        digests.append(digest.copy())
        finite.append(fit.copy())
        n_rows, n_usable = n_rows + len(rows), n_usable + len(staged)
        if len(staged):
            total = total + np.ones(len(staged), staged.dtype) @ staged
            products = products + (staged.T @ staged)
            extent.add(staged, digest[fit & wanted])
    if stage is None:
        raise ValueError('X has no row; give at least one')
    if rejected is not None and n_rows != len(rejected):
        raise ValueError(f'exclude has {len(rejected)} entries, X has {n_rows} rows; give one for each row')
    if shift is None:
        raise ValueError(
            f'none of the {n_rows} rows of X is finite and not excluded; check the frames, their descriptors '
            'or the limits'
        )
    offset = total / n_usable
    covariance = products / n_usable - np.outer(offset, offset)
    if not np.isfinite(covariance).all():
        raise ValueError(f'X has values whose squares are too large for {stage.dtype}; exclude such frames')
    all_finite = np.concatenate(finite)
    usable = all_finite if rejected is None else all_finite & ~rejected
    sample, extremes = extent.sample().astype(np.float64) + shift, np.array([extent.low, extent.high]) + shift
    every_digest = np.concatenate(digests)
    return Moments(every_digest, all_finite, usable, shift + offset, covariance, stage.dtype, sample, extremes)


def reduce(
    moments: Moments, min_eigenvalue: float = 1.0, max_components: int | None = None, weighting: str = 'none'
) -> Reduction:
    """Return the principal components of the standardised rows.

    Parameters
    ----------
    moments : Moments
        Of the rows.
    min_eigenvalue : float
        Components with a larger eigenvalue are kept, and in any case the first.
    max_components : int, optional
        At most so many.
    weighting : str
        Each component is multiplied by its explained-variance ratio to the power of 0 (``none``), 1/2 (``half``) or
        1 (``maml``, as the published code does).
    """
    variance = np.diag(moments.covariance)
    size = np.sqrt(np.maximum(variance + moments.mean**2, 0.0))
    spread = np.sqrt(np.maximum(variance, 0.0))
    constant = spread <= CONSTANT[moments.dtype] * size
    scale = np.where(constant, 1.0, spread)
    varies = np.where(constant, 0.0, 1.0)
    eigenvalues, vectors = np.linalg.eigh(moments.covariance * np.outer(varies / scale, varies / scale))
    eigenvalues, axes = np.maximum(eigenvalues[::-1], 0.0), vectors.T[::-1]
    kept = eigenvalues > max(min_eigenvalue, CONSTANT[moments.dtype] * eigenvalues[0])
    kept[0] = True
    n_components = min(int(np.count_nonzero(kept)), max_components or len(kept))
    components = axes[:n_components] * varies
    largest = np.abs(components).argmax(axis=1)
    components *= np.where(components[np.arange(n_components), largest] < 0, -1.0, 1.0)[:, None]
    weights = _ratio(eigenvalues)[:n_components] ** WEIGHTINGS[weighting]
    return Reduction(moments.mean, scale, components, eigenvalues, weights)


def project(source: RowSource, reduction: Reduction, moments: Moments) -> np.ndarray:
    """Read all rows again and return the scores of the usable ones (n_usable, n_components), float32.

    Raises
    ------
    ValueError
        If they are not the rows that were read first.
    """
    scores = np.empty((np.count_nonzero(moments.usable), len(reduction.components)), np.float32)
    factors = reduction.factors.astype(moments.dtype)
    n_scores = 0
    for whole, n_staged in read_again(source, moments, reduction.mean):
        scores[n_scores : n_scores + n_staged] = np.clip((whole @ factors)[:n_staged], -FARTHEST, FARTHEST)
        n_scores += n_staged
    return scores


def read_again(source: RowSource, moments: Moments, shift: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Read all rows again and yield the usable ones less a shift: a buffer, and how many of its rows hold one.

    Raises
    ------
    ValueError
        If they are not the rows that were read first.
    """
    n_first = len(moments.usable)
    stage = None
    n_rows = 0
    for rows in blocks(source):
        stage = stage or _Stage(rows)
        these = slice(n_rows, n_rows + len(rows))
        if these.stop > n_first:
            raise ValueError(_differs(f'it has more than the {n_first} rows of the first pass'))
        staged, digests, _ = stage(rows, shift, moments.usable[these])
        changed = np.flatnonzero(digests != moments.digests[these])
        if len(changed):
            raise ValueError(_differs(f'row {n_rows + changed[0]} has changed'))
        n_rows = these.stop
        yield stage.whole, len(staged)
    if n_rows < n_first:
        raise ValueError(_differs(f'it has {n_rows} rows instead of the {n_first} of the first pass'))


def _differs(what: str) -> str:
    return f'X gave other rows when it was read again: {what}; give a callable that yields the same rows at each call'


def _ratio(eigenvalues: np.ndarray) -> np.ndarray:
    total = eigenvalues.sum()
    return eigenvalues / total if total > 0 else np.zeros(len(eigenvalues))


class _Extent:
    """Smallest and largest value of each feature, and a sample of distinct rows: those with the lowest digests."""

    def __init__(self) -> None:
        self.low, self.high = np.array(np.inf), np.array(-np.inf)
        self._rows: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._highest, self._n_held = np.uint64(2**64 - 1), 0

    def add(self, rows: np.ndarray, digests: np.ndarray) -> None:
        self.low, self.high = np.minimum(self.low, rows.min(axis=0)), np.maximum(self.high, rows.max(axis=0))
        lowest = digests <= self._highest
        self._rows.append(rows[lowest])
        self._keys.append(digests[lowest])
        self._n_held += len(self._keys[-1])
        if self._n_held > 2 * SAMPLE:
            self.sample()

    def sample(self) -> np.ndarray:
        """Return the sample, and forget what else was held."""
        keys, first = np.unique(np.concatenate(self._keys), return_index=True)
        self._keys, self._rows = [keys[:SAMPLE]], [np.concatenate(self._rows)[first[:SAMPLE]]]
        self._n_held = len(self._keys[0])
        self._highest = self._keys[0][-1] if self._n_held == SAMPLE else self._highest
        return self._rows[0]


class _Stage:
    """Buffers for blocks of rows like the first; each call overwrites what the last returned.

    A short block is multiplied as a part of ``whole``: the rounding of a product depends on the shape of its matrices,
    and equal rows must have equal scores.
    """

    def __init__(self, rows: np.ndarray) -> None:
        from aiida_mlip_autopipe.science.sampling.compiled.rows import digest_keys

        self.dtype = rows.dtype
        self._bits = np.uint32 if rows.dtype == np.float32 else np.uint64
        infinity = np.array([np.inf, -0.0], rows.dtype).view(self._bits)
        self._exponent, self._sign = infinity[0], infinity[1]
        self._keys = digest_keys(rows.shape[1])
        self.whole = np.zeros((BLOCK, rows.shape[1]), rows.dtype)
        self._digests, self._finite = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.bool_)

    def __call__(
        self, rows: np.ndarray, shift: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the finite rows among the wanted less the shift, the digests of all, and which are finite."""
        from aiida_mlip_autopipe.science.sampling.compiled.rows import stage_rows

        digests, finite = self._digests[: len(rows)], self._finite[: len(rows)]
        rows = np.asarray(rows)
        bits = rows.view(self._bits)
        n_staged = stage_rows(
            rows, bits, self._sign, self._exponent, shift, self._keys, wanted, self.whole, digests, finite
        )
        return self.whole[:n_staged], digests, finite


def known_scores(known: RowSource | None, reduction: Reduction) -> np.ndarray:
    """Return the scores of rows that are known already, (n_known, n_components), float32.

    Raises
    ------
    ValueError
        If they have another number of features, or are not finite, or too far from those that were reduced.
    """
    scores = [np.empty((0, len(reduction.components)), np.float32)]
    for rows in blocks(known, 'known') if known is not None else ():
        if rows.shape[1] != len(reduction.mean):
            raise ValueError(
                f'known has {rows.shape[1]} features, X has {len(reduction.mean)}; use the same descriptor'
            )
        if not np.isfinite(rows).all():
            raise ValueError('known has rows that are not finite; leave out frames that cannot be described')
        scores.append(reduction.transform(rows))
        if not (np.abs(scores[-1]) < FARTHEST).all():
            raise ValueError(
                f'known has rows more than {FARTHEST:.0e} standard deviations from those of X; use the same descriptor'
            )
    return np.concatenate(scores)
