"""The sets that a training is given, and the parameters of each member of a committee."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.existing_data import EXISTING_DATA
from aiida_mlip_autopipe.science.parameters import (
    TrainingParameters,
)
from aiida_mlip_autopipe.science.random_seeds import derived_seed

__all__ = ['committee_parameters', 'split_dataset']


@calcfunction
def split_dataset(
    parameters: orm.Dict, previous: FramesData | None = None, **labelled: FramesData
) -> dict[str, FramesData]:
    """Join labelled sets and split them by origin, so that no trajectory spans training and validation.

    :param parameters: ``TrainingParameters``.
    :param previous: the data set of the round before: its origins stay on their sides.
    :param labelled: the sets; all of one level of theory. Existing data among them trains: what validates is the run's
        own.
    :returns: ``training``, ``validation`` and ``dataset`` (both, with ``info['split']``). With
        ``weigh_by_represented``, the selected frames of each set have their ``training_weight`` in ``info``.
    :raises ValueError: if the sets were labelled at different levels of theory.
    """
    from aiida_mlip_autopipe.science.training import split_by_origin
    from aiida_mlip_autopipe.science.training.weights import weigh

    fingerprints = {node.label_fingerprint for node in labelled.values()}
    if len(fingerprints) > 1:
        raise ValueError(
            f'labelled: sets with {len(fingerprints)} levels of theory ({sorted(map(str, fingerprints))}); '
            'label all of them with the same pseudopotentials, cutoffs, k-points and smearing'
        )
    fingerprint_of_all = fingerprints.pop()
    training = TrainingParameters(**parameters.get_dict())
    sets = [labelled[name].get_atoms() for name in sorted(labelled)]
    if training.weigh_by_represented:
        for frames_of_set in sets:
            weigh(frames_of_set)
    frames = {atoms.info['frame_id']: atoms for frames_of_set in sets for atoms in frames_of_set}
    dataset = list(frames.values())
    before = previous.get_atoms() if previous is not None else []
    sides = {atoms.info['origin']: atoms.info['split'] for atoms in before} | {EXISTING_DATA: 'training'}
    for name, indices in zip(
        ('training', 'validation'),
        split_by_origin(dataset, training.validation_fraction, training.random_seed, sides),
        strict=True,
    ):
        for index in indices:
            dataset[index].info['split'] = name
    parts = {name: [atoms for atoms in dataset if atoms.info['split'] == name] for name in ('training', 'validation')}
    return {
        name: FramesData.from_atoms(part, fingerprint_of_all) for name, part in {**parts, 'dataset': dataset}.items()
    }


@calcfunction
def committee_parameters(parameters: orm.Dict) -> dict[str, orm.Dict]:
    """Derive the parameters of each training of a committee; they differ in the random seed.

    The first member is what would be trained alone, and a larger committee has all members of a smaller one.

    :param parameters: ``TrainingParameters``.
    :returns: ``member_0``, ``member_1`` ...
    """
    values = parameters.get_dict()
    training = TrainingParameters(**values)
    others = (derived_seed(training.random_seed, member) for member in range(1, training.committee_size))
    seeds = [training.random_seed, *others]
    alone = {**values, 'committee_size': 1}
    return {f'member_{member}': orm.Dict({**alone, 'random_seed': seed}) for member, seed in enumerate(seeds)}
