"""MACE molecular dynamics of many replicas; the frames stay on the computer, the manifest comes back."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.frames import MANIFEST
from aiida_mlip_autopipe.science.parameters import DynamicsParameters

from .worker_job import WorkerCalculation

__all__ = ['MaceMdCalculation']


class MaceMdCalculation(WorkerCalculation):
    """Replicas of the seed structures at each temperature and pressure of the grid."""

    STAGE = 'md'
    PARAMETERS = DynamicsParameters
    RETRIEVED = (MANIFEST,)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.input('potential', valid_type=PotentialData, help='The potential that drives the dynamics.')
        spec.input('seeds', valid_type=FramesData, help='The structures to start from.')
        spec.input(
            'job_index',
            valid_type=orm.Int,
            default=lambda: orm.Int(0),
            serializer=orm.to_aiida_type,
            help='Which share of the replicas this job runs.',
        )
        spec.input(
            'n_jobs',
            valid_type=orm.Int,
            default=lambda: orm.Int(1),
            serializer=orm.to_aiida_type,
            help='Over how many jobs the replicas are spread.',
        )
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.mace_md'
        spec.inputs.validator = _knows_the_elements
        spec.output('manifest', valid_type=orm.Dict, help='The shards: frames, bytes, sha256, replica, seed, T, guard.')

    @classmethod
    def is_valid_cache(cls, node: orm.CalcJobNode) -> bool:  # type: ignore[override]
        """Refuse a job whose frames are no longer on the computer: its successors would find an empty folder."""
        return super().is_valid_cache(node) and _frames_are_there(node)

    def worker_files(self) -> dict[str, Any]:
        """Return the names of the potential and the seeds."""
        return {'potential': self.file_name('potential'), 'seeds': self.file_name('seeds')}

    def worker_arguments(self) -> dict[str, Any]:
        """Return the share of the replicas."""
        return {'job_index': self.inputs.job_index.value, 'n_jobs': self.inputs.n_jobs.value}


def _frames_are_there(node: orm.CalcJobNode) -> bool:
    """Return whether the folder of a finished job still holds its manifest."""
    if not node.is_finished_ok:
        return True
    remote = node.outputs.remote_folder
    if remote.is_cleaned:
        return False
    try:
        return MANIFEST in remote.listdir()
    except OSError:
        return False


def _knows_the_elements(inputs: dict[str, Any], _namespace: Any) -> str | None:
    if 'potential' not in inputs or 'seeds' not in inputs:
        return None
    unknown = sorted(set(inputs['seeds'].elements) - set(inputs['potential'].elements))
    if unknown:
        return (
            f'potential: knows {", ".join(inputs["potential"].elements)}, but the seeds hold {", ".join(unknown)}; '
            'choose a potential for these elements, or bootstrap one'
        )
    return None
