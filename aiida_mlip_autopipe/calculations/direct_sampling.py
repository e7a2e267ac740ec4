"""DIRECT beside the shards: the frames of MD jobs are described, clustered and sampled where they lie."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.pipeline.exit_codes import NOTHING_NEW, add_exit_codes
from aiida_mlip_autopipe.science.parameters import SamplingParameters

__all__ = ['DirectSamplingCalculation']


class DirectSamplingCalculation(WorkerCalculation):
    """Select the frames worth a DFT calculation from the MD jobs of one computer."""

    STAGE = 'sample'
    PARAMETERS = SamplingParameters
    CANDIDATES_FILE = 'candidates.extxyz'
    SELECTION_FILE = 'selection.json'
    FRAMES_FILE = 'frames.npz'
    FIGURES_FOLDER = 'figures'
    RETRIEVED = (CANDIDATES_FILE, SELECTION_FILE, FRAMES_FILE, FIGURES_FOLDER)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.input(
            'potential',
            valid_type=PotentialData,
            required=False,
            help='The potential whose features describe the frames; only for the descriptor mace.',
        )
        spec.input_namespace('shards', valid_type=orm.RemoteData, required=True, help='The folders of the MD jobs.')
        spec.input_namespace(
            'known',
            valid_type=FramesData,
            required=False,
            help='Labelled sets: the selection avoids frames close to them.',
        )
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.direct_sampling'
        spec.inputs.validator = _can_be_sampled
        spec.output(
            'candidates', valid_type=FramesData, required=False, help='The selected frames; missing if none is new.'
        )
        spec.output('selection', valid_type=orm.ArrayData, help='The selection table, a row for each candidate.')
        spec.output(
            'frames',
            valid_type=orm.ArrayData,
            help='An evenly spaced part of the explored frames: job, replica, step, temperature, energy, components, '
            'and the candidate that represents each.',
        )
        spec.output('report', valid_type=orm.Dict, help='Frames, components, clusters, coverage and novelty.')
        add_exit_codes(spec, NOTHING_NEW)

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the MD folders, of the labelled sets and of the potential, as far as there are any."""
        files: dict[str, str | list[str]] = {'folders': sorted(self.inputs.shards)}
        if known := self.files_of('known'):
            files['known'] = list(known)
        if 'potential' in self.inputs:
            files['potential'] = self.file_name('potential')
        return files

    def link_inputs(self, calculation: CalcInfo) -> None:
        """Link the MD folders into the job, beside the files."""
        super().link_inputs(calculation)
        for name, remote in self.inputs.shards.items():
            calculation.remote_symlink_list.append((remote.computer.uuid, remote.get_remote_path(), name))


def _can_be_sampled(inputs: dict[str, Any], _namespace: Any) -> str | None:
    return _readable_from_one_computer(inputs) or _has_its_potential(inputs)


def _has_its_potential(inputs: dict[str, Any]) -> str | None:
    """Return what is wrong with the potential: a job that needs none must not depend on one, or caching is in vain."""
    if 'parameters' not in inputs:
        return None
    kind = SamplingParameters(**inputs['parameters'].get_dict()).descriptor.kind
    if kind == 'mace' and 'potential' not in inputs:
        return 'potential: missing, but the descriptor is mace; give the potential whose features describe the frames'
    if kind != 'mace' and 'potential' in inputs:
        return f'potential: the descriptor {kind} needs none; remove it, or choose the descriptor mace'
    return None


def _readable_from_one_computer(inputs: dict[str, Any]) -> str | None:
    shards = inputs.get('shards', {})
    if not shards:
        return 'shards: empty; give the remote_folder of at least one finished MD job'
    for name, remote in shards.items():
        if remote.is_cleaned:
            return f'shards.{name}: the folder of <{remote.pk}> was cleaned; run its MD job again'
        code = inputs.get('code')
        if code is not None and getattr(code, 'computer', None) and remote.computer.uuid != code.computer.uuid:
            return (
                f'shards.{name}: is on {remote.computer.label}, the code on {code.computer.label}; '
                'sample on the computer that ran the MD'
            )
    return None
