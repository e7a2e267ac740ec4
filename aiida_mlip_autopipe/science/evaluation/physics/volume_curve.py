"""Energy against volume: the equation of state, and whether the labels on it can be believed."""

from __future__ import annotations

import numpy as np
from ase.units import GPa

from aiida_mlip_autopipe.science.evaluation.label_consistency import LARGEST_MISMATCH_GPA

__all__ = ['birch_murnaghan', 'curve_doubts']

SOUND_DERIVATIVE = (2.0, 8.0)
FEWEST_VOLUMES = 5
SCATTER_SHARE = 0.1


def birch_murnaghan(volumes: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Fit the equation of state.

    Parameters
    ----------
    volumes, energies : ndarray, shape (n,)
        In Å³ and eV, of the same number of atoms.

    Returns
    -------
    ndarray, shape (4,)
        Volume (Å³), bulk modulus (eV/Å³), its derivative (dimensionless) and energy (eV) at the minimum; NaN where
        there is no minimum.
    """
    scale = volumes.mean() ** (-2 / 3)
    polynomial = np.polynomial.Polynomial.fit(volumes ** (-2 / 3) / scale, energies, 3).convert()
    slope, curvature = polynomial.deriv(), polynomial.deriv(2)
    roots: list[complex] = slope.roots().tolist()
    minima = [float(z.real) for z in roots if abs(z.imag) < 1e-9 and z.real > 0 and curvature(z.real) > 0]
    if not minima:
        return np.full(4, np.nan)
    reduced = min(minima, key=lambda z: abs(z - 1))
    x, second, third = scale * reduced, curvature(reduced) / scale**2, polynomial.deriv(3)(reduced) / scale**3
    by_volume_2 = 4 / 9 * x**5 * second
    by_volume_3 = -20 / 9 * x**6.5 * second - 8 / 27 * x**7.5 * third
    volume = x**-1.5
    return np.array([volume, volume * by_volume_2, -1 - volume * by_volume_3 / by_volume_2, polynomial(reduced)])


def curve_doubts(volumes: np.ndarray, energies: np.ndarray, pressures_GPa: np.ndarray) -> list[str]:
    """Return what is strange about the labels of a crystal at several volumes, each in words.

    Parameters
    ----------
    volumes, energies, pressures_GPa : ndarray, shape (n,)
        In Å³ and eV, of the same number of atoms, and in GPa, positive where the crystal is compressed; by volume.
    """
    if len(volumes) < FEWEST_VOLUMES:
        return []
    found = []
    curve = np.polynomial.Polynomial.fit(volumes, energies, 3)
    scatter = float(np.std(energies - curve(volumes)))
    if scatter > SCATTER_SHARE * float(np.ptp(energies)):
        found.append(f'the energies of DFT scatter by {1e3 * scatter:.0f} meV around a smooth curve of the volume')
    mismatch = np.abs(pressures_GPa + curve.deriv()(volumes) / GPa)[1:-1].max()
    if mismatch > LARGEST_MISMATCH_GPA:
        found.append(f'the pressure in the labels and the slope of their energies differ by {mismatch:.0f} GPa')
    derivative = birch_murnaghan(volumes, energies)[2]
    low, high = SOUND_DERIVATIVE
    if not low <= derivative <= high:
        told = f"B' of DFT is {derivative:.1f}, outside of {low:g} to {high:g}"
        found.append(told if np.isfinite(derivative) else 'the energies of DFT have no minimum in volume')
    return found
