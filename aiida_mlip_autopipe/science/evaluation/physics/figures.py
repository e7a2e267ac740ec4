"""How the physics checks look: the drawing of each check that has one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiida_mlip_autopipe.science.drawing import COLOURS, write_figures
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS

__all__ = ['POTENTIAL', 'REFERENCE', 'write_physics_figures']

POTENTIAL, REFERENCE = COLOURS[0], COLOURS[1]


def write_physics_figures(figures: Mapping[str, Mapping[str, object]], folder: str | Path) -> list[Path]:
    """Draw the ``figures`` of `check_physics`, and write ``figures.json`` beside them; return all paths."""
    drawings = {name: check.draw for name, check in PHYSICS_CHECKS.items() if check.draw is not None}
    return write_figures(figures, drawings, folder)
