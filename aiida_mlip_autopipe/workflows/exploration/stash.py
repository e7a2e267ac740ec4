"""Frames that outlive the scratch: copied to a folder of the user's, and compared with the manifest there."""

from __future__ import annotations

from pathlib import PurePosixPath

from aiida import orm
from aiida.common.datastructures import StashMode
from aiida.engine import ExitCode, ProcessSpec, ToContext, WorkChain, if_, while_
from aiida.plugins import CalculationFactory

from aiida_mlip_autopipe.calculations.verify import VerifyCalculation
from aiida_mlip_autopipe.pipeline.exit_codes import NOT_ALL_STASHED, STASH_FOLDER, add_exit_codes
from aiida_mlip_autopipe.science.dynamics.recovery import SHARDS
from aiida_mlip_autopipe.science.frames import MANIFEST

__all__ = ['StashFramesWorkChain', 'make_folder', 'validate_folder']

StashCalculation = CalculationFactory('core.stash')

COPIES_AT_ONCE = 8
PROBE = '.mlip-autopipe-probe'


def validate_folder(node: orm.Str | None, _port: object) -> str | None:
    """Return what is wrong with the path of a folder, if there is one."""
    if node is not None and not PurePosixPath(node.value).is_absolute():
        return f'stash_folder: {node.value!r} is not an absolute path; give one that begins with /'
    return None


def make_folder(computer: orm.Computer, path: str) -> str | None:
    """Make sure of a folder on a computer that can be written to; return why there can be none, if so.

    AiiDA would try again and again to copy into another, and then pause.
    """
    try:
        with computer.get_transport() as transport:
            transport.makedirs(f'{path}/{PROBE}', ignore_existing=True)
            transport.rmdir(f'{path}/{PROBE}')
    except OSError as error:
        return f'{path!r} cannot be used on {computer.label} ({error}); give a folder that can be written to'
    return None


class StashFramesWorkChain(WorkChain):
    """Copy the manifest and the shards of MD jobs to a folder on their computer, and verify the copies."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.input('worker_code', valid_type=orm.AbstractCode, help='mlip-autopipe-worker on that computer.')
        spec.input_namespace('folders', valid_type=orm.RemoteData, help='The folders of the MD jobs.')
        spec.input_namespace('manifests', valid_type=orm.Dict, help='The manifest of each, under the same name.')
        spec.input(
            'stash_folder',
            valid_type=orm.Str,
            serializer=orm.to_aiida_type,
            validator=validate_folder,
            help='Absolute path of the folder that receives the copies.',
        )
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='metadata.options of the verification.')
        spec.output_namespace(
            'stash', valid_type=orm.RemoteStashFolderData, required=False, help='The copies that are right.'
        )
        spec.output('report', valid_type=orm.Dict, required=False, help='What the verification says.')
        spec.outline(
            cls.setup,
            while_(cls.has_more)(
                cls.copy_some,
            ),
            cls.inspect_copies,
            if_(cls.has_copies)(
                cls.verify,
            ),
            cls.results,
        )
        add_exit_codes(spec, STASH_FOLDER, NOT_ALL_STASHED)

    def setup(self) -> ExitCode | None:
        """List what is to be copied, and make the folder."""
        self.ctx.queue = sorted(self.inputs.folders)
        computers = {folder.computer.uuid: folder.computer for folder in self.inputs.folders.values()}
        for computer in computers.values():
            if problem := make_folder(computer, self.inputs.stash_folder.value):
                return self.exit_codes.ERROR_STASH_FOLDER.format(message=problem)
        return None

    def has_more(self) -> bool:
        """Return whether a folder is left."""
        return bool(self.ctx.queue)

    def copy_some(self) -> None:
        """Submit the next copies."""
        batch, self.ctx.queue = self.ctx.queue[:COPIES_AT_ONCE], self.ctx.queue[COPIES_AT_ONCE:]
        for name in batch:
            folder = self.inputs.folders[name]
            stash = {
                'stash_mode': StashMode.COPY.value,
                'target_base': self.inputs.stash_folder.value,
                'source_list': [MANIFEST, SHARDS],
                'fail_on_missing': True,
            }
            node = self.submit(
                StashCalculation,
                source_node=folder,
                metadata={
                    'computer': folder.computer,
                    'options': {'stash': stash},
                    'call_link_label': f'copy_{name}',
                },
            )
            self.to_context(**{f'copy_{name}': node})

    def inspect_copies(self) -> None:
        """Take the copies, and the reasons where there is none."""
        self.ctx.copies, self.ctx.problems = {}, {}
        for name in self.inputs.folders:
            node = self.ctx[f'copy_{name}']
            if node.is_finished_ok and 'remote_stash' in node.outputs:
                self.ctx.copies[name] = node.outputs.remote_stash
            else:
                self.ctx.problems[name] = node.exit_message or f'{node.process_label}<{node.pk}> made no copy'

    def has_copies(self) -> bool:
        """Return whether there is something to verify."""
        return bool(self.ctx.copies)

    def verify(self) -> ToContext:
        """Submit one job that compares all copies."""
        return ToContext(
            verification=self.submit(
                VerifyCalculation,
                code=self.inputs.worker_code,
                stashes=self.ctx.copies,
                manifests={name: self.inputs.manifests[name] for name in self.ctx.copies},
                metadata={'options': dict(self.inputs.options), 'call_link_label': 'verify'},
            )
        )

    def results(self) -> ExitCode | None:
        """Hand on the copies that are right."""
        if self.ctx.copies:
            self.judge()
        right = {name: copy for name, copy in self.ctx.copies.items() if name not in self.ctx.problems}
        for name, copy in right.items():
            self.out(f'stash.{name}', copy)
        self.report(f'{len(right)} of {len(self.inputs.folders)} folders stashed in {self.inputs.stash_folder.value}')
        if not self.ctx.problems:
            return None
        message = '; '.join(f'{name}: {problem}' for name, problem in self.ctx.problems.items())
        return self.exit_codes.WARNING_NOT_ALL_STASHED.format(message=message)

    def judge(self) -> None:
        """Take what the verification says; where it says nothing, no copy is taken for right."""
        verification = self.ctx.verification
        if 'report' in verification.outputs:
            self.out('report', verification.outputs.report)
            self.ctx.problems.update(verification.outputs.report['problems'])
        else:
            reason = f'not verified: {verification.exit_message or verification.process_state.value}'
            self.ctx.problems.update(dict.fromkeys(self.ctx.copies, reason))
