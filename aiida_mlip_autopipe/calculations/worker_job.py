"""What all jobs of the worker share: JSON in, JSON out, exit codes.

A job runs ``mlip-autopipe-worker STAGE input.json`` in its folder. The worker writes ``result.json`` last, so a folder
without one is an incomplete job, whatever else lies in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from pydantic import ValidationError

from aiida_mlip_autopipe.pipeline.exit_codes import (
    INCOMPLETE,
    INVALID_INPUT,
    NO_FRAMES,
    POTENTIAL_UNUSABLE,
    SCRATCH_MISSING,
    TRAINING_FAILED,
    UNEXPECTED,
    add_exit_codes,
)
from aiida_mlip_autopipe.science.parameters import StageParameters
from aiida_mlip_autopipe.worker.files import RESULT_FILE, SCHEMA_VERSION

__all__ = ['WorkerCalculation', 'validate_parameters']

KEEP_SHELL = 'trap : TERM'
"""A scheduler signals all processes of a job. If its shell ended, the job would be over and the worker killed at once,
with what it has to save."""


def validate_parameters(model: type[StageParameters]) -> Callable[[orm.Dict | None, object], str | None]:
    """Return a port validator that holds a ``Dict`` against a parameter model."""

    def validator(node: orm.Dict | None, _port: object) -> str | None:
        if node is None:
            return None
        try:
            model(**node.get_dict())
        except ValidationError as error:
            return '; '.join(
                f'{".".join(map(str, problem["loc"])) or model.__name__}: {problem["msg"]} (got {problem["input"]!r})'
                for problem in error.errors()
            )
        return None

    return validator


class WorkerCalculation(CalcJob):
    """Base of the jobs that run a stage of the worker."""

    STAGE: ClassVar[str]
    PARAMETERS: ClassVar[type[StageParameters]]
    RETRIEVED: ClassVar[tuple[str, ...]] = ()
    INPUT_FILE = 'input.json'
    PARENT_FOLDER = 'parent'
    LOG_FILE = 'worker.log'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and exit codes that all stages share."""
        super().define(spec)
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_parameters(cls.PARAMETERS),
            help=f'The {cls.PARAMETERS.__name__} of the stage.',
        )
        options = spec.inputs['metadata']['options']
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        options['input_filename'].default = cls.INPUT_FILE
        options['output_filename'].default = cls.LOG_FILE
        add_exit_codes(
            spec,
            INVALID_INPUT,
            SCRATCH_MISSING,
            NO_FRAMES,
            POTENTIAL_UNUSABLE,
            TRAINING_FAILED,
            UNEXPECTED,
            INCOMPLETE,
        )

    def worker_parameters(self) -> dict[str, object]:
        """Return the parameters of the stage."""
        return self.inputs.parameters.get_dict()

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the files that the stage reads, as they are called in the job's folder."""
        raise RuntimeError('a stage must define the files that it reads')

    def worker_arguments(self) -> dict[str, object]:
        """Return what the stage is told beside its parameters."""
        return {}

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write ``input.json`` and send the files along."""
        calculation = CalcInfo()
        calculation.local_copy_list = []
        calculation.remote_symlink_list = []
        calculation.prepend_text = KEEP_SHELL
        self.link_inputs(calculation)
        payload = {
            'schema_version': SCHEMA_VERSION,
            'stage': self.STAGE,
            'job': self.node.uuid[:8],
            'parameters': self.worker_parameters(),
            'files': self.worker_files(),
            'arguments': self.worker_arguments(),
        }
        with folder.open(self.INPUT_FILE, 'w') as handle:
            json.dump(payload, handle, indent=1)

        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.cmdline_params = [self.STAGE, self.INPUT_FILE]
        code.stdout_name = self.LOG_FILE
        code.join_files = True
        calculation.codes_info = [code]
        calculation.retrieve_list = [RESULT_FILE, self.LOG_FILE, *self.RETRIEVED]
        return calculation

    def link_inputs(self, calculation: CalcInfo) -> None:
        """Put the stage's files into the job, by default each ``SinglefileData`` input, under its port's name; and a
        link to the folder that it goes on from, where there is one."""
        for name, node in self.inputs.items():
            if isinstance(node, orm.SinglefileData):
                calculation.local_copy_list.append((node.uuid, node.filename, self.file_name(name)))
            elif isinstance(node, Mapping):
                for file_name, member in self.files_of(name).items():
                    calculation.local_copy_list.append((member.uuid, member.filename, file_name))
        if 'continue_from' in self.inputs:
            remote = self.inputs.continue_from
            calculation.remote_symlink_list.append((remote.computer.uuid, remote.get_remote_path(), self.PARENT_FOLDER))

    def file_name(self, port: str) -> str:
        """Return the name that the file of a port has in the job's folder."""
        return _with_suffix(port, self.inputs[port])

    def files_of(self, namespace: str) -> dict[str, orm.SinglefileData]:
        """Return the files of a namespace by the names that they have in the job's folder."""
        return {
            _with_suffix(f'{namespace}_{name}', node): node
            for name, node in sorted(self.inputs.get(namespace, {}).items())
            if isinstance(node, orm.SinglefileData)
        }


def _with_suffix(name: str, node: orm.SinglefileData) -> str:
    return f'{name}{PurePosixPath(node.filename).suffix}'
