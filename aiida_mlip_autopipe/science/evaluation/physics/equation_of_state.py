"""Energy against volume: equilibrium volume, bulk modulus and its derivative.

The third-order equation of state of F. Birch (Phys. Rev. 71, 809 (1947)) is a cubic polynomial in V^(-2/3), so it is
fitted by linear least squares, as in K. Lejaeghere et al. (Crit. Rev. Solid State Mater. Sci. 39, 1 (2014)). The
fractional coordinates stay as they are: where symmetry does not fix them, the crystal is stiffer than a relaxed one, on
both sides alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units

from aiida_mlip_autopipe.science.evaluation.label_consistency import RAISE
from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Check,
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    jackknife,
    percent_of,
    row,
    strained,
)
from aiida_mlip_autopipe.science.evaluation.physics.crystal import strained_crystal, symmetry_of
from aiida_mlip_autopipe.science.evaluation.physics.figures import POTENTIAL, REFERENCE
from aiida_mlip_autopipe.science.evaluation.physics.volume_curve import birch_murnaghan, curve_doubts
from aiida_mlip_autopipe.science.evaluation.records import Row
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['CHECK']

MIN_VOLUMES = 5
N_CURVE = 60


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return the crystal at each volume but its own."""
    change = parameters.max_volume_strain
    ratios = np.linspace(1 - change, 1 + change, parameters.n_volumes)
    return [
        strained(
            strained_crystal(crystal, ratio ** (1 / 3) * np.eye(3)),
            'equation_of_state',
            crystal,
            volume_ratio=float(ratio),
        )
        for ratio in np.delete(ratios, parameters.n_volumes // 2)
    ]


def judge(context: Context) -> Judgement:
    """Compare the two fits."""
    frames = [*context.frames('pristine'), *context.frames('equation_of_state')]
    if len(frames) < MIN_VOLUMES:
        raise MissingLabelsError(
            f'{len(frames)} of {context.parameters.n_volumes} volumes have a label: {MIN_VOLUMES} needed'
        )
    frames.sort(key=lambda atoms: atoms.get_volume())
    n_atoms = len(context.pristine)
    volumes = np.array([atoms.get_volume() for atoms in frames]) / n_atoms
    predicted, reference = (_energies(frames, side) / n_atoms for side in context.sides)

    def difference(kept: np.ndarray) -> np.ndarray:
        return birch_murnaghan(volumes[kept], predicted[kept]) - birch_murnaghan(volumes[kept], reference[kept])

    fits = [birch_murnaghan(volumes, energies) for energies in (predicted, reference)]
    errors = jackknife(difference, len(frames))
    notes = [
        f'the minimum of {side} is outside of the volumes'
        for side, fit in zip(('the potential', 'DFT'), fits, strict=True)
        if not volumes[0] <= fit[0] <= volumes[-1]
    ]
    if doubts := curve_doubts(volumes, reference, _pressures(frames, context.reference)):
        notes.append(f'{"; ".join(doubts)}: {RAISE}')
    return Judgement(
        rows=_rows(context, volumes, fits, errors),
        uncertainty='jackknife: each volume left out of both fits in turn',
        figure=_figure(volumes, (predicted, reference), fits),
        note='; '.join(notes),
    )


def _energies(frames: list[Atoms], side: Mapping[str, Label]) -> np.ndarray:
    return np.array([side[atoms.info['frame_id']].energy for atoms in frames])


def _pressures(frames: list[Atoms], side: Mapping[str, Label]) -> np.ndarray:
    """Return the pressure of each frame, in GPa."""
    return np.array([-side[atoms.info['frame_id']].stress[:3].mean() / units.GPa for atoms in frames])


def _limits(parameters: PhysicsParameters, volumes: np.ndarray, reference: np.ndarray) -> tuple[float | None, ...]:
    """Return the tolerances, in percent, of volume and bulk modulus; none if DFT's are extrapolated."""
    if not volumes[0] <= reference[0] <= volumes[-1]:
        return None, None
    return parameters.max_volume_error_percent, parameters.max_bulk_modulus_error_percent


def _rows(context: Context, volumes: np.ndarray, fits: list[np.ndarray], errors: np.ndarray) -> list[Row]:
    parameters, limits = context.parameters, _limits(context.parameters, volumes, fits[1])
    (volume, modulus, derivative), (volume_0, modulus_0, derivative_0) = (map(_finite, fit[:3]) for fit in fits)
    error_volume, error_modulus, error_derivative = map(_finite, errors[:3])
    rows = [
        row(
            'volume', 'Å³/atom', volume, volume_0,
            uncertainty=error_volume, tolerance=percent_of(limits[0], volume_0),
        ),
        row(
            'bulk_modulus', 'GPa', _in_gpa(modulus), _in_gpa(modulus_0), uncertainty=_in_gpa(error_modulus),
            tolerance=percent_of(limits[1], _in_gpa(modulus_0)),
        ),
        row('bulk_modulus_derivative', '', derivative, derivative_0, uncertainty=error_derivative),
    ]  # fmt: skip
    symmetry = symmetry_of(context.pristine, parameters)
    if symmetry.number >= 195 and volume is not None and volume_0 is not None:
        n_atoms = len(symmetry.std_types)
        edge, edge_0 = (n_atoms * volume) ** (1 / 3), (n_atoms * volume_0) ** (1 / 3)
        error = None if error_volume is None else edge_0 * error_volume / volume_0 / 3
        rows.insert(1, row('lattice_constant', 'Å', edge, edge_0, uncertainty=error))
    return rows


def _figure(volumes: np.ndarray, energies: tuple[np.ndarray, np.ndarray], fits: list[np.ndarray]) -> dict[str, Any]:
    """Return points and curves; each side counts from its own minimum, or lowest point."""
    smooth = np.linspace(volumes[0], volumes[-1], N_CURVE)
    sides = {}
    for name, values, fit in zip(('potential', 'reference'), energies, fits, strict=True):
        zero = fit[3] if np.isfinite(fit[3]) else values.min()
        curve = np.polynomial.Polynomial.fit(volumes ** (-2 / 3), values, 3)(smooth ** (-2 / 3))
        sides[name] = {'energies': (values - zero).tolist(), 'curve': (curve - zero).tolist()}
    return {'volumes': volumes.tolist(), 'curve_volumes': smooth.tolist(), **sides}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _in_gpa(value: float | None) -> float | None:
    return None if value is None else value / units.GPa


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        'The equilibrium volume and the bulk modulus were compared with DFT by an equation of state of third order at '
        f'{parameters.n_volumes} volumes within {100 * parameters.max_volume_strain:g} %.'
    )


def draw(axes: Axes, shown: Mapping[str, Any]) -> None:
    """Draw the figure."""
    sides = (('reference', 'DFT', REFERENCE, 's', '--'), ('potential', 'potential', POTENTIAL, 'o', '-'))
    for side, label, colour, marker, line in sides:
        axes.plot(shown['curve_volumes'], shown[side]['curve'], line, color=colour)
        axes.plot(shown['volumes'], shown[side]['energies'], marker, color=colour, label=label)
    axes.set(xlabel='volume (Å³/atom)', ylabel='energy above the minimum (eV/atom)', title='Equation of state')
    axes.legend()


CHECK = Check(
    structures,
    judge,
    sentence,
    about='Energy against volume: equilibrium volume, bulk modulus and its derivative.',
    references=(Reference('F. Birch, Phys. Rev. 71, 809 (1947)', 'https://doi.org/10.1103/PhysRev.71.809'),),
    draw=draw,
    rank=0,
)
