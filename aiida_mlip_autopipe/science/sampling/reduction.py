"""Standardisation and principal components of descriptors, the first step of DIRECT.

Each feature is brought to zero mean and unit variance; the principal components of the correlation matrix with an
eigenvalue above a bound are kept (Kaiser's rule: a component worth keeping explains more than one feature does). Equal
rows are told apart first: they count in the statistics as often as they occur, but can be selected only once.

Source: J. Qi, T. W. Ko, B. C. Wood, T. A. Pham and S. P. Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

__all__ = ['Reduction', 'distinct_rows', 'reduce']

#: A feature that varies by less than this fraction of its largest value is constant up to rounding.
CONSTANT = 1e-10


@dataclass(frozen=True)
class Reduction:
    """Principal components of standardised rows.

    Attributes
    ----------
    mean, scale : numpy.ndarray
        (features,); the scale of a constant feature is 1.
    components : numpy.ndarray
        Axes (n_components, features), orthonormal, largest eigenvalue first; the largest loading is positive.
    explained_variance : numpy.ndarray
        Eigenvalues (n_components,) of the correlation matrix.
    explained_variance_ratio : numpy.ndarray
        The same over the sum of all eigenvalues; 0 where nothing varies.
    scores : numpy.ndarray
        Rows in these axes (n_rows, n_components), not weighted.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    explained_variance_ratio: np.ndarray
    scores: np.ndarray


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group equal rows.

    Parameters
    ----------
    rows : numpy.ndarray
        (n, features), finite.

    Returns
    -------
    first : numpy.ndarray
        Index of the first of each group of equal rows (n_distinct,), ascending.
    group : numpy.ndarray
        Group of each row (n,).
    counts : numpy.ndarray
        Rows of each group (n_distinct,).
    """
    groups: dict[bytes, int] = {}
    digests = (hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in rows)
    group = np.array([groups.setdefault(digest, len(groups)) for digest in digests])
    _, first, counts = np.unique(group, return_index=True, return_counts=True)
    return first, group, counts


def reduce(rows: np.ndarray, counts: np.ndarray, min_eigenvalue: float) -> Reduction:
    """Standardise rows and project them on their principal components.

    Parameters
    ----------
    rows : numpy.ndarray
        Distinct rows (n, features), finite.
    counts : numpy.ndarray
        How often each row occurs (n,).
    min_eigenvalue : float
        Components with a larger eigenvalue are kept, and in any case the first.

    Returns
    -------
    Reduction
    """
    weights = counts / counts.sum()
    mean = weights @ rows
    standardised = rows - mean
    spread = np.sqrt(weights @ standardised**2)
    constant = spread <= CONSTANT * np.abs(rows).max(axis=0)
    scale = np.where(constant, 1.0, spread)
    standardised[:, constant] = 0.0
    standardised /= scale

    eigenvalues, axes = _principal_axes(standardised * np.sqrt(weights)[:, None])
    kept = eigenvalues > max(min_eigenvalue, CONSTANT * eigenvalues[0])
    kept[0] = True
    axes = axes[kept]
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
    total = eigenvalues.sum()
    ratio = eigenvalues[kept] / total if total > 0 else np.zeros(len(axes))
    return Reduction(mean, scale, axes, eigenvalues[kept], ratio, standardised @ axes.T)


def _principal_axes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return squared singular values and right singular vectors (rows), largest first."""
    n_rows, n_features = matrix.shape
    if n_rows < n_features:
        _, singular_values, axes = np.linalg.svd(matrix, full_matrices=False)
        return singular_values**2, axes
    eigenvalues, vectors = np.linalg.eigh(matrix.T @ matrix)
    return np.maximum(eigenvalues[::-1], 0.0), vectors.T[::-1].copy()
