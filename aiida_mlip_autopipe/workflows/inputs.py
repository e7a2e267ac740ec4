"""From a configuration to the inputs of the pipeline: codes, pseudopotentials, and what must hold before submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.engine import ProcessBuilder
from aiida.plugins import GroupFactory
from pydantic import ValidationError

from aiida_mlip_autopipe.config import ConfigExpander, Configuration, Expansion
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.science.existing_data import existing_data
from aiida_mlip_autopipe.science.parameters import LabellingParameters

__all__ = [
    'build_inputs',
    'data_problem',
    'elements_of',
    'expand_for',
    'family_cutoffs',
    'find_code',
    'functional_mismatch',
    'load_family',
    'validate_configuration',
    'validate_inputs',
]


def elements_of(structure: orm.StructureData | FramesData) -> list[str]:
    """Return the chemical symbols of a source structure, sorted."""
    if isinstance(structure, FramesData):
        return structure.elements
    return sorted(structure.get_symbols_set())


def load_family(label: str) -> orm.Group:
    """Return an installed pseudopotential family with recommended cutoffs.

    :raises ValueError: if there is none of that label.
    """
    family_class = GroupFactory('pseudo.family.cutoffs')
    family = family_class.collection.find({'label': label})
    if not family:
        installed = ', '.join(sorted(group.label for group in family_class.collection.all())) or 'none'
        raise ValueError(
            f'labelling.pseudo_family: {label!r} is not installed (installed: {installed}); run `mlip-autopipe init`, '
            'or `aiida-pseudo install`'
        )
    return family[0]


def family_cutoffs(label: str) -> dict[str, tuple[float, float]]:
    """Return the recommended cutoffs (wavefunctions, density) of each element of a family, in Ry."""
    family = load_family(label)
    return {element: family.get_recommended_cutoffs(elements=element, unit='Ry') for element in sorted(family.elements)}


def expand_for(
    structure: orm.StructureData | FramesData,
    protocol: str,
    overrides: Mapping[str, Any],
    surrogate: PotentialData | None,
    replay: FramesData | None = None,
    data: FramesData | None = None,
) -> Expansion:
    """Return the expanded configuration of a run whose structure, surrogate and sets are nodes already.

    :raises ValueError: with all problems of the overrides.
    """
    given = {
        'system': {'node': structure.uuid},
        'surrogate': 'bootstrap' if surrogate is None else f'node:{surrogate.uuid}',
        'protocol': protocol,
    }
    given |= {name: f'node:{node.uuid}' for name, node in (('replay', replay), ('data', data)) if node is not None}
    return ConfigExpander({**overrides, **given}).expand(cutoffs=family_cutoffs, sources=source_atoms(structure))


def build_inputs(
    builder: ProcessBuilder,
    configuration: Configuration,
    *,
    structure: orm.StructureData | FramesData,
    surrogate: PotentialData | None,
    replay: FramesData | None = None,
    data: FramesData | None = None,
    worker_code: orm.AbstractCode | str,
    pw_code: orm.AbstractCode | str,
) -> ProcessBuilder:
    """Fill the builder of the pipeline; everything that can be checked is checked here.

    :raises ValueError: if a code is missing, an element has no pseudopotential or the surrogate does not know it.
    """
    builder.worker_code = find_code(worker_code, 'codes.worker')
    builder.pw_code = find_code(pw_code, 'codes.pw')
    builder.structure = structure
    for name, node in (('surrogate', surrogate), ('replay', replay), ('data', data)):
        if node is not None:
            setattr(builder, name, node)
    builder.pseudos = _pseudos(configuration.labelling.pseudo_family, elements_of(structure))
    builder.configuration = orm.Dict(configuration.model_dump(mode='json'))
    problem = validate_inputs(dict(builder), None)
    if problem:
        raise ValueError(problem)
    return builder


def validate_configuration(node: orm.Dict, _port: Any) -> str | None:
    """Return what is wrong with a configuration, if anything."""
    try:
        Configuration(**node.get_dict())
    except (ValidationError, ValueError) as error:
        return str(error)
    return None


def validate_inputs(inputs: Mapping[str, Any], _namespace: Any) -> str | None:
    """Return what keeps the pipeline from being submitted, if anything."""
    if 'structure' not in inputs:
        return None
    elements = elements_of(inputs['structure'])
    without_pseudo = sorted(set(elements) - set(inputs.get('pseudos', {})))
    if without_pseudo:
        return f'pseudos: none for {", ".join(without_pseudo)}; give a pseudopotential for each element'
    if 'data' in inputs and (problem := data_problem(inputs['data'], elements)):
        return problem
    surrogate = inputs.get('surrogate')
    if surrogate is None:
        return None
    unknown = sorted(set(elements) - set(surrogate.elements))
    if unknown:
        return (
            f'surrogate: knows {", ".join(surrogate.elements)} but not {", ".join(unknown)}; choose another one, or '
            'leave it out (`surrogate: bootstrap`) to train the first potential on labelled seeds'
        )
    return None


def data_problem(data: FramesData, elements: list[str]) -> str | None:
    """Return what keeps existing data from being trained on, if anything."""
    if others := sorted(set(data.elements) - set(elements)):
        return (
            f'data: it holds {", ".join(others)}, but system has {", ".join(elements)} alone: leave these frames out, '
            'or add a structure that has these elements to system.structure'
        )
    frames = data.get_atoms()
    if any('frame_id' not in atoms.info for atoms in frames):
        return 'data: a frame has no frame_id; make the node with FramesData.from_atoms(read_labelled(PATH))'
    try:
        existing_data(frames)
    except ValueError as error:
        return f'data: {error}'
    return None


def functional_mismatch(surrogate: PotentialData | None, labelling: LabellingParameters) -> str | None:
    """Return a warning where the surrogate was trained on labels of another functional than the run's; else None.

    Of a potential that does not say what it was trained on, nothing can be said.
    """
    functional = None if surrogate is None else surrogate.base.attributes.get('functional', None)
    if functional is None or functional.lower() == labelling.functional.lower():
        return None
    return (
        f'surrogate: it was trained on labels of {functional}, but labelling.functional is {labelling.functional}. It '
        'explores the volumes and barriers of its own functional, and its errors in the summary are those of the '
        f'functionals, too. Choose a surrogate of {labelling.functional}, or go on: all that it finds is labelled anew'
    )


def find_code(code: orm.AbstractCode | str, key: str) -> orm.AbstractCode:
    """Return a code by its label.

    :param code: the label, or the code itself.
    :param key: where it was asked for; the message begins with it.
    :raises ValueError: if the profile has none, or several, of that label.
    """
    if not isinstance(code, str):
        return code
    try:
        return orm.load_code(code)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise ValueError(
            f'{key}: {code!r} is not the label of one code of this profile; `verdi code list` shows those there are, '
            '`mlip-autopipe init` sets up codes for this computer'
        ) from error


def _pseudos(label: str, elements: list[str]) -> dict[str, orm.Data]:
    family = load_family(label)
    missing = sorted(set(elements) - set(family.elements))
    if missing:
        raise ValueError(
            f'labelling.pseudo_family: {label!r} has no pseudopotential for {", ".join(missing)}; install a family '
            'that has one, or add one to it'
        )
    return family.get_pseudos(elements=elements)
