"""Copies of the frames of MD jobs, compared with the manifests on the computer where they lie."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.pipeline.exit_codes import STASH_DIFFERS, add_exit_codes
from aiida_mlip_autopipe.science.parameters import StageParameters
from aiida_mlip_autopipe.worker.verify import MEASURED

__all__ = ['VerifyCalculation']


class VerifyCalculation(WorkerCalculation):
    """Compare stashed frames with what the MD jobs said of them: bytes and sha256 of each shard."""

    STAGE = 'verify'
    PARAMETERS = StageParameters

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        del spec.inputs['parameters']
        spec.input_namespace('stashes', valid_type=orm.RemoteStashFolderData, help='The copies.')
        spec.input_namespace('manifests', valid_type=orm.Dict, help='The manifest of each, under the same name.')
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.verify'
        spec.inputs.validator = _has_its_manifest
        spec.output('report', valid_type=orm.Dict, help='Numbers of verified frames, shards, bytes; problems by name.')
        add_exit_codes(spec, STASH_DIFFERS)

    @classmethod
    def is_valid_cache(cls, node: orm.CalcJobNode) -> bool:  # type: ignore[override]
        """Refuse: that a copy was right once does not mean that it still is."""
        return False

    def worker_parameters(self) -> dict[str, object]:
        """Return nothing: there is nothing to choose."""
        return {}

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the copies."""
        return {'folders': sorted(self.inputs.stashes)}

    def worker_arguments(self) -> dict[str, object]:
        """Return what the manifests say of the shards."""
        return {
            'shards': {
                name: [{key: shard[key] for key in MEASURED} for shard in self.inputs.manifests[name]['shards']]
                for name in self.inputs.stashes
            }
        }

    def link_inputs(self, calculation: CalcInfo) -> None:
        """Link the copies into the job."""
        super().link_inputs(calculation)
        for name, stash in self.inputs.stashes.items():
            calculation.remote_symlink_list.append((stash.computer.uuid, stash.target_basepath, name))


def _has_its_manifest(inputs: dict[str, Any], _namespace: Any) -> str | None:
    stashes, manifests = set(inputs.get('stashes', {})), set(inputs.get('manifests', {}))
    if not stashes:
        return 'stashes: empty; give at least one copy'
    if stashes != manifests:
        return f'manifests: of {sorted(manifests)}, but the copies are {sorted(stashes)}; give one for each'
    return None
