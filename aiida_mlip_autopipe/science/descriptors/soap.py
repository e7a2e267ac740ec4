"""SOAP as dscribe defines it, for stacked frames.

The Smooth Overlap of Atomic Positions describes an atom's surroundings by the power spectrum of the density of its
neighbours, one Gaussian of width sigma each, expanded in spherical harmonics and Gaussian-type orbitals that are
orthonormalised after Löwdin. Features agree with dscribe 2.1 in value and order, with one difference: positions are
wrapped first, so that displacing an atom by a lattice vector changes nothing.

Source: A. P. Bartók, R. Kondor and G. Csányi, Phys. Rev. B 87, 184115 (2013); L. Himanen et al., Comput. Phys. Commun.
247, 106949 (2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aiida_mlip_autopipe.science.parameters import DescriptorParameters

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.science.frames import FrameChunk

__all__ = ['SOAP', 'describe', 'gto_basis']

#: Radial functions have decayed to this at their own radius, and so has a neighbour's Gaussian at the cutoff.
DECAY = 1e-3


def gto_basis(r_cut: float, n_max: int, l_max: int, sigma: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the radial basis in the form that the kernel reads.

    With ``a = linspace(1, r_cut, n_max)``, primitives r^l exp(-alpha_lk r²) decay to 1e-3 at a_k:
    ``alpha_lk = -ln(1e-3 / a_k^l) / a_k²``. Their overlap
    ``S_kk' = 1/2 Gamma(l + 3/2) (alpha_k + alpha_k')^(-l - 3/2)`` gives the Löwdin weights ``beta_l = S^(-1/2)``.
    The integral with a Gaussian of width sigma is analytic.

    Parameters
    ----------
    r_cut : float
        Cutoff radius of the basis, in Å.
    n_max, l_max : int
        Number of radial functions and largest degree.
    sigma : float
        Width of the Gaussians, in Å.

    Returns
    -------
    cutoff : float
        Distance up to which atoms count, in Å.
    exponents : numpy.ndarray
        (l_max + 1, n_max), in 1/Å².
    transforms : numpy.ndarray
        (l_max + 1, n_max, n_max): from primitives to orthonormal functions, with all prefactors.

    Raises
    ------
    ValueError
        If the primitives are too alike to be orthonormalised.
    """
    from scipy.linalg import inv, sqrtm
    from scipy.special import gamma

    eta = 1 / (2 * sigma**2)
    radii = np.linspace(1, r_cut, n_max)
    exponents = np.empty((l_max + 1, n_max))
    transforms = np.empty((l_max + 1, n_max, n_max))
    for degree in range(l_max + 1):
        alpha = -np.log(DECAY / radii**degree) / radii**2
        overlap = 0.5 * gamma(degree + 1.5) * np.add.outer(alpha, alpha) ** (-degree - 1.5)
        beta = sqrtm(inv(overlap))
        if np.iscomplexobj(beta) or not np.isfinite(beta).all():
            raise ValueError(
                f'n_max={n_max} radial functions inside r_cut={r_cut} Å are too alike to be orthonormalised '
                f'(at l={degree}); lower n_max or raise r_cut'
            )
        widening = 1 + alpha / eta
        exponents[degree] = alpha / widening
        transforms[degree] = beta * ((np.pi / eta) ** 1.5 * widening ** (-degree - 1.5))
    return float(r_cut + sigma * np.sqrt(-2 * np.log(DECAY))), exponents, transforms


def _atomic_numbers(species: Iterable[int | str]) -> np.ndarray:
    """Return the distinct atomic numbers of symbols or numbers, ascending."""
    from ase.data import atomic_numbers, chemical_symbols

    numbers = set()
    for item in species:
        number = atomic_numbers.get(item) if isinstance(item, str) else int(item)
        if number is None or not 0 < number < len(chemical_symbols):
            raise ValueError(f'species holds {item!r}, which is no element; give symbols or atomic numbers')
        numbers.add(number)
    if not numbers:
        raise ValueError('species is empty; give the elements of all frames that will be described')
    return np.array(sorted(numbers), dtype=np.int64)


class SOAP:
    """SOAP power spectra, with dscribe's names.

    Parameters
    ----------
    species : iterable of str or int
        All elements that will be met.
    r_cut : float
        Cutoff radius, in Å; above 1. Atoms count up to r_cut + 3.717 sigma.
    n_max : int
        Number of radial functions.
    l_max : int
        Largest degree of the spherical harmonics, at most 20.
    sigma : float
        Width of the Gaussians, in Å.
    average : str
        ``off``: a row per atom; ``inner``: expansion coefficients averaged over the atoms; ``outer``: power spectra
        averaged over the atoms.
    periodic : bool
        Whether the periodic directions of a frame are respected; otherwise it is taken as isolated.

    Raises
    ------
    ValueError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        species: Iterable[int | str],
        r_cut: float,
        n_max: int,
        l_max: int,
        sigma: float = 1.0,
        average: Literal['off', 'inner', 'outer'] = 'off',
        periodic: bool = True,
    ) -> None:
        if not (np.isfinite(r_cut) and r_cut > 1):
            raise ValueError(f'r_cut={r_cut} must be a finite length above 1 Å')
        if not (np.isfinite(sigma) and sigma > 0):
            raise ValueError(f'sigma={sigma} must be a finite length above 0 Å')
        if n_max < 1:
            raise ValueError(f'n_max={n_max} must be at least 1')
        if not 0 <= l_max <= 20:
            raise ValueError(f'l_max={l_max} must be between 0 and 20')
        if average not in ('off', 'inner', 'outer'):
            raise ValueError(f"average={average!r} must be 'off', 'inner' or 'outer'")
        self.species = _atomic_numbers(species)
        self.r_cut, self.n_max, self.l_max, self.sigma = float(r_cut), int(n_max), int(l_max), float(sigma)
        self.average, self.periodic = average, periodic
        self._cutoff, self._exponents, self._transforms = gto_basis(r_cut, n_max, l_max, sigma)

    def get_number_of_features(self) -> int:
        """Return the length of a row."""
        n_channels = len(self.species) * self.n_max
        return n_channels * (n_channels + 1) // 2 * (self.l_max + 1)

    def create(self, system: Atoms | Sequence[Atoms]) -> np.ndarray | list[np.ndarray]:
        """Describe one frame or several.

        Parameters
        ----------
        system : ase.Atoms or sequence of ase.Atoms
            Frames.

        Returns
        -------
        numpy.ndarray or list of numpy.ndarray
            One frame: (features,), or (N, features) with ``average='off'``. Several: stacked along a first axis; with
            ``average='off'`` and unequal numbers of atoms a list.

        Raises
        ------
        ValueError
            If a frame has an element that is not among the species, or periodic directions but no cell for them.
        """
        from ase import Atoms

        if isinstance(system, Atoms):
            return self._create_single(system)
        rows = [self._create_single(atoms) for atoms in system]
        return np.array(rows) if len({row.shape for row in rows}) == 1 else rows

    def _create_single(self, atoms: Atoms) -> np.ndarray:
        cell = atoms.cell.array
        if self.periodic and np.linalg.matrix_rank(cell[atoms.pbc]) < atoms.pbc.sum():
            raise ValueError(
                f'the frame has pbc={atoms.pbc.tolist()} but its cell {cell.tolist()} does not span these '
                'directions; set the cell or switch pbc off'
            )
        return self.create_stacked(atoms.positions[None], atoms.numbers, cell[None], atoms.pbc)[0]

    def create_stacked(
        self, positions: np.ndarray, numbers: np.ndarray, cells: np.ndarray, pbc: np.ndarray
    ) -> np.ndarray:
        """Describe the stacked frames of one trajectory.

        Parameters
        ----------
        positions : numpy.ndarray
            (T, N, 3), in Å.
        numbers : numpy.ndarray
            Atomic numbers (N,), the same in all frames.
        cells : numpy.ndarray
            (T, 3, 3), in Å.
        pbc : numpy.ndarray
            Periodic directions (3,).

        Returns
        -------
        numpy.ndarray
            (T, features), or (T, N, features) with ``average='off'``. Frames without a usable geometry (coordinates
            not finite or exploded, a cell without volume or collapsed) give NaN.

        Raises
        ------
        ValueError
            If an element is not among the species, there is no atom, or shapes do not match.
        """
        from aiida_mlip_autopipe.science.descriptors import numba_kernels

        positions = np.ascontiguousarray(positions, dtype=np.float64)
        numbers = np.ascontiguousarray(numbers, dtype=np.int64)
        cells = np.ascontiguousarray(cells, dtype=np.float64)
        flags = np.array(pbc, dtype=np.bool_) if self.periodic else np.zeros(3, dtype=np.bool_)
        self._check(positions, numbers, cells, flags)
        mode = {'off': numba_kernels.OFF, 'inner': numba_kernels.INNER, 'outer': numba_kernels.OUTER}[self.average]
        features = numba_kernels.calculate_soap_descriptors_fast(
            positions, numbers, cells, flags, self.species, self._cutoff, self._exponents, self._transforms, mode
        )
        return features if self.average == 'off' else features[:, 0]

    def _check(self, positions: np.ndarray, numbers: np.ndarray, cells: np.ndarray, pbc: np.ndarray) -> None:
        expected = (len(positions), len(numbers), 3)
        if positions.shape != expected or cells.shape != (len(positions), 3, 3) or pbc.shape != (3,):
            raise ValueError(
                f'shapes do not match: positions {positions.shape}, numbers {numbers.shape}, cells '
                f'{cells.shape}, pbc {pbc.shape}; give (T, N, 3), (N,), (T, 3, 3), (3,)'
            )
        if len(numbers) == 0:
            raise ValueError('the frames have no atoms; there is nothing to describe')
        missing = sorted(set(numbers.tolist()) - set(self.species.tolist()))
        if missing:
            raise ValueError(
                f'atomic numbers {missing} of the frames are not among species {self.species.tolist()}; add them there'
            )


def describe(
    chunks: Iterable[FrameChunk],
    species: Iterable[int | str],
    parameters: DescriptorParameters,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> np.ndarray:
    """Describe frames chunk by chunk: one row per frame, averaged over its atoms.

    Parameters
    ----------
    chunks : iterable of FrameChunk
        Frames of equal composition within a chunk, in order.
    species : iterable of str or int
        All elements of all chunks.
    parameters : DescriptorParameters
        Descriptor and its settings.
    progress : callable, optional
        Called after each chunk with ``{'frames_described': int}``.

    Returns
    -------
    numpy.ndarray
        (n_frames, features), float64; NaN in the rows of frames without a usable geometry.

    Raises
    ------
    ValueError
        If a chunk has an element that is not among the species.
    """
    soap = SOAP(
        species, parameters.r_cut, parameters.n_max, parameters.l_max, parameters.sigma, average=parameters.average
    )
    rows = [np.empty((0, soap.get_number_of_features()))]
    n_described = 0
    for chunk in chunks:
        rows.append(soap.create_stacked(chunk.positions, chunk.numbers, chunk.cells, chunk.pbc))
        n_described += len(rows[-1])
        if progress is not None:
            progress({'frames_described': n_described})
    return np.concatenate(rows)
