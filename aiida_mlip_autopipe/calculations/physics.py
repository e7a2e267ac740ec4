"""Physics that a potential must share with DFT."""

from __future__ import annotations

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.parameters import PhysicsParameters

__all__ = ['PhysicsCalculation']


class PhysicsCalculation(WorkerCalculation):
    """Compare properties of a potential with those of the labels, and run it."""

    STAGE = 'physics'
    PARAMETERS = PhysicsParameters
    FIGURES_FOLDER = 'figures'
    RETRIEVED = (FIGURES_FOLDER,)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.input('potential', valid_type=PotentialData, help='The potential to check.')
        spec.input(
            'frames',
            valid_type=FramesData,
            help='The structures from physics_structures with their labels, including the crystal.',
        )
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.physics'
        spec.output('checks', valid_type=orm.Dict, help='A table for each check, and whether all passed.')
        spec.output('figures', valid_type=orm.FolderData, help='Figures (SVG), and their data (JSON).')

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the potential and the frames."""
        return {'potential': self.file_name('potential'), 'frames': self.file_name('frames')}
