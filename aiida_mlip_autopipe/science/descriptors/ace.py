"""ACE: invariant correlations of an atom's neighbours, of body order 2 to 5.

The atomic cluster expansion describes the neighbours of an atom by densities, A_Znlm = sum_j g_n(r_j) Y_lm(r_j) over
the neighbours of element Z, and multiplies up to four of them into invariants. Two give a SOAP power spectrum of other
radial functions; three and four see what distances and angles leave open. What is multiplied with what, and in which
convention, is :mod:`~aiida_mlip_autopipe.science.descriptors.couplings`.

Values are those of python-ace's B functions with ChebExpCos radial functions. An atom's own element is not among its
features: descriptors compare surroundings, and a frame's composition shows in all of them.

Source: R. Drautz, Phys. Rev. B 99, 014104 (2019); Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from aiida_mlip_autopipe.science.descriptors.base import Descriptor, center_positions
from aiida_mlip_autopipe.science.descriptors.compiled import ace as compiled_ace
from aiida_mlip_autopipe.science.descriptors.compiled.soap import MODES
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES, sized
from aiida_mlip_autopipe.science.descriptors.couplings import (
    MAX_COUPLED_DEGREE,
    Function,
    list_functions,
    plan_products,
)
from aiida_mlip_autopipe.science.descriptors.radial import harmonic_norms, tabulate

__all__ = ['ACE', 'chebexpcos']

MAX_ORDER, MAX_N = 4, 32

#: Largest degree for each order: that of the harmonics, and of the couplings for one and for two pairs.
MAX_L = (0, 20, MAX_COUPLED_DEGREE, MAX_COUPLED_DEGREE // 2)

#: With a larger sum of n - 1 + l there are pairs that couple to a degree beyond.
MAX_DEGREE = 2 * MAX_COUPLED_DEGREE + 1

#: What is taken where neither n_max, l_max nor max_degree is given.
DEFAULT_N, DEFAULT_L = (8, 4, 2, 1), (0, 4, 2, 1)

#: How fast the scaled distance grows towards the atom, over the cutoff.
DECAY_RATE = 5.25

#: Largest error of the tabulated radial functions, of their largest value. They are steepest near r = 0, where no
#: neighbour is: the error is bounded beyond a fifth of the cutoff.
TOLERANCE, NEAREST = 1e-10, 0.2


class ACE(Descriptor):
    """The atomic cluster expansion's invariant functions.

    Features are sorted by correlation order, then by the channels (Z, n, l) of the densities in lexicographic order,
    then by the degree L to which pairs of four densities are coupled; ``functions`` lists them. They are complete and
    linearly independent as polynomials of the densities.

    Parameters
    ----------
    species : iterable of str or int
        All elements that will be met.
    r_cut : float
        Cutoff radius, in Å, where the radial functions vanish with their first derivative.
    correlation_order : int
        1 to 4: neighbours that are correlated at once. The body order is one more.
    max_degree : int or sequence of int, optional
        Keep functions whose sum of n - 1 + l over the densities is at most this, for all orders or for each. In place
        of n_max and l_max.
    n_max : int or sequence of int, optional
        Number of radial functions, for all orders or for each from the first; 8, 4, 2, 1 unless given.
    l_max : int or sequence of int, optional
        Largest degree of the spherical harmonics, likewise; order 1 has 0 whatever is given. 0, 4, 2, 1 unless given.
    radial : str
        ``chebexpcos``, see :func:`chebexpcos`.
    average : str
        ``off``: a row per centre; ``inner``: densities averaged over the centres before they are multiplied; ``outer``:
        functions averaged over the centres.
    periodic : bool
        Whether the periodic directions of a frame are respected; otherwise it is taken as isolated.
    dtype : str
        Of the rows: ``float64`` or ``float32``.

    Attributes
    ----------
    functions : list of Function
        The channels and the intermediate degree of each feature.

    Raises
    ------
    ValueError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        species: Iterable[int | str],
        r_cut: float = 5.0,
        correlation_order: int = 3,
        max_degree: int | Sequence[int] | None = None,
        n_max: int | Sequence[int] | None = None,
        l_max: int | Sequence[int] | None = None,
        radial: Literal['chebexpcos'] = 'chebexpcos',
        average: Literal['off', 'inner', 'outer'] = 'off',
        periodic: bool = True,
        dtype: Literal['float64', 'float32'] = 'float64',
    ) -> None:
        super().__init__(species, average, periodic, dtype)
        if radial != 'chebexpcos':
            raise ValueError(f"radial={radial!r} must be 'chebexpcos'")
        if not (np.isfinite(r_cut) and r_cut > 0):
            raise ValueError(f'r_cut={r_cut} must be a finite length above 0 Å')
        if correlation_order not in range(1, MAX_ORDER + 1):
            raise ValueError(f'correlation_order={correlation_order} must be an integer from 1 to {MAX_ORDER}')
        self.r_cut, self.correlation_order, self.radial = float(r_cut), int(correlation_order), radial
        self.n_max, self.l_max, self.max_degree = _sizes(self.correlation_order, n_max, l_max, max_degree)
        self.functions: list[Function] = list_functions(self.species.tolist(), self.n_max, self.l_max, self.max_degree)
        self._basis = self._make_basis()

    def get_number_of_features(self) -> int:
        """Return the length of a row."""
        return len(self.functions)

    def _make_basis(self) -> compiled_ace.AceBasis:
        channels = {channel for function in self.functions for channel in function.channels}
        n_max = max(channel.n for channel in channels)
        l_max = max(channel.l for channel in channels)
        blocks = -(-n_max // LANES)
        products = plan_products(self.functions, self.species.tolist(), (l_max + 1) ** 2, blocks * LANES)
        table, intervals_per_A = tabulate(
            lambda r: chebexpcos(r, self.r_cut, n_max)[:, None], self.r_cut, TOLERANCE, NEAREST * self.r_cut
        )
        return compiled_ace.AceBasis(
            species=self.species,
            cutoff=self.r_cut,
            table=table,
            intervals_per_A=intervals_per_A,
            norms=np.sqrt(4 * np.pi) * harmonic_norms(l_max)[products.inputs // (blocks * LANES) % (l_max + 1) ** 2],
            **asdict(products),
            degrees=sized(l_max + 1),
            blocks=sized(blocks),
        )

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
        return compiled_ace.calculate_ace_descriptors_fast(
            positions, numbers, cells, pbc, sites, self._basis, MODES[self.average], rows
        )


def chebexpcos(r: np.ndarray, r_cut: float, n_max: int) -> np.ndarray:
    """Return python-ace's ChebExpCos functions g_n(r) for n from 1 to n_max, (R, n_max).

    With ``x = 1 - 2 (exp(-lambda (r / r_cut - 1)) - 1) / (exp(lambda) - 1)``, lambda = 5.25, and Chebyshev polynomials
    T: ``g_1 = (1 + cos(pi r / r_cut)) / 2``, ``g_n = (1 - T_n-1(x)) (1 + cos(pi r / r_cut)) / 4``. python-ace's further
    cutoff function within ``dcut`` of r_cut is left out: these vanish smoothly by themselves.

    Parameters
    ----------
    r : numpy.ndarray
        (R,), from 0 to r_cut, in Å.
    r_cut : float
        Cutoff radius, in Å.
    n_max : int
        How many.
    """
    x = 1 - 2 * np.expm1(-DECAY_RATE * (r / r_cut - 1)) / np.expm1(DECAY_RATE)
    chebyshev = np.cos(np.arange(n_max) * np.arccos(np.clip(x, -1, 1))[:, None])
    values = 0.25 * (1 - chebyshev)
    values[:, 0] = 0.5
    return values * (1 + np.cos(np.pi * r / r_cut))[:, None]


def _sizes(
    order: int,
    n_max: int | Sequence[int] | None,
    l_max: int | Sequence[int] | None,
    max_degree: int | Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]:
    """Return n_max, l_max and max_degree by order."""
    if max_degree is None:
        given = DEFAULT_L[:order] if l_max is None else l_max
        highest = MAX_L if isinstance(given, Iterable) else (MAX_L[1], *MAX_L[1:])
        radial = _per_order('n_max', DEFAULT_N[:order] if n_max is None else n_max, order, 1, (MAX_N,) * order)
        degrees = _per_order('l_max', given, order, 0, highest)
        return radial, (0, *degrees[1:]), None
    if n_max is not None or l_max is not None:
        raise ValueError(
            f'max_degree={max_degree} is given with n_max={n_max}, l_max={l_max}; leave out one or the other'
        )
    bounds = _per_order('max_degree', max_degree, order, 0, (MAX_DEGREE,) * order)
    # Parity and the triangle inequality leave no density a degree above half of the sum.
    return tuple(bound + 1 for bound in bounds), (0, *(bound // 2 for bound in bounds[1:])), bounds


def _per_order(name: str, value: int | Sequence[int], order: int, low: int, highest: Sequence[int]) -> tuple[int, ...]:
    """Return one value per order, within the bounds."""
    values: list[Any] = list(value) if isinstance(value, Iterable) else [value] * order
    if len(values) != order:
        raise ValueError(
            f'{name}={value} has {len(values)} values for correlation_order={order}; give one for each order'
        )
    for number, (each, high) in enumerate(zip(values, highest, strict=False), start=1):
        if not (each == int(each) and low <= each <= high):
            raise ValueError(f'{name}={value}: for order {number} it must be an integer between {low} and {high}')
    return tuple(int(each) for each in values)
