"""MACE molecular dynamics of many replicas; the frames stay on the computer, the manifest comes back."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.pipeline.exit_codes import DISK_FULL, NOT_COMPLETE, OUT_OF_MEMORY, add_exit_codes
from aiida_mlip_autopipe.science.frames import MANIFEST
from aiida_mlip_autopipe.science.parameters import DynamicsParameters

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
        spec.input('potential', valid_type=PotentialData, help='The potential that runs the dynamics.')
        spec.input('seeds', valid_type=FramesData, help='The starting structures.')
        spec.input(
            'job_index',
            valid_type=orm.Int,
            default=lambda: orm.Int(0),
            serializer=orm.to_aiida_type,
            help='Index of the share of the replicas that this job runs.',
        )
        spec.input(
            'n_jobs',
            valid_type=orm.Int,
            default=lambda: orm.Int(1),
            serializer=orm.to_aiida_type,
            help='Number of jobs over which the replicas are distributed.',
        )
        spec.input_namespace(
            'committee',
            valid_type=PotentialData,
            required=False,
            help='Other committee members: the disagreement of the forces is stored with each frame.',
        )
        spec.input(
            'continue_from',
            valid_type=orm.RemoteData,
            required=False,
            help='The folder of an interrupted job of the same replicas, which this one continues.',
        )
        spec.input(
            'metadata.options.batch_divisor',
            valid_type=int,
            required=False,
            help='Reduce the number of simultaneous replicas by this factor: for a job that ran out of memory.',
        )
        spec.input(
            'metadata.options.collect_only',
            valid_type=bool,
            required=False,
            help='Run nothing; only list the frames that the interrupted job left.',
        )
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.mace_md'
        spec.inputs.validator = _knows_the_elements
        spec.output(
            'manifest',
            valid_type=orm.Dict,
            help='Replicas (seed, conditions, steps, frames, guard) and their shards (bytes, sha256); also for a job '
            'that failed, if it left frames.',
        )
        add_exit_codes(spec, DISK_FULL, NOT_COMPLETE, OUT_OF_MEMORY)

    @classmethod
    def is_valid_cache(cls, node: orm.CalcJobNode) -> bool:  # type: ignore[override]
        """Refuse a job whose frames are no longer on the computer: its successors would find an empty folder."""
        return super().is_valid_cache(node) and _frames_are_there(node)

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the potentials, the seeds and the folder to go on from."""
        files: dict[str, str | list[str]] = {'potential': self.file_name('potential'), 'seeds': self.file_name('seeds')}
        if committee := self.files_of('committee'):
            files['committee'] = list(committee)
        if 'continue_from' in self.inputs:
            files['parent'] = self.PARENT_FOLDER
        return files

    def worker_arguments(self) -> dict[str, object]:
        """Return the share of the replicas, the wall time and what an earlier attempt taught."""
        options = self.inputs.metadata.options
        arguments = {'job_index': self.inputs.job_index.value, 'n_jobs': self.inputs.n_jobs.value}
        names = {
            'max_wallclock_seconds': 'wallclock_s',
            'batch_divisor': 'batch_divisor',
            'collect_only': 'collect_only',
        }
        return arguments | {name: options[option] for option, name in names.items() if option in options}


def _frames_are_there(node: orm.CalcJobNode) -> bool:
    """Return whether the folder of a finished job still holds its manifest."""
    if not (node.is_finished_ok or node.exit_status == NOT_COMPLETE.status):
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
    potentials = {'potential': inputs['potential']}
    potentials |= {f'committee.{name}': node for name, node in inputs.get('committee', {}).items()}
    for name, potential in potentials.items():
        if unknown := sorted(set(inputs['seeds'].elements) - set(potential.elements)):
            return (
                f'{name}: knows {", ".join(potential.elements)}, but the seeds contain {", ".join(unknown)}; '
                'choose a potential for these elements, or bootstrap one'
            )
    return None
