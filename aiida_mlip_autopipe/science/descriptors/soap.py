"""SOAP as dscribe defines it, for stacked frames.

The Smooth Overlap of Atomic Positions describes an atom's surroundings by the power spectrum of the density of its
neighbours, one Gaussian of width sigma each, expanded in spherical harmonics and an orthonormal radial basis. Names,
values and order of features are those of dscribe 2.1, with two differences: positions are wrapped first, so that
displacing an atom by a lattice vector changes nothing; and the polynomial basis is integrated in full.

Source: A. P. Bartók, R. Kondor and G. Csányi, Phys. Rev. B 87, 184115 (2013); L. Himanen et al., Comput. Phys. Commun.
247, 106949 (2020); compressions: J. P. Darby, J. R. Kermode and G. Csányi, npj Comput. Mater. 8, 166 (2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from aiida_mlip_autopipe.science.descriptors.base import Descriptor, atomic_numbers_of, center_positions
from aiida_mlip_autopipe.science.descriptors.compiled import power_spectrum
from aiida_mlip_autopipe.science.descriptors.compiled import soap as compiled_soap
from aiida_mlip_autopipe.science.descriptors.compiled.soap import MODES
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES, sized
from aiida_mlip_autopipe.science.descriptors.radial import (
    DECAY,
    gto_functions,
    harmonic_norms,
    polynomial_functions,
    tabulate,
)

__all__ = ['SOAP']

MAX_N, MAX_L = 32, 20

#: Parameters of each weighting function, and its code in the kernel.
_WEIGHTINGS = {
    'poly': (power_spectrum.POLY, ('c', 'm', 'r0')),
    'pow': (power_spectrum.POW, ('c', 'd', 'm', 'r0')),
    'exp': (power_spectrum.EXP, ('c', 'd', 'r0')),
}
_COMPRESSIONS = ('off', 'crossover', 'mu2', 'mu1nu1')


class SOAP(Descriptor):
    """SOAP power spectra, with dscribe's names.

    Parameters
    ----------
    species : iterable of str or int
        All elements that will be met.
    r_cut : float, optional
        Cutoff radius of the radial basis, in Å; above 1 for ``gto``. Atoms count up to r_cut + 3.717 sigma. It may be
        left out where a weighting function says at which distance it has decayed.
    n_max : int
        Number of radial functions, at most 32.
    l_max : int
        Largest degree of the spherical harmonics, at most 20.
    sigma : float
        Width of the Gaussians, in Å.
    rbf : str
        Radial basis: ``gto`` (Gaussian-type orbitals) or ``polynomial``.
    weighting : mapping, optional
        ``function``: ``poly``, c (1 + 2 (r/r0)³ - 3 (r/r0)²)^m up to r0; ``pow``, c / (d + (r/r0)^m); ``exp``,
        c / (d + exp(-r/r0)); with its parameters ``c``, ``d``, ``m``, ``r0`` (Å), and ``threshold``, from which r_cut
        follows where it is not given. ``w0``: weight of an atom on the centre.
    average : str
        ``off``: a row per centre; ``inner``: expansion coefficients averaged over the centres; ``outer``: power spectra
        averaged over the centres.
    compression : mapping
        ``mode``: ``off``; ``crossover``, like species only; ``mu2``, all species in one density; ``mu1nu1``, each
        species with the sum of all. ``species_weighting``: None, or the weight of each of the species.
    periodic : bool
        Whether the periodic directions of a frame are respected; otherwise it is taken as isolated.
    dtype : str
        Of the rows: ``float64`` or ``float32``.

    Raises
    ------
    ValueError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        species: Iterable[int | str],
        r_cut: float | None = None,
        n_max: int = 8,
        l_max: int = 6,
        sigma: float = 1.0,
        rbf: Literal['gto', 'polynomial'] = 'gto',
        weighting: Mapping[str, Any] | None = None,
        average: Literal['off', 'inner', 'outer'] = 'off',
        compression: Mapping[str, Any] | None = None,
        periodic: bool = True,
        dtype: Literal['float64', 'float32'] = 'float64',
    ) -> None:
        super().__init__(species, average, periodic, dtype)
        kind, weights, decayed = _parse_weighting(weighting or {})
        self.r_cut = float(decayed if r_cut is None else r_cut)
        _check_bounds(self.r_cut, n_max, l_max, sigma, rbf)
        self.n_max, self.l_max, self.sigma, self.rbf = int(n_max), int(l_max), float(sigma), rbf
        self.compression, species_weights = self._parse_compression(compression or {})
        self.cutoff = self.r_cut + self.sigma * float(np.sqrt(-2 * np.log(DECAY)))
        functions = gto_functions if rbf == 'gto' else polynomial_functions
        table, intervals_per_A = tabulate(functions(self.r_cut, self.n_max, self.l_max, self.sigma), self.cutoff)
        mixing, pairs = _channels(self.compression, species_weights)
        self._basis = power_spectrum.SoapBasis(
            species=self.species,
            cutoff=self.cutoff,
            table=table,
            intervals_per_A=intervals_per_A,
            norms=_norms(self.l_max),
            mixing=mixing,
            pairs=pairs,
            weighting=kind,
            weights=weights,
            degrees=sized(self.l_max + 1),
            functions=sized(self.n_max),
            blocks=sized(-(-self.n_max // LANES)),
        )

    def get_number_of_features(self) -> int:
        """Return the length of a row."""
        return int(self._pair_ends()[-1])

    def get_location(self, species: Sequence[int | str]) -> slice:
        """Return where in a row the features of a pair of species stand.

        Raises
        ------
        ValueError
            If it is no pair, a species is not among those of the descriptor, or the compression leaves the pair out.
        """
        if len(species) != 2:
            raise ValueError(f'species={tuple(species)} are {len(species)}; give a pair of symbols or atomic numbers')
        numbers = [int(atomic_numbers_of([item])[0]) for item in species]
        self._check_species(np.array(numbers))
        low, high = sorted(int(np.flatnonzero(self.species == number)[0]) for number in numbers)
        mode = self.compression
        if mode in ('crossover', 'mu1nu1') and low != high:
            raise ValueError(f'compression {mode!r} has no features of the pair {tuple(species)}; ask for one species')
        if mode == 'mu2':
            index = 0
        elif mode == 'off':
            index = self._basis.pairs.tolist().index([low, high])
        else:
            index = low
        ends = self._pair_ends()
        return slice(int(ends[index - 1]) if index else 0, int(ends[index]))

    def _pair_ends(self) -> np.ndarray:
        """Return where the features of each pair of channels end, (P,)."""
        like = self._basis.pairs[:, 0] == self._basis.pairs[:, 1]
        return np.cumsum(np.where(like, self.n_max * (self.n_max + 1) // 2, self.n_max**2) * (self.l_max + 1))

    def _describe(
        self,
        positions: np.ndarray,
        numbers: np.ndarray,
        cells: np.ndarray,
        pbc: np.ndarray,
        centers: np.ndarray | None,
        rows: np.ndarray,
    ) -> np.ndarray:
        sites = center_positions(positions, centers)
        exact = rows if rows.dtype == np.float64 else np.empty(rows.shape)
        status = compiled_soap.calculate_soap_descriptors_fast(
            positions, numbers, cells, pbc, sites, self._basis, MODES[self.average], exact
        )
        if exact is not rows:
            rows[:] = exact
        return status

    def _parse_compression(self, compression: Mapping[str, Any]) -> tuple[str, np.ndarray]:
        """Return the mode and the weight of each species."""
        unknown = set(compression) - {'mode', 'species_weighting'}
        if unknown:
            raise ValueError(f"compression has the keys {sorted(unknown)}; it knows 'mode' and 'species_weighting'")
        mode = compression.get('mode', 'off')
        if mode not in _COMPRESSIONS:
            raise ValueError(f'compression mode {mode!r} must be one of {", ".join(_COMPRESSIONS)}')
        given = compression.get('species_weighting')
        if given is None:
            return mode, np.ones(len(self.species))
        weights = {int(atomic_numbers_of([item])[0]): float(value) for item, value in given.items()}
        if sorted(weights) != self.species.tolist() or not np.isfinite(list(weights.values())).all():
            raise ValueError(
                f'species_weighting {dict(given)} must give a finite weight to each of the species '
                f'{self.species.tolist()} and to no other'
            )
        return mode, np.array([weights[number] for number in self.species.tolist()])


def _check_bounds(r_cut: float, n_max: int, l_max: int, sigma: float, rbf: str) -> None:
    if rbf not in ('gto', 'polynomial'):
        raise ValueError(f"rbf={rbf!r} must be 'gto' or 'polynomial'")
    smallest = 1 if rbf == 'gto' else 0
    if not (np.isfinite(r_cut) and r_cut > smallest):
        raise ValueError(f'r_cut={r_cut} must be a finite length above {smallest} Å')
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f'sigma={sigma} must be a finite length above 0 Å')
    if not (1 <= n_max <= MAX_N and n_max == int(n_max)):
        raise ValueError(f'n_max={n_max} must be an integer between 1 and {MAX_N}')
    if not (0 <= l_max <= MAX_L and l_max == int(l_max)):
        raise ValueError(f'l_max={l_max} must be an integer between 0 and {MAX_L}')


def _parse_weighting(weighting: Mapping[str, Any]) -> tuple[int, np.ndarray, float]:
    """Return the code of the weighting function, its parameters (5,), and the distance at which it has decayed, in Å.

    That distance is NaN where there is no function: r_cut has to be given then.
    """
    name = weighting.get('function')
    if name is not None and name not in _WEIGHTINGS:
        raise ValueError(f'weighting function {name!r} must be one of {", ".join(_WEIGHTINGS)}')
    kind, needed = _WEIGHTINGS[name] if name is not None else (power_spectrum.NO_WEIGHTING, ())
    unknown = set(weighting) - {'function', 'w0', 'threshold', 'c', 'd', 'm', 'r0'}
    missing = [key for key in needed if key not in weighting]
    if unknown or missing:
        raise ValueError(f'weighting {dict(weighting)}: unknown keys {sorted(unknown)}, missing keys {missing}')
    values = {key: float(weighting[key]) for key in needed}
    if weighting.get('w0') is not None:
        values['w0'] = float(weighting['w0'])
    for key, value in values.items():
        if not (np.isfinite(value) and (value > 0 if key == 'r0' else value >= 0)):
            raise ValueError(f'weighting {key}={value} must be finite and {"above" if key == "r0" else "at least"} 0')
    c, d, m, r0 = values.get('c', 0.0), values.get('d', 0.0), values.get('m', 0.0), values.get('r0', 1.0)
    parameters = np.array([c, d, m, r0, values.get('w0', np.nan)])
    return kind, parameters, _decayed_at(name, c, d, m, r0, float(weighting.get('threshold', 1e-2)))


def _decayed_at(name: str | None, c: float, d: float, m: float, r0: float, threshold: float) -> float:
    """Return the distance at which a weighting function has fallen to the threshold, in Å; NaN without a function."""
    with np.errstate(all='ignore'):
        if name == 'poly':
            return r0
        if name == 'pow':
            return float(r0 * np.power(c / threshold - d, 1 / np.float64(m)))
        if name == 'exp':
            return float(r0 * np.log(c / threshold - d))
    return np.nan


def _channels(mode: str, species_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each species in each channel, (channels, S), and the pairs of channels, (P, 2)."""
    n_species = len(species_weights)
    single, total = np.diag(species_weights), species_weights[None]
    if mode == 'mu2':
        return total.copy(), np.array([[0, 0]])
    if mode == 'mu1nu1':
        return np.concatenate([single, total]), np.array([[z, n_species] for z in range(n_species)])
    if mode == 'crossover':
        return single, np.array([[z, z] for z in range(n_species)])
    return single, np.array([[z, other] for z in range(n_species) for other in range(z, n_species)])


def _norms(l_max: int) -> np.ndarray:
    """Return the norms of the harmonics times the root of the prefactor, sqrt(pi sqrt(8 / (2 l + 1)))."""
    degrees = np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)
    return harmonic_norms(l_max) * np.sqrt(np.pi * np.sqrt(8 / (2 * degrees + 1)))
