"""The exploration stage: MACE molecular dynamics, then DIRECT beside its frames."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain

from aiida_mlip_autopipe.calculations.direct_sampling import NOTHING_NEW
from aiida_mlip_autopipe.calculations.worker_job import validate_parameters
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, SamplingParameters

from .direct_sampling_base import DirectSamplingBaseWorkChain
from .mace_md_base import MaceMdBaseWorkChain

__all__ = ['ExplorerWorkChain']

SCRATCH_MISSING = 310


class ExplorerWorkChain(WorkChain):
    """Explore from seed structures with a potential and select the frames worth a label."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.input('worker_code', valid_type=orm.AbstractCode, help='mlip-autopipe-worker on the computer to use.')
        spec.input(
            'potential',
            valid_type=PotentialData,
            help='The potential that drives the dynamics, and describes the frames where the descriptor is mace.',
        )
        spec.input('seeds', valid_type=FramesData, help='The structures to start from.')
        spec.input(
            'dynamics',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_parameters(DynamicsParameters),
            help='The DynamicsParameters.',
        )
        spec.input(
            'sampling',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_parameters(SamplingParameters),
            help='The SamplingParameters.',
        )
        spec.input(
            'n_jobs',
            valid_type=orm.Int,
            default=lambda: orm.Int(1),
            serializer=orm.to_aiida_type,
            help='MD jobs over which the replicas are spread.',
        )
        spec.input_namespace(
            'known', valid_type=FramesData, required=False, help='Labelled sets: the selection keeps away from them.'
        )
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of the jobs.')
        spec.output(
            'candidates', valid_type=FramesData, required=False, help='The selected frames; missing if none is new.'
        )
        spec.output('selection', valid_type=orm.ArrayData, help='The selection table.')
        spec.output('report', valid_type=orm.Dict, help='What the sampling says of frames, clusters and coverage.')
        spec.outline(
            cls.run_dynamics,
            cls.inspect_dynamics,
            cls.run_sampling,
            cls.inspect_sampling,
        )
        spec.exit_code(
            310,
            'ERROR_SCRATCH_MISSING',
            invalidates_cache=True,
            message='The frames of an MD job are no longer on its computer: {message}',
        )
        spec.exit_code(320, 'ERROR_DYNAMICS_FAILED', message='No MD job finished: {message}')
        spec.exit_code(321, 'ERROR_SAMPLING_FAILED', message='The sampling failed: {message}')
        spec.exit_code(NOTHING_NEW, 'WARNING_NOTHING_NEW', message='{message}')

    def run_dynamics(self) -> ToContext:
        """Submit the MD jobs, each with its share of the replicas."""
        self.ctx.n_jobs = min(self.inputs.n_jobs.value, self.n_replicas())
        n_jobs = orm.Int(self.ctx.n_jobs)
        for index in range(self.ctx.n_jobs):
            node = self.submit(
                MaceMdBaseWorkChain,
                job={
                    **self.job_inputs(self.inputs.dynamics),
                    'potential': self.inputs.potential,
                    'seeds': self.inputs.seeds,
                    'job_index': orm.Int(index),
                    'n_jobs': n_jobs,
                },
                metadata={'call_link_label': f'md_{index}'},
            )
            self.to_context(**{f'md_{index}': node})
        self.report(f'{self.n_replicas()} replicas in {self.ctx.n_jobs} MD job(s)')

    def inspect_dynamics(self) -> ExitCode | None:
        """Go on with the MD jobs that finished, if there are any and their frames are still there."""
        jobs = {f'md_{index}': self.ctx[f'md_{index}'] for index in range(self.ctx.n_jobs)}
        failed = {name: node for name, node in jobs.items() if not node.is_finished_ok}
        for name, node in failed.items():
            self.report(f'{name} <{node.pk}> failed: {node.exit_message}')
        self.ctx.shards = {name: node.outputs.remote_folder for name, node in jobs.items() if name not in failed}
        if not self.ctx.shards:
            return self.exit_codes.ERROR_DYNAMICS_FAILED.format(message=next(iter(failed.values())).exit_message)
        for name, remote in self.ctx.shards.items():
            if remote.is_cleaned:
                return self.frames_are_gone(f'the folder of {name} was cleaned')
        return None

    def run_sampling(self) -> ToContext:
        """Submit the sampling beside the shards; the potential goes along only where the descriptor is its own.

        Otherwise the job would be another one for the cache with each new potential.
        """
        job = {**self.job_inputs(self.inputs.sampling), 'shards': self.ctx.shards}
        if SamplingParameters(**self.inputs.sampling.get_dict()).descriptor.kind == 'mace':
            job['potential'] = self.inputs.potential
        if 'known' in self.inputs:
            job['known'] = self.inputs.known
        return ToContext(
            sampling=self.submit(
                DirectSamplingBaseWorkChain,
                job=job,
                metadata={'call_link_label': 'sampling'},
            )
        )

    def inspect_sampling(self) -> ExitCode | None:
        """Hand on the candidates."""
        sampling = self.ctx.sampling
        if sampling.exit_status == SCRATCH_MISSING:
            return self.frames_are_gone(sampling.exit_message)
        if not sampling.is_finished_ok and sampling.exit_status != NOTHING_NEW:
            return self.exit_codes.ERROR_SAMPLING_FAILED.format(message=sampling.exit_message)
        self.out_many({name: sampling.outputs[name] for name in self.spec().outputs if name in sampling.outputs})
        if sampling.exit_status == NOTHING_NEW:
            return self.exit_codes.WARNING_NOTHING_NEW.format(message=sampling.exit_message)
        return None

    def frames_are_gone(self, message: str) -> ExitCode:
        """Make sure that no MD job without frames is ever taken from the cache again."""
        for remote in self.ctx.shards.values():
            remote.creator.base.caching.is_valid_cache = False
        return self.exit_codes.ERROR_SCRATCH_MISSING.format(message=message)

    def n_replicas(self) -> int:
        """Return the number of replicas: seeds x temperatures x pressures."""
        dynamics = DynamicsParameters(**self.inputs.dynamics.get_dict())
        n_pressures = len(dynamics.pressures_GPa) if dynamics.ensemble == 'npt' else 1
        return self.inputs.seeds.n_frames * len(dynamics.temperatures_K) * n_pressures

    def job_inputs(self, parameters: orm.Dict) -> dict[str, Any]:
        """Return what each worker job of this stage is given."""
        return {
            'code': self.inputs.worker_code,
            'parameters': parameters,
            'metadata': {'options': dict(self.inputs.options)},
        }
