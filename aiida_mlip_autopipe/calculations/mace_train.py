"""Training of a MACE potential with ``mace_run_train``, from scratch or from a foundation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.training.sets import elements_problem, previous_problem, start_problem

__all__ = ['MaceTrainCalculation', 'check_previous', 'check_start']


class MaceTrainCalculation(WorkerCalculation):
    """Train on labelled frames; done only when the model loads, evaluates and its errors are finite."""

    STAGE = 'train'
    PARAMETERS = TrainingParameters
    POTENTIAL_FILE = 'potential.model'
    HISTORY_FILE = 'history.json'
    RETRIEVED = (POTENTIAL_FILE, HISTORY_FILE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.input('training', valid_type=FramesData, help='Labelled frames, with an isolated atom of each element.')
        spec.input('validation', valid_type=FramesData, help='Labelled frames of other origins.')
        spec.input(
            'foundation',
            valid_type=PotentialData,
            required=False,
            help='The potential to fine-tune, for the methods naive and multihead.',
        )
        spec.input(
            'replay',
            valid_type=FramesData,
            required=False,
            help='Replay set for multihead: frames on which the predictions of the foundation are kept; no labels.',
        )
        spec.input(
            'previous_potential',
            valid_type=PotentialData,
            required=False,
            help='The potential of the round before, with whose weights the method scratch begins where that helps.',
        )
        spec.input(
            'continue_from',
            valid_type=orm.RemoteData,
            required=False,
            help='The folder of an interrupted job of the same training, which this one continues.',
        )
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.mace_train'
        spec.inputs.validator = _can_start
        spec.output('potential', valid_type=PotentialData, help='The trained potential.')
        spec.output('history', valid_type=orm.ArrayData, help='Loss and validation errors by epoch.')
        spec.output(
            'metrics',
            valid_type=orm.Dict,
            help='Errors on the training and validation sets; the number of epochs, the best epoch, and whether '
            'the training was stopped early.',
        )

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the sets, of what the training starts from and of the folder to go on from."""
        names = ('training', 'validation', 'foundation', 'replay', 'previous_potential')
        files: dict[str, str | list[str]] = {name: self.file_name(name) for name in names if name in self.inputs}
        if 'continue_from' in self.inputs:
            files['parent'] = self.PARENT_FOLDER
        return files


def check_start(
    parameters: orm.Dict, labelled: list[FramesData], foundation: PotentialData | None, replay: FramesData | None
) -> str | None:
    """Return what is wrong with what a training is to start from, or None."""
    method = TrainingParameters(**parameters.get_dict()).method
    if problem := start_problem(method, foundation is not None, replay is not None):
        return problem
    if foundation is None:
        return None
    needed = {element for frames in labelled for element in frames.elements}
    return elements_problem(method, set(foundation.elements), needed, set(replay.elements if replay else []))


def check_previous(
    parameters: orm.Dict, labelled: list[FramesData], previous: Mapping[str, PotentialData | None]
) -> str | None:
    """Return what is wrong with the potentials of the round before, by name, for these labels; or None."""
    given = {name: potential for name, potential in previous.items() if potential is not None}
    if given and (problem := previous_problem(TrainingParameters(**parameters.get_dict()).method)):
        return problem
    for name, potential in given.items():
        fingerprint = potential.base.attributes.get('label_fingerprint', None)
        if any(frames.label_fingerprint != fingerprint for frames in labelled):
            return (
                f'{name}: the potential <{potential.pk}> was trained on labels of another level of theory '
                f'({fingerprint}) than these ({labelled[0].label_fingerprint}); leave it out'
            )
    return None


def _can_start(inputs: dict[str, Any], _namespace: Any) -> str | None:
    if any(name not in inputs for name in ('parameters', 'training', 'validation')):
        return None
    sets = [inputs['training'], inputs['validation']]
    if problem := check_previous(inputs['parameters'], sets, {'previous_potential': inputs.get('previous_potential')}):
        return problem
    return check_start(inputs['parameters'], sets, inputs.get('foundation'), inputs.get('replay'))
