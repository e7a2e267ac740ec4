"""Energies per atom by a Gaussian process on the rows by which frames are selected: a judge of few labels.

Length scale and noise are those of the largest likelihood of each label given the others (leave one out), so that no
selection gets a model made for another one. Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for
Machine Learning, MIT Press (2006), section 5.4.2.
"""

from __future__ import annotations

import numpy as np

__all__ = ['KernelModel']

LENGTHS, NOISES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class KernelModel:
    """Models trained on some of the frames, and their errors on others; in the manner of `LinearACE`.

    Parameters
    ----------
    energies : numpy.ndarray
        Per atom, of all frames (n,), in eV.
    rows : numpy.ndarray
        What describes the frames (n, features).
    """

    def __init__(self, energies: np.ndarray, rows: np.ndarray) -> None:
        self.energies = energies
        spread = rows.std(axis=0)
        points = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        products = points @ points.T
        squares = np.diag(products)
        distances = np.maximum(squares[:, None] + squares[None] - 2 * products, 0)
        self.squared = distances / distances.mean()

    def fit(self, frames: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Return the frames, their coefficients, the length scale (of the mean distance) and the mean energy."""
        shares = np.ones(len(frames)) if weights is None else weights / np.mean(weights)
        mean = float(np.average(self.energies[frames], weights=shares))
        labels, best = self.energies[frames] - mean, (np.inf, np.empty(0), 1.0)
        roots = np.sqrt(shares)
        for length in LENGTHS:
            kernel = roots[:, None] * self._kernel(frames, frames, length) * roots
            values, vectors = np.linalg.eigh(kernel)
            for noise in NOISES:
                factors = 1 / (np.maximum(values, 0) + noise)
                coefficients = roots * (vectors @ (factors * (vectors.T @ (roots * labels))))
                precisions = shares * ((vectors**2) @ factors)
                scale = np.mean(coefficients**2 / precisions)
                score = np.log(scale) - np.mean(np.log(precisions))
                if score < best[0]:
                    best = score, coefficients, length
        return frames, best[1], best[2], mean

    def errors(self, fitted: tuple[np.ndarray, np.ndarray, float, float], frames: np.ndarray) -> np.ndarray:
        """Return the RMSE of the energy per atom on frames (1,), in eV."""
        trained, coefficients, length, mean = fitted
        predicted = self._kernel(frames, trained, length) @ coefficients + mean
        return np.sqrt([np.mean((predicted - self.energies[frames]) ** 2)])

    def _kernel(self, left: np.ndarray, right: np.ndarray, length: float) -> np.ndarray:
        return np.exp(-0.5 * self.squared[np.ix_(left, right)] / length**2)
