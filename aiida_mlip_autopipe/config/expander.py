"""ConfigExpander: from a minimal ``input.yaml`` to a full, validated configuration.

A value comes from the user, else from the protocol, else from a heuristic on the system at hand, else from the default
of its parameter model; the expansion remembers which. All problems are found and reported together, before anything is
submitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from ase import Atoms
from pydantic import TypeAdapter, ValidationError

from aiida_mlip_autopipe.config.dump import dump_yaml, flatten
from aiida_mlip_autopipe.config.elements import elements_not_there
from aiida_mlip_autopipe.config.errors import ConfigError, show, translate
from aiida_mlip_autopipe.config.heuristics import Suggestion, displacements, physics_temperature, suggest, temperatures
from aiida_mlip_autopipe.config.labels import LABELLING_PREFIX, of_labels, recommended_for
from aiida_mlip_autopipe.config.loader import load_yaml, read_text
from aiida_mlip_autopipe.config.relaxation import relaxation_of
from aiida_mlip_autopipe.config.schema import Configuration, HeuristicRules, Protocol, model_of
from aiida_mlip_autopipe.config.system import (
    check_surrogate_elements,
    find_frames,
    find_sources,
    find_surrogate,
    recognise,
)
from aiida_mlip_autopipe.science.frames.carried import carried_arrays
from aiida_mlip_autopipe.science.generate import StructureGenerator, isotropic_supercell, lattice_constant
from aiida_mlip_autopipe.science.parameters import LABELLERS, named_kind
from aiida_mlip_autopipe.science.parameters.exploration import MeltingFractions
from aiida_mlip_autopipe.science.parameters.labelling import kind_of
from aiida_mlip_autopipe.science.systems import Dimensionality, fills_its_cell, recognised, tell_systems
from aiida_mlip_autopipe.science.systems.consequences import Consequence, consequences, refused

__all__ = ['ConfigExpander', 'Expansion', 'check_surrogate_elements', 'load_protocol', 'merged']

PROTOCOLS: tuple[str, ...] = get_args(Configuration.model_fields['protocol'].annotation)
DEFAULT_PROTOCOL: str = Configuration.model_fields['protocol'].default
TEMPERATURES, MELTING_FRACTIONS = 'exploration.temperatures_K', 'exploration.melting_fractions'
WEIGHTS_PREFIX = 'exploration.descriptor.compression.species_weighting.'
HEADER = """The full configuration of the run. Each value is followed by its origin:
user: the input; protocol: the protocol's file; heuristic: estimated for this system, and from what;
default: the schema. This file is itself a valid input: run it to repeat the run, or edit it."""


@dataclass(frozen=True)
class Expansion:
    """A full configuration and the origin of each of its values.

    Attributes
    ----------
    configuration : Configuration
        Validated; ``configuration.model_dump()`` is what the workflow gets.
    origins : dict
        Flat key (``exploration.temperatures_K``) -> 'user', 'protocol', 'heuristic' or 'default'.
    reasons : dict
        Flat key -> the reason of a heuristic, or what a value comes to.
    sources : list of Atoms
        The structures that the seeds are made from.
    found : tuple of Dimensionality
        What each of them is.
    remarks : dict
        Flat key -> what to beware of in a value that the user gave.
    """

    configuration: Configuration
    origins: dict[str, str]
    reasons: dict[str, str]
    sources: list[Atoms]
    found: tuple[Dimensionality, ...] = ()
    remarks: dict[str, str] = field(default_factory=dict)

    @property
    def elements(self) -> list[str]:
        """Return the elements of the system, sorted."""
        return _elements(self.sources)

    def warnings(self) -> list[str]:
        """Return what to beware of in values that the user gave, one line for each."""
        given = flatten(self.configuration.model_dump())
        return [f'{key}: {show(given[key])} is {remark}' for key, remark in self.remarks.items()]

    def dump(self) -> str:
        """Return the configuration as YAML, each value followed by its origin."""
        data = self.configuration.model_dump()
        return dump_yaml(data, {path: self._comment(path) for path in flatten(data)}, HEADER)

    def _comment(self, path: str) -> str:
        origin, reason = self.origins[path], self.reasons.get(path, '')
        if origin == 'protocol':
            origin = f'protocol: {self.configuration.protocol}'
            return f'{origin} ({reason})' if reason else origin
        return f'{origin}: {reason}' if reason else origin


class ConfigExpander:
    """Expand an input.

    Parameters
    ----------
    source : str, Path or mapping
        YAML text, the path of a YAML file, or its content. A one-line text that names an existing file, or ends with
        .yaml, .yml or .json, is a path.
    base : Path, optional
        Folder that paths in the input are relative to; default: the folder of the input file, else the current one.

    Raises
    ------
    ConfigError
        If the input cannot be read as a mapping of plain values.
    """

    def __init__(self, source: str | Path | Mapping[str, Any], base: str | Path | None = None) -> None:
        self.name = 'input'
        if isinstance(source, Mapping):
            self.data: dict[str, Any] = deepcopy(dict(source))
            folder = Path()
        elif isinstance(source, Path) or _is_path(source):
            path = Path(source)
            self.name, folder = str(path), path.parent
            self.data = load_yaml(read_text(path), self.name)
        else:
            folder = Path()
            self.data = load_yaml(source)
        self.base = Path(base if base is not None else folder).resolve()

    def expand(
        self,
        recommended: Any = None,
        sources: Sequence[Atoms] | None = None,
    ) -> Expansion:
        """Return the full configuration with the origin of every value.

        Parameters
        ----------
        recommended : any, optional
            What the profile recommends to the labelling code, in that code's own form (`Labeller.recommended`), such as
            the cutoffs of each element; or what gives this for the section ``labelling`` of the input (its
            ``ValueError`` becomes one of the problems). Without it, nothing of the labelling code is derived that
            only the profile knows.
        sources : sequence of Atoms, optional
            The structures of ``system: {node: ...}``, which only AiiDA can load.

        Raises
        ------
        ConfigError
            With all problems of the input.
        """
        user = _without_empty_sections(_spelled_out(self.data))
        structures, problems = self._sources(user, sources)
        problems += self._files(user)
        protocol = load_protocol(user['protocol'] if user.get('protocol') in PROTOCOLS else DEFAULT_PROTOCOL)
        given = flatten(user)
        fractions, twofold = _take_melting_fractions(user)
        problems += twofold
        suggestions, forced, remarks = dict[str, Suggestion](), dict[str, Consequence](), dict[str, str]()
        found: list[Dimensionality] = []
        if structures:
            recommended, unknown = recommended_for(user, recommended)
            problems += unknown
            asked_of_labels, lacking, remarks = of_labels(user, structures, recommended, protocol.heuristics)
            problems += lacking + _element_problems(given, _elements(structures))
            found, grid, forced, unfit = _of_system(structures, protocol.heuristics, given, fractions)
            suggestions = suggest(structures, given) | grid | asked_of_labels | _lattice(user['system'])
            problems += unfit
        preset = _of_same_kind(merged([protocol.configuration, _protocol_of_labels(user)]), user)
        data = merged([_nested(_values(suggestions)), preset, _nested(_values(forced)), user])
        if found:
            relaxation, unfit = relaxation_of(data, structures, found, recommended)
            suggestions |= relaxation
            problems += unfit
            given = {key: value for key, value in given.items() if key not in relaxation}
        configuration, invalid = _validated(data)
        problems += invalid
        if configuration is not None and structures and not problems:
            problems += _source_problems(configuration, structures)
        if configuration is None or problems:
            raise ConfigError(problems, self.name)
        origins = _origins(configuration, given, flatten(preset), suggestions, forced)
        told = {key: item.reason for found_there in (suggestions, forced) for key, item in found_there.items()}
        reasons = {key: reason for key, reason in told.items() if origins.get(key) == 'heuristic'}
        if fractions is not None:
            reasons[MELTING_FRACTIONS] = f'{fractions}, in K in temperatures_K'
        reasons |= _notes(configuration, origins, structures) | _told_of_system(configuration, structures, found)
        return Expansion(configuration, origins, reasons | remarks, structures, tuple(found), remarks)

    def _sources(self, user: dict[str, Any], sources: Sequence[Atoms] | None) -> tuple[list[Atoms], list[str]]:
        """Return the structures and the problems; make a path in ``user`` absolute."""
        system = user.get('system')
        if not isinstance(system, Mapping):
            return [], []
        if system.get('node') is not None and sources is not None:
            return list(sources), []
        if system.get('node') is not None:
            return [], [f'system.node: {system["node"]} can only be loaded by AiiDA; give its structures to expand()']
        user['system'], structures, problems = find_sources(system, self.base)
        return structures, problems

    def _files(self, user: dict[str, Any]) -> list[str]:
        """Return the problems of the surrogate, of data and of frames to replay; make paths in ``user`` absolute."""
        found = []
        for name, find in (
            ('surrogate', find_surrogate),
            ('data', partial(find_frames, 'data')),
            ('replay', partial(find_frames, 'replay')),
        ):
            if isinstance(user.get(name), str) and user[name]:
                user[name], problems = find(user[name], self.base)
                found += problems
        return found


@lru_cache
def load_protocol(name: str) -> Protocol:
    """Return a protocol by its name: ``fast``, ``balanced`` or ``stringent``."""
    text = (files('aiida_mlip_autopipe.config') / 'protocols' / f'{name}.yaml').read_text(encoding='utf-8')
    return Protocol(**load_yaml(text, f'protocol {name}'))


def _is_path(source: str) -> bool:
    if not source.strip() or '\n' in source:
        return False
    return source.endswith(('.yaml', '.yml', '.json')) or (len(source) < 256 and Path(source).is_file())


def _elements(sources: Sequence[Atoms]) -> list[str]:
    return sorted({symbol for atoms in sources for symbol in atoms.symbols})


def _spelled_out(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with the bare name of a descriptor as a section, so that a protocol's values can join it."""
    exploration = data.get('exploration')
    if not isinstance(exploration, Mapping) or 'descriptor' not in exploration:
        return dict(data)
    return {**data, 'exploration': {**exploration, 'descriptor': named_kind(exploration['descriptor'])}}


def _without_empty_sections(data: Mapping[str, Any], location: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a copy without sections that hold nothing; null for a value stays, as it may mean no bound."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        path = (*location, key)
        if isinstance(value, Mapping):
            kept[key] = _without_empty_sections(value, path)
        elif value is not None or model_of(path) is None:
            kept[key] = value
    return kept


def merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return nested mappings on top of each other, the last one uppermost."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = whole.get(key)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            whole[key] = merged([below, value]) if both else value  # type: ignore[list-item]
    return whole


def _of_same_kind(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings without those that are of another kind than the one above them: they do not mix."""
    kept: dict[str, Any] = {}
    for key, value in below.items():
        upper = above.get(key)
        if not (isinstance(value, Mapping) and isinstance(upper, Mapping)):
            kept[key] = value
        elif 'kind' not in value or upper.get('kind', value['kind']) == value['kind']:
            kept[key] = _of_same_kind(value, upper)
    return kept


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{'a.b': 1}`` as ``{'a': {'b': 1}}``."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, key = path.split('.')
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[key] = value
    return nested


def _values(found: Mapping[str, Suggestion | Consequence]) -> dict[str, Any]:
    return {key: item.value for key, item in found.items()}


def _validated(data: dict[str, Any]) -> tuple[Configuration | None, list[str]]:
    try:
        return Configuration.model_validate(data, strict=True), []
    except ValidationError as error:
        return None, translate(error, data)


def _take_melting_fractions(user: dict[str, Any]) -> tuple[list[float] | None, list[str]]:
    """Take valid fractions of the melting estimate out of the input, for the temperatures to follow from them.

    What is not valid is left for the schema to find.
    """
    given = flatten(user)
    fractions = given.get(MELTING_FRACTIONS)
    if fractions is None:
        return None, []
    if given.get(TEMPERATURES) is not None:
        problem = (
            f'{MELTING_FRACTIONS} {show(fractions)} and {TEMPERATURES} {show(given[TEMPERATURES])} are given; give one '
            'of them only'
        )
        user['exploration'] = {**user['exploration'], 'melting_fractions': None}
        return None, [problem]
    try:
        valid = TypeAdapter[list[float]](MeltingFractions).validate_python(fractions, strict=True)
    except ValidationError:
        return None, []
    user['exploration'] = {**user['exploration'], 'melting_fractions': None}
    return valid, []


def _lattice(system: Mapping[str, Any]) -> dict[str, Suggestion]:
    if system.get('prototype') is None:
        return {}
    return {'system.lattice_constant_A': Suggestion(*lattice_constant(system['prototype'], system['composition']))}


def _of_system(
    structures: Sequence[Atoms], rules: HeuristicRules, given: Mapping[str, Any], fractions: Sequence[float] | None
) -> tuple[list[Dimensionality], dict[str, Suggestion], dict[str, Consequence], list[str]]:
    """Return what the structures are, the temperatures, what else follows, and what is wrong with what is asked."""
    found, problems = recognise(structures)
    if not found:
        return [], {}, {}, problems
    grid, unknown = temperatures(structures, found, rules, given, fractions)
    asked = given[TEMPERATURES] if TEMPERATURES in given else grid[TEMPERATURES].value if grid else None
    grid |= displacements(structures, found, asked, given) | physics_temperature(asked)
    unfit = refused(found, given)
    # with what is refused, the schema would only complain of the same again
    return found, grid, {} if unfit else consequences(found), unknown + unfit


def _protocol_of_labels(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a protocol sets of the labelling code's own parameters."""
    kind = kind_of(user.get('labelling'))
    name = user['protocol'] if user.get('protocol') in PROTOCOLS else DEFAULT_PROTOCOL
    return {'labelling': dict(LABELLERS[kind].protocols.get(name, {}))} if kind in LABELLERS else {}


def _element_problems(given: Mapping[str, Any], elements: Sequence[str]) -> list[str]:
    """Return what is wrong with the elements that are keys."""
    weighted = {key.removeprefix(WEIGHTS_PREFIX) for key in given if key.startswith(WEIGHTS_PREFIX)}
    problems = elements_not_there(weighted, elements, WEIGHTS_PREFIX)
    missing = sorted(set(elements) - weighted)
    if weighted and missing:
        problems.append(f'{WEIGHTS_PREFIX[:-1]}: no weight for {", ".join(missing)}; give one for each element')
    return problems


def _source_problems(configuration: Configuration, sources: Sequence[Atoms]) -> list[str]:
    if configuration.physics.checks and len(sources) > 1:
        return [f'physics.checks: of one crystal, and system has {len(sources)} structures; give one, or no checks']
    try:
        StructureGenerator(configuration.generation).check(sources)
    except ValueError as error:
        return [f'system: {error}']
    misfits: list[str] = LABELLERS[configuration.labelling.kind](configuration.labelling).misfits(sources)
    return misfits or _budget_problems(configuration, sources)


def _budget_problems(configuration: Configuration, sources: Sequence[Atoms]) -> list[str]:
    """Return what is wrong with a budget of labels that ends before the first round does."""
    budget = configuration.loop.max_labels
    n_seeds = StructureGenerator(configuration.generation).count(len(sources))
    parts = {
        'isolated atoms': len(_elements(sources)),
        'seeds (generation)': n_seeds,
        'test frames (evaluation.n_test)': configuration.evaluation.n_test,
        'frames of the first round (exploration.n_to_select)': configuration.exploration.n_to_select,
    }
    if configuration.data is not None:
        parts['frames of the data (labelling.n_data_checks)'] = configuration.labelling.n_data_checks
    needed = sum(parts.values())
    if budget is None or budget >= needed:
        return []
    told = ' + '.join(f'{number} {name}' for name, number in parts.items())
    return [f'loop.max_labels: {budget} is below {needed} = {told}; raise it to at least {needed}, or lower the others']


def _origins(
    configuration: Configuration,
    user: Mapping[str, Any],
    protocol: Mapping[str, Any],
    suggestions: Mapping[str, Suggestion],
    forced: Mapping[str, Consequence],
) -> dict[str, str]:
    layers: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ('user', user),
        ('heuristic', forced),
        ('protocol', protocol),
        ('heuristic', suggestions),
    )
    return {
        path: next((origin for origin, keys in layers if path in keys), 'default')
        for path in flatten(configuration.model_dump())
    }


def _notes(configuration: Configuration, origins: Mapping[str, str], sources: Sequence[Atoms]) -> dict[str, str]:
    """Return what some values come to for this system."""
    notes = {}
    if sources:
        cell = isotropic_supercell(recognised(sources[0]), configuration.generation.target_atoms)
        lengths = ' x '.join(f'{length:.2f}' for length in cell.cell.lengths())
        along = '' if fills_its_cell(cell) else ', repeated along what is filled'
        notes['generation.target_atoms'] = f'{len(cell)} atoms, {lengths} Å{along}'
    for key, note in LABELLERS[configuration.labelling.kind].unsuggested.items():
        if origins[LABELLING_PREFIX + key] == 'default':
            notes[LABELLING_PREFIX + key] = note
    return notes


def _told_of_system(
    configuration: Configuration, sources: Sequence[Atoms], found: Sequence[Dimensionality]
) -> dict[str, str]:
    """Return what the structures were taken for, and what their atoms carry, at the key that names them."""
    system = configuration.system
    key = next((name for name in ('structure', 'node', 'prototype') if getattr(system, name) is not None), None)
    if not (key and found):
        return {}
    carried = sorted({name for atoms in sources for name in carried_arrays(atoms)})
    kept = f'; its {", ".join(carried)} are kept up to the labels' if carried else ''
    return {f'system.{key}': tell_systems(sources, found) + kept}
