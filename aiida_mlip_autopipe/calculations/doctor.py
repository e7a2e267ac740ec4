"""What a computer offers the worker: the first job to run there."""

from __future__ import annotations

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.pipeline.exit_codes import PROBE_FAILED, add_exit_codes
from aiida_mlip_autopipe.science.parameters import DoctorParameters

__all__ = ['DoctorCalculation']


class DoctorCalculation(WorkerCalculation):
    """Versions, cores, memory, GPUs, the engine that would be taken, the time of an MD step, the speed of the disk."""

    STAGE = 'doctor'
    PARAMETERS = DoctorParameters

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.inputs['parameters'].default = lambda: orm.Dict(DoctorParameters().model_dump(mode='json'))
        spec.inputs['parameters'].required = False
        spec.input(
            'potential',
            valid_type=PotentialData,
            required=False,
            help='The potential used to time MD steps; by default a small untrained MACE for silicon.',
        )
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.doctor'
        spec.output('report', valid_type=orm.Dict, help='Results, failed tests, findings, suggested options.')
        add_exit_codes(spec, PROBE_FAILED)

    @classmethod
    def is_valid_cache(cls, node: orm.CalcJobNode) -> bool:  # type: ignore[override]
        """Refuse: a computer changes, and a speed is measured again each time."""
        return False

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the name of the potential, if there is one."""
        return {'potential': self.file_name('potential')} if 'potential' in self.inputs else {}

    def worker_arguments(self) -> dict[str, object]:
        """Return the scheduler of the computer: what is found is told in its words."""
        return {'scheduler': self.inputs.code.computer.scheduler_type}
