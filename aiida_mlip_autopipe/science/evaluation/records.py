"""The errors of a potential as they are kept, in plain JSON: over all frames, by group, and beside its committee."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

__all__ = [
    'COMPARED',
    'ERROR_WORDS',
    'STANDARD_ERRORS',
    'Breakdown',
    'Calibration',
    'DrawnPhysics',
    'ErrorKey',
    'Errors',
    'FrameErrors',
    'Metrics',
    'Physics',
    'Row',
]


StandardErrorKey = Literal[
    'energy_rmse_standard_error_meV', 'force_rmse_standard_error_meV_A', 'stress_rmse_standard_error_GPa'
]
ErrorKey = Literal['energy_rmse_meV', 'force_rmse_meV_A', 'stress_rmse_GPa']
"""The errors that a potential is judged by."""
ERROR_WORDS: dict[ErrorKey, tuple[str, str, str]] = {
    'energy_rmse_meV': ('energy', 'meV/atom', '{:.2f}'),
    'force_rmse_meV_A': ('forces', 'meV/Å', '{:.1f}'),
    'stress_rmse_GPa': ('stress', 'GPa', '{:.3f}'),
}
"""The name of each, its unit, and the digits it is told with."""
STANDARD_ERRORS: dict[ErrorKey, StandardErrorKey] = {
    'energy_rmse_meV': 'energy_rmse_standard_error_meV',
    'force_rmse_meV_A': 'force_rmse_standard_error_meV_A',
    'stress_rmse_GPa': 'stress_rmse_standard_error_GPa',
}
"""How uncertain each is, as the test set has few trajectories; None with one of them."""


class ForceErrors(TypedDict):
    """Errors of the forces; ``force_slope`` is that of predicted over true ones, None where all true ones vanish."""

    force_rmse_meV_A: float
    force_mae_meV_A: float
    force_slope: float | None


class Errors(ForceErrors):
    """Errors on some frames: energies in meV/atom; None where no frame has a stress, or one frame tells no spread."""

    n_frames: int
    n_atoms: int
    energy_rmse_meV: float
    energy_rmse_standard_error_meV: float | None
    energy_mae_meV: float
    force_rmse_standard_error_meV_A: float | None
    stress_rmse_GPa: float | None
    stress_rmse_standard_error_GPa: float | None
    stress_mae_GPa: float | None


class ElementErrors(ForceErrors):
    """Errors of the forces on the atoms of an element."""

    n_frames: int
    n_atoms: int


class Calibration(TypedDict):
    """The disagreement of a committee beside the errors; see `calibrate`."""

    n_frames: int
    factor: float | None
    rank_correlation: float | None


class FrameErrors(Errors):
    """The errors over all frames, and what the disagreement of a committee meant; None without one."""

    calibration: Calibration | None


class Breakdown(TypedDict):
    """The errors by group of frames; see `breakdown`."""

    by_element: dict[str, ElementErrors]
    by_temperature: dict[str, Errors]
    by_pressure: dict[str, Errors]
    by_origin: dict[str, Errors]
    by_config_type: dict[str, Errors]
    by_split: dict[str, Errors]


class Metrics(FrameErrors, Breakdown):
    """What an evaluation keeps: the errors over all frames, and by group."""


Compared = Literal['value', 'reference', 'difference', 'tolerance']
COMPARED: tuple[Compared, ...] = get_args(Compared)
"""What a table of the physics checks tells of a row."""


class Row(TypedDict):
    """A property: ``value`` of the potential, ``reference`` of DFT, the error bar of their difference; see `row`."""

    name: str
    value: float | None
    reference: float | None
    difference: float | None
    uncertainty: float | None
    tolerance: float | None
    passed: bool | None
    unit: str


class CheckOutcome(TypedDict):
    """A physics check; ``passed`` is None where it could not be judged, ``uncertainty`` tells of the error bars."""

    passed: bool | None
    rows: list[Row]
    uncertainty: str
    note: str
    data: dict[str, object]


class Physics(TypedDict):
    """The physics checks by name; False if one failed, None if one could not be judged."""

    passed: bool | None
    checks: dict[str, CheckOutcome]


class DrawnPhysics(Physics):
    """The physics checks, and what the figure of each shows."""

    figures: dict[str, dict[str, object]]
