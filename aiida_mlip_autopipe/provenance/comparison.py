"""Two runs side by side: which inputs differ, what their potentials are worth, which labels they share, what they cost.

Errors can be compared only where they were found on the same frames with the same labels. Frames are recognised by the
hash of their content, which is the end of each ``frame_id``: two runs that made the same frame in two jobs share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.changes import changes_of
from aiida_mlip_autopipe.provenance.cost import RunCost, run_cost
from aiida_mlip_autopipe.provenance.states import LABEL

__all__ = ['Comparison', 'Difference', 'ErrorsOnFrames', 'LabelledSet', 'compare']

EVALUATION = 'aiida.workflows:mlip_autopipe.evaluate'
NEW_LABELS = 'new labels'
ERRORS = ('energy_rmse_meV', 'force_rmse_meV_A', 'stress_rmse_GPa')
MISSING = '(not there)'
#: Keys of the configuration that name an input, by a path or a UUID: they differ where it does.
STANDS_FOR = {'surrogate': 'surrogate', 'system.node': 'structure', 'system.structure': 'structure'}
HASH = re.compile(r'-(?P<hash>[0-9a-f]{8})([0-9a-f]{8})?$')

Frames = tuple[frozenset[str], str | None]
"""The hashes of frames, and the fingerprint of their level of theory."""


@dataclass(frozen=True)
class Difference:
    """An input that is not the same in two runs."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class ErrorsOnFrames:
    """What a potential of each run is worth on some frames.

    Attributes
    ----------
    stage : str
        The evaluation: 'evaluate_surrogate', 'evaluate_r1', 'evaluate_labels_r1'.
    frames : str
        'test', 'hot' or 'new labels'.
    first, second : dict or None
        ``n_frames`` and the errors; None where a run has not come so far.
    comparable : bool
        Whether both were found on the same frames, labelled at the same level of theory.
    """

    stage: str
    frames: str
    first: dict[str, Any] | None
    second: dict[str, Any] | None
    comparable: bool


@dataclass(frozen=True)
class LabelledSet:
    """The labels of a stage in each run, None where it has none, and how many frames both have."""

    stage: str
    first: int | None
    second: int | None
    n_shared: int


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes
    ----------
    first, second : int
        Their PKs.
    inputs : list of Difference
        The inputs beside the configuration: structure, potentials, pseudopotentials, codes, versions, and changes that
        were asked for on the way.
    configuration : list of Difference
        The keys of the full configuration whose values differ, such as 'exploration.temperatures_K'.
    errors : list of ErrorsOnFrames
    same_test_set : bool or None
        Whether both have the same test frames with labels of the same level; None if one has no test set yet.
    physics : list of Difference
        The physics checks: name -> (what the potential gave, what DFT gave), of each run.
    labels : list of LabelledSet
    label_fingerprints : tuple of list of str
        The levels of theory of the labels of each run.
    cost : tuple of RunCost
    """

    first: int
    second: int
    inputs: list[Difference]
    configuration: list[Difference]
    errors: list[ErrorsOnFrames]
    same_test_set: bool | None
    physics: list[Difference]
    labels: list[LabelledSet]
    label_fingerprints: tuple[list[str], list[str]]
    cost: tuple[RunCost, RunCost]


def compare(first: orm.WorkChainNode, second: orm.WorkChainNode) -> Comparison:
    """Return where two runs differ.

    Raises
    ------
    ValueError
        If one of them has no configuration: it is no run of the pipeline.
    """
    runs = (first, second)
    for run in runs:
        if 'configuration' not in run.inputs:
            raise ValueError(f'<{run.pk}> is a {run.process_label}, not a run of the pipeline')
    errors = [_errors(run) for run in runs]
    labels = [_labels(run) for run in runs]
    tests = [[frames for (_, name), (_, frames) in found.items() if name == 'test'] for found in errors]
    inputs = _differences(*(dict(_inputs(run)) for run in runs))
    configuration = _differences(*(dict(_flat(run.inputs.configuration.get_dict())) for run in runs))
    differ = {one.name for one in inputs}
    return Comparison(
        first.pk,
        second.pk,
        inputs=inputs,
        configuration=[one for one in configuration if one.name not in STANDS_FOR or STANDS_FOR[one.name] in differ],
        errors=_side_by_side(*errors),
        same_test_set=_same(*(next(iter(found), None) for found in tests)),
        physics=_differences(*(dict(_physics(run)) for run in runs)),
        labels=_shared_labels(*labels),
        label_fingerprints=(_levels(labels[0]), _levels(labels[1])),
        cost=(run_cost(first.pk), run_cost(second.pk)),
    )


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(name, first.get(name, MISSING), second.get(name, MISSING))
        for name in _in_order(first, second)
        if first.get(name, MISSING) != second.get(name, MISSING)
    ]


def _in_order(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> list[Any]:
    """Return the keys of both, those of the first in front."""
    return list(dict.fromkeys([*first, *second]))


def _flat(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested mapping under their dotted names; a list is a leaf."""
    for key in sorted(values):
        if isinstance(values[key], dict) and values[key]:
            yield from _flat(values[key], f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', values[key]


def _inputs(run: orm.WorkChainNode) -> Iterator[tuple[str, str]]:
    """Yield each input of a run beside its configuration, in words that are equal where the inputs are."""
    links = run.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all()
    for link in sorted(links, key=lambda one: one.link_label):
        if link.link_label != 'configuration':
            yield link.link_label.replace('__', '.'), _in_words(link.node)
    for package, version in run.base.attributes.get('version', {}).items():
        yield f'version.{package}', version
    for number, change in enumerate(changes_of(run), start=1):
        for name, value in _flat(change.get_dict()):
            yield f'change {number}: {name}', value


def _in_words(node: orm.Node) -> str:
    if isinstance(node, PotentialData):
        return f'{node.base.attributes.get("origin")}, sha256 {node.sha256[:12]}'
    if isinstance(node, orm.AbstractCode):
        executable = getattr(node, 'filepath_executable', '')
        return f'{node.full_label} ({executable})' if executable else node.full_label
    name = node.get_formula() if isinstance(node, orm.StructureData) else type(node).__name__
    if isinstance(node, orm.SinglefileData) and not isinstance(node, FramesData):
        name = node.filename
    return f'{name}, hash {node.base.caching.compute_hash()[:12]}'


def _errors(run: orm.WorkChainNode) -> dict[tuple[str, str], tuple[dict[str, Any], Frames]]:
    """Return, for each evaluation and each split of its frames, the errors, the frames and their level of theory."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': run.pk}, tag='run')
    query.append(
        orm.WorkChainNode,
        with_incoming='run',
        filters={'process_type': EVALUATION},
        edge_project='label',
        project='ctime',
        tag='stage',
    )
    query.append(orm.CalcJobNode, with_incoming='stage', tag='job')
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'metrics'}, project='attributes', tag='metrics')
    query.append(orm.ArrayData, with_incoming='job', edge_filters={'label': 'predictions'}, project='*')
    query.append(FramesData, with_outgoing='job', edge_filters={'label': 'frames'}, project='attributes')
    found = {}
    for _, metrics, predictions, about, stage in sorted(query.all(), key=lambda row: row[0]):
        hashes = [_content(name) for name in predictions.get_array('frame_id')]
        splits = predictions.get_array('split')
        for name, values in sorted((metrics['by_split'] or {NEW_LABELS: metrics}).items(), reverse=True):
            frames = frozenset(one for one, split in zip(hashes, splits, strict=True) if name in (split, NEW_LABELS))
            errors = {key: values[key] for key in ('n_frames', *ERRORS)}
            found[stage, name] = (errors, (frames, about.get('label_fingerprint')))
    return found


def _content(frame_id: str) -> str:
    """Return the hash of the content of a frame, as many digits as older runs have; an isolated atom has its name."""
    match = HASH.search(frame_id)
    return match['hash'] if match else frame_id


def _same(first: Frames | None, second: Frames | None) -> bool | None:
    return None if first is None or second is None else first == second


def _side_by_side(
    first: Mapping[tuple[str, str], tuple[dict[str, Any], Frames]],
    second: Mapping[tuple[str, str], tuple[dict[str, Any], Frames]],
) -> list[ErrorsOnFrames]:
    rows = []
    for stage, name in _in_order(first, second):
        pair = [found.get((stage, name)) for found in (first, second)]
        errors = [None if one is None else one[0] for one in pair]
        comparable = _same(*(None if one is None else one[1] for one in pair))
        rows.append(ErrorsOnFrames(stage, name, errors[0], errors[1], bool(comparable)))
    return rows


def _physics(run: orm.WorkChainNode) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each figure that was held against DFT."""
    if 'physics' not in run.outputs:
        return
    for check, found in run.outputs.physics['checks'].items():
        for row in found['rows']:
            yield (
                f'{check}: {row["name"]} ({row["unit"]})',
                {key: row[key] for key in ('value', 'reference', 'passed')},
            )


def _labels(run: orm.WorkChainNode) -> dict[str, Frames]:
    """Return the labelled frames of each labelling stage, in order."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'id': run.pk}, tag='run')
    query.append(
        orm.WorkChainNode,
        with_incoming='run',
        filters={'process_type': LABEL},
        edge_project='label',
        project='ctime',
        tag='stage',
    )
    query.append(FramesData, with_incoming='stage', edge_filters={'label': 'labelled'}, project='*')
    return {
        stage: (
            frozenset(_content(atoms.info['frame_id']) for atoms in labelled.get_atoms()),
            labelled.label_fingerprint,
        )
        for _, labelled, stage in sorted(query.all(), key=lambda row: row[0])
    }


def _shared_labels(first: Mapping[str, Frames], second: Mapping[str, Frames]) -> list[LabelledSet]:
    rows = []
    for stage in _in_order(first, second):
        sets = [found[stage][0] if stage in found else None for found in (first, second)]
        numbers = [None if one is None else len(one) for one in sets]
        rows.append(LabelledSet(stage, numbers[0], numbers[1], len((sets[0] or set()) & (sets[1] or set()))))
    return rows


def _levels(labels: Mapping[str, Frames]) -> list[str]:
    """Return the levels of theory of the labels of a run."""
    return sorted({str(level) for _, level in labels.values()})
