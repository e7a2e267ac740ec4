"""How the physics checks look: equation of state, phonon density of states, total energy, radial distribution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.science.drawing import COLOURS, Drawing, write_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['write_physics_figures']

POTENTIAL, REFERENCE = COLOURS[0], COLOURS[1]


def write_physics_figures(figures: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Draw the ``figures`` of `check_physics`, and write ``figures.json`` beside them; return all paths."""
    return write_figures(figures, DRAWINGS, folder)


def _draw_equation_of_state(axes: Axes, shown: Mapping[str, Any]) -> None:
    sides = (('reference', 'DFT', REFERENCE, 's', '--'), ('potential', 'potential', POTENTIAL, 'o', '-'))
    for side, label, colour, marker, line in sides:
        axes.plot(shown['curve_volumes'], shown[side]['curve'], line, color=colour)
        axes.plot(shown['volumes'], shown[side]['energies'], marker, color=colour, label=label)
    axes.set(xlabel='volume (Å³/atom)', ylabel='energy above the minimum (eV/atom)', title='Equation of state')
    axes.legend()


def _draw_phonons(axes: Axes, shown: Mapping[str, Any]) -> None:
    axes.plot(shown['frequencies'], shown['reference'], '--', color=REFERENCE, label='DFT')
    axes.plot(shown['frequencies'], shown['potential'], '-', color=POTENTIAL, label='potential')
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel='frequency (THz); imaginary ones negative',
        ylabel='density of states (1/THz)',
        title='Phonons',
    )
    axes.legend()


def _draw_nve(axes: Axes, shown: Mapping[str, Any]) -> None:
    axes.plot(shown['times_ps'], shown['energies'], color=POTENTIAL, linewidth=1)
    axes.set(xlabel='time (ps)', ylabel='change of the total energy (meV/atom)', title='Without a thermostat')


def _draw_stability(axes: Axes, shown: Mapping[str, Any]) -> None:
    axes.plot(shown['r_A'], shown['g'], color=POTENTIAL)
    axes.set_ylim(bottom=0)
    axes.set(xlabel='distance (Å)', ylabel='radial distribution function', title='Constant temperature')


DRAWINGS: dict[str, Drawing] = {
    'equation_of_state': _draw_equation_of_state,
    'phonons': _draw_phonons,
    'nve': _draw_nve,
    'stability': _draw_stability,
}
