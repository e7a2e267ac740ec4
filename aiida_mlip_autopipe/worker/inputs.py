"""The input file of a job: read, checked, and asked for its parameters and files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiida_mlip_autopipe.science.parameters import StageParameters
from aiida_mlip_autopipe.worker.errors import InputError
from aiida_mlip_autopipe.worker.files import SCHEMA_VERSION

__all__ = ['Job', 'read_input']

Parameters = TypeVar('Parameters', bound=StageParameters)
_INPUT_KEYS = {'parameters': dict, 'files': dict, 'arguments': dict}


@dataclass(frozen=True)
class Job:
    """What an input file says.

    Attributes
    ----------
    name : str
        Eight hexadecimal digits; the first part of the names of the frames that an MD job makes.
    folder : Path
        Folder of the job.
    parameters, files, arguments : dict
        As in the input file.
    """

    name: str
    folder: Path
    parameters: dict[str, Any]
    files: dict[str, Any]
    arguments: dict[str, Any]

    def validated(self, model: type[Parameters]) -> Parameters:
        """Return the parameters as a model; pydantic's error names the key and the value."""
        return model(**self.parameters)

    def path(self, key: str) -> Path:
        """Return the path of a file of the job."""
        if not isinstance(self.files.get(key), str):
            raise InputError(f'files.{key} is {self.files.get(key)!r}: the name of a file is needed')
        return self.folder / self.files[key]

    def paths(self, key: str) -> list[Path]:
        """Return the paths of several files or folders of the job."""
        names = self.files.get(key)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InputError(f'files.{key} is {names!r}: a list with at least one name is needed')
        return [self.folder / name for name in names]

    def integer(self, key: str, default: int) -> int:
        """Return an integer argument."""
        value = self.arguments.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f'arguments.{key} is {value!r}: an integer is needed')
        return value


def read_input(stage: str, path: Path) -> Job:
    """Return the job that an input file describes.

    Raises
    ------
    InputError
        If the file is missing, is no JSON, or lacks a part.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f'the input file {path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'the input file {path} is not JSON: {error}') from error
    if not isinstance(data, dict) or data.get('schema_version') != SCHEMA_VERSION:
        version = data.get('schema_version') if isinstance(data, dict) else None
        raise InputError(
            f'the input file {path} has schema_version {version!r}, this worker reads {SCHEMA_VERSION}: '
            'use the same version of the package on both computers'
        )
    if data.get('stage') != stage:
        raise InputError(f'the input file {path} is for stage {data.get("stage")!r}, not {stage!r}')
    for key, kind in _INPUT_KEYS.items():
        if not isinstance(data.get(key), kind):
            raise InputError(f'the input file {path} has no mapping {key!r}')
    return Job(
        name=str(data.get('job', 'local')),
        folder=path.absolute().parent,
        parameters=data['parameters'],
        files=data['files'],
        arguments=data['arguments'],
    )
