"""Existing data, as nodes: which of its frames are labelled again, and whether it may join the training sets."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.existing_data import differences_between, existing_data, spread_over, too_different
from aiida_mlip_autopipe.science.parameters import labelling_parameters

__all__ = ['adopt_data', 'choose_data_checks']


@calcfunction
def choose_data_checks(data: FramesData, parameters: orm.Dict) -> FramesData:
    """Choose the frames of existing data that are labelled again.

    :param data: the labelled frames, each with a ``frame_id``.
    :param parameters: those of the labelling code.
    :returns: ``n_data_checks`` of them, without labels.
    """
    labelling = labelling_parameters(**parameters.get_dict())
    frames = existing_data(data.get_atoms())
    chosen = [frames[index] for index in spread_over(frames, labelling.n_data_checks)]
    for atoms in chosen:
        del atoms.arrays['REF_forces']
        atoms.info = {name: value for name, value in atoms.info.items() if not name.startswith('REF_')}
    return FramesData.from_atoms(chosen)


@calcfunction
def adopt_data(data: FramesData, labelled_again: FramesData, parameters: orm.Dict) -> dict[str, orm.Data]:
    """Take existing data for labels of the run's level of theory, unless what was labelled again differs from it.

    :param data: the labelled frames.
    :param labelled_again: some of them, with the labels of this run.
    :param parameters: those of the labelling code.
    :returns: ``differences``; ``labelled``, the frames with the fingerprint of the run, or ``refused``, why not.
    """
    frames = existing_data(data.get_atoms())
    differences = differences_between(frames, labelled_again.get_atoms())
    refused = too_different(differences, labelling_parameters(**parameters.get_dict()))
    if refused:
        return {'differences': orm.Dict(differences), 'refused': orm.Str(refused)}
    level = labelled_again.label_fingerprint
    for atoms in frames:
        atoms.info['label_fingerprint'] = level
    return {'differences': orm.Dict(differences), 'labelled': FramesData.from_atoms(frames, level)}
