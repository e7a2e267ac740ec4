"""The exploration stage: MACE molecular dynamics in sequences, then a selection beside its frames."""

from __future__ import annotations

from typing import Any, get_args

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, if_

from aiida_mlip_autopipe.calculations.worker_job import validate_parameters
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.pipeline.exit_codes import (
    DYNAMICS_FAILED,
    INVALID_SEEDS,
    NOT_ALL_STASHED,
    NOTHING_NEW,
    SAMPLING_FAILED,
    SCRATCH_MISSING,
    STASH_FOLDER,
    add_exit_codes,
)
from aiida_mlip_autopipe.provenance.dynamics import md_workchains
from aiida_mlip_autopipe.science.dynamics import ReplicaPlan
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, ExplorationParameters, SamplingParameters
from aiida_mlip_autopipe.workflows.exploration.direct_sampling_base import DirectSamplingBaseWorkChain
from aiida_mlip_autopipe.workflows.exploration.mace_md_base import n_frames_of
from aiida_mlip_autopipe.workflows.exploration.mace_md_sequence import MaceMdSequenceWorkChain
from aiida_mlip_autopipe.workflows.exploration.stash import StashFramesWorkChain, make_folder, validate_folder

__all__ = ['ExplorerWorkChain']

KEEP_FRAMES: tuple[str, ...] = get_args(ExplorationParameters.model_fields['keep_frames'].annotation)


def _validate_keep_frames(node: orm.Str, _port: object) -> str | None:
    return None if node.value in KEEP_FRAMES else f'keep_frames: {node.value!r} is not one of {", ".join(KEEP_FRAMES)}'


def _validate_stash_folder(inputs: dict[str, Any], _namespace: object) -> str | None:
    wanted, given = 'keep_frames' in inputs and inputs['keep_frames'].value == 'stash', 'stash_folder' in inputs
    if wanted and not given:
        return "keep_frames 'stash' needs a stash_folder; give the path of a folder on the computer"
    if given and not wanted:
        return "stash_folder: used by keep_frames 'stash' only; leave it out"
    return None


class ExplorerWorkChain(WorkChain):
    """Explore from seed structures with a potential and select the frames worth a label.

    The replicas are spread over jobs and the jobs over sequences. A job that did not finish counts with the frames
    that it left.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        cls.define_inputs(spec)
        spec.output(
            'candidates', valid_type=FramesData, required=False, help='The selected frames; missing if none is new.'
        )
        spec.output('selection', valid_type=orm.ArrayData, help='The selection table.')
        spec.output('report', valid_type=orm.Dict, help='What the sampling says of frames, clusters and coverage.')
        spec.output_namespace(
            'stash', valid_type=orm.RemoteStashFolderData, required=False, help='The copies of the frames, verified.'
        )
        spec.outline(
            if_(cls.should_stash)(
                cls.prepare_stash,
            ),
            cls.run_dynamics,
            cls.inspect_dynamics,
            cls.run_sampling,
            cls.inspect_sampling,
            if_(cls.should_stash)(
                cls.stash,
                cls.inspect_stash,
            ),
            if_(cls.should_clean)(
                cls.clean,
            ),
            cls.finish,
        )
        add_exit_codes(
            spec,
            INVALID_SEEDS,
            STASH_FOLDER,
            SCRATCH_MISSING,
            DYNAMICS_FAILED,
            SAMPLING_FAILED,
            NOTHING_NEW,
            NOT_ALL_STASHED,
        )

    @classmethod
    def define_inputs(cls, spec: ProcessSpec) -> None:
        """Define the inputs: what explores, what is explored, how, and what becomes of the frames."""
        spec.input('worker_code', valid_type=orm.AbstractCode, help='mlip-autopipe-worker on the computer to use.')
        spec.input(
            'potential',
            valid_type=PotentialData,
            help='The potential that drives the dynamics, and describes the frames where the descriptor is mace.',
        )
        spec.input_namespace(
            'committee',
            valid_type=PotentialData,
            required=False,
            help='Further potentials: the disagreement of their forces is stored with each frame.',
        )
        spec.input('seeds', valid_type=FramesData, help='The structures to start from.')
        for name, model in (('dynamics', DynamicsParameters), ('sampling', SamplingParameters)):
            spec.input(
                name,
                valid_type=orm.Dict,
                serializer=orm.to_aiida_type,
                validator=validate_parameters(model),
                help=f'The {model.__name__}.',
            )
        for name, text in (
            ('n_jobs', 'MD jobs over which the replicas are spread.'),
            ('max_concurrent', 'MD jobs at once.'),
        ):
            spec.input(name, valid_type=orm.Int, default=lambda: orm.Int(1), serializer=orm.to_aiida_type, help=text)
        spec.input_namespace(
            'known', valid_type=FramesData, required=False, help='Labelled sets: the selection keeps away from them.'
        )
        spec.input(
            'keep_frames',
            valid_type=orm.Str,
            default=lambda: orm.Str('keep'),
            serializer=orm.to_aiida_type,
            validator=_validate_keep_frames,
            help='What becomes of the MD folders in the end: keep, clean, or stash (copy, verify, clean).',
        )
        spec.input(
            'stash_folder',
            valid_type=orm.Str,
            required=False,
            serializer=orm.to_aiida_type,
            validator=validate_folder,
            help='Absolute path on the computer of the MD jobs, for stash.',
        )
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of the jobs.')
        spec.inputs.validator = _validate_stash_folder

    def should_stash(self) -> bool:
        """Return whether the frames are to be copied in the end."""
        return self.inputs.keep_frames.value == 'stash'

    def prepare_stash(self) -> ExitCode | None:
        """Make the folder for the copies: what is wrong with it shall not be found after the dynamics."""
        problem = make_folder(self.inputs.worker_code.computer, self.inputs.stash_folder.value)
        return self.exit_codes.ERROR_STASH_FOLDER.format(message=problem) if problem else None

    def run_dynamics(self) -> ExitCode | None:
        """Submit the sequences, each with its share of the MD jobs."""
        try:
            plan = ReplicaPlan(self.inputs.seeds.get_atoms(), DynamicsParameters(**self.inputs.dynamics.get_dict()))
        except ValueError as error:
            return self.exit_codes.ERROR_INVALID_SEEDS.format(message=error)
        n_jobs = min(self.inputs.n_jobs.value, len(plan.replicas))
        n_sequences = min(self.inputs.max_concurrent.value, n_jobs)
        self.report(f'{plan.cost()} in {n_jobs} MD job(s), {n_sequences} at once')
        job = {
            **self.job_inputs(self.inputs.dynamics),
            'potential': self.inputs.potential,
            'seeds': self.inputs.seeds,
            'n_jobs': orm.Int(n_jobs),
        }
        if 'committee' in self.inputs:
            job['committee'] = self.inputs.committee
        for sequence in range(n_sequences):
            node = self.submit(
                MaceMdSequenceWorkChain,
                job=job,
                sequence=orm.Int(sequence),
                n_sequences=orm.Int(n_sequences),
                metadata={'call_link_label': f'sequence_{sequence}'},
            )
            self.to_context(**{f'sequence_{sequence}': node})
        return None

    def inspect_dynamics(self) -> ExitCode | None:
        """Go on with the MD jobs that left frames, if there are any and their frames are still there."""
        jobs = self.md_jobs()
        for name, node in jobs.items():
            if not node.is_finished_ok:
                self.report(f'{name} <{node.pk}> left {n_frames_of(node)} frames: {node.exit_message}')
        with_frames = {name: node for name, node in jobs.items() if n_frames_of(node)}
        self.ctx.shards = {name: node.outputs.remote_folder for name, node in with_frames.items()}
        self.ctx.manifests = {name: node.outputs.manifest for name, node in with_frames.items()}
        if not self.ctx.shards:
            messages = [node.exit_message for node in jobs.values() if node.exit_message]
            return self.exit_codes.ERROR_DYNAMICS_FAILED.format(message=messages[0] if messages else 'no job ran')
        for name, remote in self.ctx.shards.items():
            if remote.is_cleaned:
                self.forget_dynamics()
                return self.exit_codes.ERROR_SCRATCH_MISSING.format(message=f'the folder of {name} was cleaned')
        return None

    def md_jobs(self) -> dict[str, orm.WorkChainNode]:
        """Return the WorkChain of each MD job, by its name."""
        return md_workchains(self.node.pk)

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
        if sampling.exit_status == SCRATCH_MISSING.status:
            self.forget_dynamics()
            return ExitCode(sampling.exit_status, sampling.exit_message)
        if not sampling.is_finished_ok and sampling.exit_status != NOTHING_NEW.status:
            return self.exit_codes.ERROR_SAMPLING_FAILED.format(message=sampling.exit_message)
        self.out_many({name: sampling.outputs[name] for name in self.spec().outputs if name in sampling.outputs})
        self.ctx.to_clean = list(self.ctx.shards)
        return None

    def stash(self) -> ToContext:
        """Submit the copies and their verification."""
        return ToContext(
            stash=self.submit(
                StashFramesWorkChain,
                worker_code=self.inputs.worker_code,
                folders=self.ctx.shards,
                manifests=self.ctx.manifests,
                stash_folder=self.inputs.stash_folder,
                options=dict(self.inputs.options),
                metadata={'call_link_label': 'stash'},
            )
        )

    def inspect_stash(self) -> None:
        """Hand on the copies; only what was copied well is cleaned."""
        copies = self.ctx.stash.outputs.stash if 'stash' in self.ctx.stash.outputs else {}
        for name, copy in copies.items():
            self.out(f'stash.{name}', copy)
        self.ctx.to_clean = list(copies)
        if not self.ctx.stash.is_finished_ok:
            self.report(f'not all frames were stashed: {self.ctx.stash.exit_message}')

    def should_clean(self) -> bool:
        """Return whether folders of MD jobs are to be removed."""
        return self.inputs.keep_frames.value != 'keep'

    def clean(self) -> None:
        """Remove the folders of the MD jobs and of their interrupted attempts, and see that none is a cache hit."""
        jobs, n_cleaned = self.md_jobs(), 0
        for job in (one for name in self.ctx.to_clean for one in jobs[name].called):
            if not isinstance(job, orm.CalcJobNode) or 'remote_folder' not in job.outputs:
                continue
            _forget(job)
            try:
                job.outputs.remote_folder._clean()
                n_cleaned += 1
            except OSError as error:
                self.report(f'the folder of {job.process_label}<{job.pk}> could not be cleaned: {error}')
        self.report(f'{n_cleaned} folder(s) of MD jobs removed')

    def finish(self) -> ExitCode | None:
        """Say what the user should know."""
        if self.ctx.sampling.exit_status == NOTHING_NEW.status:
            return ExitCode(NOTHING_NEW.status, self.ctx.sampling.exit_message)
        if self.should_stash() and not self.ctx.stash.is_finished_ok:
            return ExitCode(NOT_ALL_STASHED.status, self.ctx.stash.exit_message)
        return None

    def forget_dynamics(self) -> None:
        """Make sure that no MD job without frames is ever taken from the cache again."""
        for remote in self.ctx.shards.values():
            _forget(remote.creator)

    def job_inputs(self, parameters: orm.Dict) -> dict[str, Any]:
        """Return what each worker job of this stage is given."""
        return {
            'code': self.inputs.worker_code,
            'parameters': parameters,
            'metadata': {'options': dict(self.inputs.options)},
        }


def _forget(job: orm.CalcJobNode) -> None:
    """Keep a job, and the one whose folder it shares, from being taken from the cache."""
    job.base.caching.is_valid_cache = False
    source = job.base.caching.get_cache_source()
    if source is not None:
        orm.load_node(uuid=source).base.caching.is_valid_cache = False
