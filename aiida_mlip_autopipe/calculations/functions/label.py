"""From one candidate to the inputs of its calculation, and from results to a labelled set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from aiida import orm
from aiida.engine import calcfunction
from ase import Atoms
from ase.io import iread

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling.base import Labeller, labeller_of
from aiida_mlip_autopipe.labelling.labels import check_label, energy_outliers, labelled_atoms, labels_of_batch
from aiida_mlip_autopipe.science.branches import other_branches
from aiida_mlip_autopipe.science.frames.carried import carried_arrays, carry
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.systems import recognised

__all__ = [
    'collect_labels',
    'data_of',
    'frame_at',
    'labeller_inside',
    'pick_structure',
    'single_result',
    'source_for',
]

NODE = 'node_'
SINGLE = re.compile(r'single_(?P<index>\d+)_(?P<name>.+)')


def data_of(nodes: Mapping[str, orm.Data]) -> dict[str, orm.Data]:
    """Return what a labelling code has of the profile as inputs of a calcfunction: all but its code."""
    return {f'{NODE}{name}': node for name, node in nodes.items() if not isinstance(node, orm.AbstractCode)}


def single_result(index: int, name: str) -> str:
    """Return the name of an output of the process that labelled one candidate alone."""
    return f'single_{index}_{name}'


def frame_at(frames: FramesData, index: int) -> Atoms:
    """Return one frame of a set; of a large set all would be read for each of them."""
    with frames.as_path() as path:
        return next(iread(path, index=str(index), format='extxyz'))


@calcfunction
def pick_structure(
    candidates: FramesData, index: orm.Int, parameters: orm.Dict, **nodes: orm.Data
) -> dict[str, orm.Data]:
    """Turn one candidate into the inputs of its calculation.

    :param index: which candidate.
    :param parameters: those of the labelling code.
    :param nodes: ``node_NAME``, what the labelling code has of the profile, but its code.
    :returns: what its labelling code makes for it, such as a structure and k-points.
    """
    return labeller_inside(parameters, nodes).pick(frame_at(candidates, index.value))


def labeller_inside(parameters: orm.Dict, nodes: Mapping[str, orm.Data]) -> Labeller:
    """Return the labelling code of a calcfunction that was given `data_of` its nodes."""
    given = {name.removeprefix(NODE): node for name, node in nodes.items() if name.startswith(NODE)}
    return labeller_of(parameters.get_dict(), given)


def source_for(labeller: Labeller, structure: orm.Data, index: int = 0) -> Atoms:
    """Return one frame of a source as a code labels it: prepared by it, recognised, with what its atoms carry."""
    atoms = labeller.prepare(source_atoms(structure))[index]
    return carry(carried_arrays(atoms), recognised(atoms))


@calcfunction
def collect_labels(candidates: FramesData, parameters: orm.Dict, **results: orm.Data) -> dict[str, orm.Data]:
    """Join what was computed of the candidates into one labelled set, and list those that are not in it.

    :param parameters: those of the labelling code.
    :param results: of each candidate I that was to be labelled, ``single_I_NAME``, the outputs of its own process, or
        ``failed_I``, why there are none; a candidate with neither has its label in one of the ``batch_J``.
        ``node_NAME``: what the labelling code has of the profile, but its code. ``only``: the candidates that were to
        be labelled; all if it is not given.
    :returns: ``labelled`` (if any label is sound; those of another electronic solution than their like have ``branch``,
        in words, in ``info``) and ``rejected``, ``frame_id`` -> reason, of each candidate that was
        to be labelled and is not in the set.
    """
    labeller = labeller_inside(parameters, results)
    level = labeller.fingerprint()
    batches = [labels_of_batch(node) for name, node in results.items() if name.startswith('batch_')]
    in_batches = {key: label for batch in batches for key, label in batch.items()}
    alone = _labels_alone(labeller, results)
    only = results['only'].get_list() if 'only' in results else None
    labelled, rejected = [], {}
    for index, atoms in enumerate(candidates.get_atoms()):
        if only is not None and index not in only:
            continue
        if f'failed_{index}' in results:
            rejected[atoms.info['frame_id']] = results[f'failed_{index}'].value
            continue
        label = alone.get(index) or (in_batches.get(labeller.key(atoms)) if in_batches else None)
        if label is None:
            rejected[atoms.info['frame_id']] = 'it was not computed: its sequence of labels ended first'
        elif reason := check_label(atoms, label, labeller.parameters) or labeller.doubt(atoms, label):
            rejected[atoms.info['frame_id']] = reason
        else:
            labelled.append(labelled_atoms(atoms, label, level, labeller.charge))
    rejected |= energy_outliers(labelled, labeller.parameters.energy_window_eV)
    labelled = [atoms for atoms in labelled if atoms.info['frame_id'] not in rejected]
    branches = other_branches(labelled)
    for atoms in labelled:
        if (name := atoms.info['frame_id']) in branches:
            atoms.info['branch'] = branches[name]
    outputs: dict[str, orm.Data] = {'rejected': orm.Dict(rejected)}
    if labelled:
        outputs['labelled'] = FramesData.from_atoms(labelled, level)
    return outputs


def _labels_alone(labeller: Labeller, results: Mapping[str, orm.Data]) -> dict[int, Label]:
    """Return the labels of the candidates that were labelled alone, by their places in the set."""
    outputs: dict[int, dict[str, orm.Data]] = {}
    for link, node in results.items():
        if match := SINGLE.fullmatch(link):
            outputs.setdefault(int(match['index']), {})[match['name']] = node
    jobs = {index: next(iter(nodes.values())).creator for index, nodes in outputs.items()}
    return {index: replace(labeller.label(nodes), job=jobs[index].uuid[:8]) for index, nodes in outputs.items()}
