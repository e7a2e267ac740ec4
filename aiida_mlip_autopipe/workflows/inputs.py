"""From a configuration to the inputs of the pipeline: codes, what they need, and what must hold before submission."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.engine import ProcessBuilder
from ase import Atoms
from pydantic import ValidationError

from aiida_mlip_autopipe.config import ConfigExpander, Configuration, Expansion
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling.base import Labeller, labeller_of
from aiida_mlip_autopipe.science.charge import charge_problem
from aiida_mlip_autopipe.science.existing_data import judged_data
from aiida_mlip_autopipe.science.parameters.labelling import (
    LABELLERS,
    LabellingParameters,
    kind_of,
    labelling_parameters,
)
from aiida_mlip_autopipe.science.potential.foundation import FOUNDATIONS, plus_u_elements

__all__ = [
    'build_inputs',
    'data_problem',
    'elements_of',
    'expand_for',
    'find_code',
    'functional_mismatch',
    'labelling_nodes',
    'recommended_in_profile',
    'validate_configuration',
    'validate_inputs',
]

_JUDGED: dict[tuple[str, str], str | None] = {}


def elements_of(structure: orm.StructureData | FramesData) -> list[str]:
    """Return the chemical symbols of a source structure, sorted."""
    if isinstance(structure, FramesData):
        return structure.elements
    return sorted(structure.get_symbols_set())


def recommended_in_profile(labelling: Mapping[str, Any]) -> Any:
    """Return what the profile recommends to the labelling code of a section ``labelling`` of the input.

    :raises ValueError: if the profile lacks what the section names.
    """
    return LABELLERS[kind_of(labelling)].recommended(labelling)


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
        'system': {'node': structure.uuid, **_relaxation(overrides)},
        'surrogate': 'bootstrap' if surrogate is None else f'node:{surrogate.uuid}',
        'protocol': protocol,
    }
    given |= {name: f'node:{node.uuid}' for name, node in (('replay', replay), ('data', data)) if node is not None}
    return ConfigExpander({**overrides, **given}).expand(
        recommended=recommended_in_profile, sources=source_atoms(structure)
    )


def _relaxation(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the overrides say of the relaxation: the only word on the system beside the structure itself."""
    system = overrides.get('system')
    return {'relax': system['relax']} if isinstance(system, Mapping) and 'relax' in system else {}


def build_inputs(
    builder: ProcessBuilder,
    configuration: Configuration,
    *,
    structure: orm.StructureData | FramesData,
    surrogate: PotentialData | None,
    replay: FramesData | None = None,
    data: FramesData | None = None,
    worker_code: orm.AbstractCode | str,
    labelling_code: orm.AbstractCode | str | None,
) -> ProcessBuilder:
    """Fill the builder of the pipeline; everything that can be checked is checked here.

    :param labelling_code: the code that labels; None for a labelling code that needs none.
    :raises ValueError: if a code is missing, an element cannot be labelled or the surrogate does not know it.
    """
    builder.worker_code = find_code(worker_code, 'codes.worker')
    builder.structure = structure
    for name, node in (('surrogate', surrogate), ('replay', replay), ('data', data)):
        if node is not None:
            setattr(builder, name, node)
    builder.labelling = labelling_nodes(configuration, elements_of(structure), labelling_code)
    builder.configuration = orm.Dict(configuration.model_dump(mode='json'))
    problem = validate_inputs(dict(builder), None)
    if problem:
        raise ValueError(problem)
    return builder


def labelling_nodes(
    configuration: Configuration, elements: list[str], code: orm.AbstractCode | str | None
) -> dict[str, orm.Data]:
    """Return what the labelling code needs of the profile, by name: its code, and what else it asks for.

    :raises ValueError: if something is missing.
    """
    labelling = configuration.labelling
    nodes = {} if code is None else {'code': find_code(code, 'codes.labelling')}
    return nodes | LABELLERS[labelling.kind].find_nodes(labelling, elements)


def validate_configuration(node: orm.Dict, _port: object) -> str | None:
    """Return what is wrong with a configuration, if anything."""
    try:
        Configuration(**node.get_dict())
    except (ValidationError, ValueError) as error:
        return str(error)
    return None


def validate_inputs(inputs: Mapping[str, Any], _namespace: object) -> str | None:
    """Return what keeps the pipeline from being submitted, if anything."""
    if 'structure' not in inputs:
        return None
    elements = elements_of(inputs['structure'])
    if 'configuration' in inputs:
        labeller = labeller_of(inputs['configuration']['labelling'], inputs.get('labelling', {}))
        if problem := labeller.problem(elements):
            return problem
        frames = inputs['data'].get_atoms() if 'data' in inputs else []
        if problem := next(filter(None, map(labeller.unfit, frames)), None):
            return f'data: {problem}'
    if 'data' in inputs and 'configuration' in inputs:
        labelling = labelling_parameters(**inputs['configuration']['labelling'])
        if problem := data_problem(inputs['data'], elements, labelling):
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


def data_problem(data: FramesData, elements: list[str], labelling: LabellingParameters) -> str | None:
    """Return what keeps existing data from being trained on, if anything.

    What was found of a set is kept: it is asked again when the run is submitted, and a large one takes a minute.
    """
    if others := sorted(set(data.elements) - set(elements)):
        return (
            f'data: it holds {", ".join(others)}, but system has {", ".join(elements)} alone: leave these frames out, '
            'or add a structure that has these elements to system.structure'
        )
    checksum = hashlib.sha256(data.get_content(mode='rb')).hexdigest()
    key = checksum, labelling.model_dump_json()
    if key not in _JUDGED:
        _JUDGED[key] = _frames_problem(data.get_atoms(), labelling)
    return _JUDGED[key]


def _frames_problem(frames: list[Atoms], labelling: LabellingParameters) -> str | None:
    if any('frame_id' not in atoms.info for atoms in frames):
        return 'data: a frame has no frame_id; make the node with FramesData.from_atoms(read_labelled(PATH))'
    if problem := charge_problem(frames, labeller_of(labelling).charge):
        return f'data: {problem}'
    try:
        judged_data(frames, labelling)
    except ValueError as error:
        return f'data: {error}'
    return None


def functional_mismatch(
    surrogate: PotentialData | None, labeller: Labeller, elements: Iterable[str] = ()
) -> str | None:
    """Return a warning where the surrogate was trained on labels of another functional, or with U; else None.

    Of a potential that does not say what it was trained on, and of a labelling code without one, nothing can be said.
    """
    functional = None if surrogate is None else surrogate.base.attributes.get('functional', None)
    own = labeller.functional
    if functional is None or own is None:
        return None
    if functional.lower() == own.lower():
        return _plus_u_mismatch(surrogate, labeller, elements)
    return (
        f'surrogate: it was trained on labels of {functional}, but labelling.functional is {own}. It '
        'explores the volumes and barriers of its own functional, and its errors in the summary are those of the '
        f'functionals, too. Choose a surrogate of {own}, or go on: all that it finds is labelled anew'
    )


def _plus_u_mismatch(surrogate: PotentialData | None, labeller: Labeller, elements: Iterable[str]) -> str | None:
    """Return a warning where a published model has learned oxides with U, and the labels have none."""
    name = None if surrogate is None else surrogate.base.attributes.get('origin', None)
    if name not in FOUNDATIONS or not FOUNDATIONS[name].has_plus_u:
        return None
    without = {one: u_eV for one, u_eV in plus_u_elements(elements).items() if one not in labeller.with_plus_u}
    if not without:
        return None
    told = ', '.join(f'{one} {u_eV:g} eV' for one, u_eV in without.items())
    return (
        f'surrogate: {name} was trained on oxides and fluorides with a Hubbard U ({told}), and the labels have none: '
        'it explores other volumes, moments and barriers than those of the labels. Give labelling.hubbard, or go on: '
        'all that it finds is labelled anew'
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
