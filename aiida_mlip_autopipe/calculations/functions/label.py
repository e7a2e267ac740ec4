"""From one candidate to the inputs of its calculation, and from results to a labelled set."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction
from ase.io import iread

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.inputs import kpoints_mesh, label_key, pw_parameters
from aiida_mlip_autopipe.labelling.labels import (
    check_label,
    energy_outliers,
    fingerprint,
    label_of_pw,
    labelled_atoms,
    labels_of_batch,
)
from aiida_mlip_autopipe.science.parameters import (
    LabellingParameters,
)

__all__ = ['collect_labels', 'pick_structure']


@calcfunction
def pick_structure(
    candidates: FramesData, index: orm.Int, parameters: orm.Dict, **pseudos: orm.Data
) -> dict[str, orm.Data]:
    """Turn one candidate into the inputs of its DFT calculation.

    :param index: which candidate.
    :param parameters: ``LabellingParameters``.
    :param pseudos: a pseudopotential for each element.
    :returns: ``structure``, ``parameters`` and ``kpoints`` for pw.x.
    """
    with candidates.as_path() as path:
        # Of a large set all frames would be read for each of them.
        atoms = next(iread(path, index=str(index.value), format='extxyz'))
    labelling = LabellingParameters(**parameters.get_dict())
    z_valence = {element: pseudo.z_valence for element, pseudo in pseudos.items()}
    structure = orm.StructureData(cell=atoms.cell.array, pbc=[True, True, True])
    for symbol, position in zip(atoms.symbols, atoms.positions, strict=True):
        structure.append_atom(symbols=symbol, position=position)
    structure.label = str(atoms.info['frame_id'])
    kpoints = orm.KpointsData()
    kpoints.set_kpoints_mesh(kpoints_mesh(atoms, labelling.kpoints_distance))
    return {
        'structure': structure,
        'parameters': orm.Dict(pw_parameters(atoms, labelling, z_valence)),
        'kpoints': kpoints,
    }


@calcfunction
def collect_labels(candidates: FramesData, parameters: orm.Dict, **results: orm.Data) -> dict[str, orm.Data]:
    """Join what pw.x said of the candidates into one labelled set, and list those that are not in it.

    :param parameters: ``LabellingParameters``.
    :param results: of each candidate I that was to be labelled, ``parameters_I`` and ``trajectory_I``, the outputs of
        its own pw.x, or ``failed_I``, why there are none; a candidate with neither has its label in one of the
        ``batch_J``. ``pseudo_ELEMENT``: the pseudopotentials. ``only``: the candidates that were to be labelled; all
        if it is not given.
    :returns: ``labelled`` (if any label is sound) and ``rejected``, ``frame_id`` -> reason, of each candidate that was
        to be labelled and is not in the set.
    """
    labelling = LabellingParameters(**parameters.get_dict())
    pseudos = {name.removeprefix('pseudo_'): node for name, node in results.items() if name.startswith('pseudo_')}
    level = fingerprint(labelling, pseudos)
    batches = [labels_of_batch(node) for name, node in results.items() if name.startswith('batch_')]
    in_batches = {key: label for batch in batches for key, label in batch.items()}
    only = results['only'].get_list() if 'only' in results else None
    labelled, rejected = [], {}
    for index, atoms in enumerate(candidates.get_atoms()):
        if only is not None and index not in only:
            continue
        if f'failed_{index}' in results:
            rejected[atoms.info['frame_id']] = results[f'failed_{index}'].value
            continue
        label = in_batches.get(label_key(atoms, labelling, pseudos)) if in_batches else None
        if f'parameters_{index}' in results:
            label = label_of_pw(results[f'parameters_{index}'], results[f'trajectory_{index}'])
        if label is None:
            rejected[atoms.info['frame_id']] = 'it was not computed: its sequence of labels ended before'
            continue
        if reason := check_label(atoms, label, labelling):
            rejected[atoms.info['frame_id']] = reason
        else:
            labelled.append(labelled_atoms(atoms, label, level))
    rejected |= energy_outliers(labelled, labelling.energy_window_eV)
    labelled = [atoms for atoms in labelled if atoms.info['frame_id'] not in rejected]
    outputs: dict[str, orm.Data] = {'rejected': orm.Dict(rejected)}
    if labelled:
        outputs['labelled'] = FramesData.from_atoms(labelled, level)
    return outputs
