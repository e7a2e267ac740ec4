"""The model card of a potential: what a run says of it, as one dictionary of plain values.

All of it is read from the provenance graph, nothing is typed in by hand, and nothing is of this profile alone: nodes
are named by UUID, so that the card of an imported run is the same. `text` writes it as Markdown, `limits` draws from it
what the potential is not good for.

The idea of a card: M. Mitchell et al., Proc. Conf. Fairness, Accountability, and Transparency, 220 (2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiida import orm
from ase import Atoms

from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.labelling.base import Labeller
from aiida_mlip_autopipe.pipeline.stages import EXPLORE_TEST, Stage
from aiida_mlip_autopipe.provenance.cost import core_hours
from aiida_mlip_autopipe.provenance.progress import ProgressReader
from aiida_mlip_autopipe.provenance.rounds import Evaluated, RunRecord, versions_of_labels, versions_told
from aiida_mlip_autopipe.report.card.limits import limits_of, without_pks
from aiida_mlip_autopipe.report.reached import Reached
from aiida_mlip_autopipe.science.evaluation import missed_tolerances
from aiida_mlip_autopipe.science.frames import ReplicaEntry
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.systems import fills_its_cell, is_isolated_atom
from aiida_mlip_autopipe.science.training.limits import tell_limit

__all__ = ['POTENTIAL_FILE', 'card_of', 'model_card', 'training_card']

SCHEMA_VERSION = 1
POTENTIAL_FILE = 'potential.model'
INPUTS_OF_TRAINING = ('data', 'test', 'surrogate', 'replay')
KINDS = {'IsolatedAtom': 'isolated atom', 'seed': 'generated', 'candidate': 'explored', 'data': 'given'}
"""Where a frame is from, by its ``config_type``."""


def card_of(run: orm.WorkChainNode, reached: Reached) -> dict[str, Any]:
    """Return the card of the potential of a run of the pipeline, or of a training by itself."""
    is_pipeline = 'exploration' in run.inputs.configuration.get_dict()
    return model_card(run, reached) if is_pipeline else training_card(run, reached)


def model_card(run: orm.WorkChainNode, reached: Reached) -> dict[str, Any]:
    """Return the card of the potential that a run has reached.

    Parameters
    ----------
    run : WorkChainNode
        The ``AutoPipeWorkChain``.
    reached : Reached
        What it has to hand on.

    Returns
    -------
    dict
        Plain values, in the order in which they are read. Units are in the names.
    """
    record = RunRecord(run)
    configuration = run.inputs.configuration.get_dict()
    # Tolerances may have been changed on the way; the summary has those of the end.
    changed = run.outputs.summary['tolerances'] if 'summary' in run.outputs else {}
    card: dict[str, Any] = {
        'schema_version': SCHEMA_VERSION,
        'potential': _potential(reached),
        'run': _run(run, configuration),
        'level_of_theory': _level_of_theory(record.labeller, reached.potential),
        'data': _data(reached.splits()),
        'explored': _explored(record.replicas, configuration['exploration']),
        'errors': _errors(record.evaluated, reached.potential, configuration['evaluation'] | changed)
        | {'risen': _risen(run)},
        'physics': run.outputs.physics.get_dict() if 'physics' in run.outputs else None,
        'rejected_labels': _rejected(record),
        'summary': _summary(run),
        'licence': _licence(run, reached.potential, configuration),
        'cost': _cost(record),
        'versions': _versions(record, reached.potential),
    }
    if card['physics'] is not None:
        # The curves of the checks are drawn in the report; the card tells figures and verdicts.
        card['physics']['checks'] = {
            name: {key: value for key, value in check.items() if key != 'data'}
            for name, check in card['physics']['checks'].items()
        }
        card['physics'].pop('figures', None)
    card['limits'] = limits_of(card)
    return card


def training_card(run: orm.WorkChainNode, reached: Reached) -> dict[str, Any]:
    """Return the card of a potential that was trained on a given set: no word on where it explored, nor on DFT.

    Parameters
    ----------
    run : WorkChainNode
        The ``TrainSetWorkChain``.
    reached : Reached
        What it has to hand on.
    """
    record = RunRecord(run)
    configuration = run.inputs.configuration.get_dict()
    summary = run.outputs.summary.get_dict() if 'summary' in run.outputs else None
    inputs = {name: f'node:{run.inputs[name].uuid}' for name in INPUTS_OF_TRAINING if name in run.inputs}
    training = None if summary is None else summary['training']
    return {
        'schema_version': SCHEMA_VERSION,
        'potential': _potential(reached),
        'run': _state(run, configuration) | {'inputs': inputs},
        'level_of_theory': {'label_fingerprint': run.inputs.data.label_fingerprint},
        'data': _data(reached.splits()),
        'errors': _errors(record.evaluated, reached.potential, configuration['evaluation']),
        'training': training,
        'limited_by': None if training is None else training['run']['limited_by'],
        'limits': [] if summary is None else list(_limits_of_training(summary)),
        'licence': _licence(run, reached.potential, configuration),
        'cost': _cost(record),
        'versions': _versions_of_training(run, reached.potential),
    }


def _limits_of_training(summary: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield what a training by itself says against its potential: its set, and what limits it."""
    if summary['warning'] is not None:
        yield {'kind': 'data', 'text': f'{summary["warning"]}.'}
    told = tell_limit(summary['training'])
    yield {'kind': 'training', 'text': f'{told[0].upper()}{told[1:]}.'}


def _potential(reached: Reached) -> dict[str, Any]:
    """Return what the node of the potential says, and the other members of its committee."""
    attributes = {name: value for name, value in reached.potential.base.attributes.all.items() if name != 'filename'}
    return {
        'file': POTENTIAL_FILE,
        'uuid': reached.potential.uuid,
        **attributes,
        'committee': [
            {'file': f'{name}.model', 'uuid': member.uuid, 'sha256': member.sha256}
            for name, member in reached.committee.items()
        ],
    }


def _run(run: orm.WorkChainNode, configuration: Mapping[str, Any]) -> dict[str, Any]:
    return _state(run, configuration) | {'inputs': _inputs(run, configuration)}


def _state(run: orm.WorkChainNode, configuration: Mapping[str, Any]) -> dict[str, Any]:
    state = run.process_state
    return {
        'uuid': run.uuid,
        'label': run.label,
        'description': run.description,
        'protocol': configuration['protocol'],
        'state': state.value if state is not None else None,
        'exit_status': run.exit_status,
        'exit_message': without_pks(run.exit_message) if run.exit_message else None,
    }


def _inputs(run: orm.WorkChainNode, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an input names, as files or nodes, that is not in the input itself: the nodes of the archive."""
    given: dict[str, Any] = {}
    if configuration['system'].get('prototype') is None:
        given['system'] = {'node': run.inputs.structure.uuid}
    return given | {name: f'node:{run.inputs[name].uuid}' for name in ('surrogate', 'replay') if name in run.inputs}


def _level_of_theory(labeller: Labeller, potential: PotentialData) -> dict[str, Any]:
    return {
        'code': f'{labeller.name}, {labeller.program}',
        'program': labeller.program,
        **labeller.record(),
        'in_words': [list(row) for row in labeller.rows()],
        'label_fingerprint': potential.base.attributes.get('label_fingerprint', None),
    }


def _data(splits: Mapping[str, Sequence[Atoms]]) -> dict[str, Any]:
    """Return, for each split, how many frames of which kind there are and what they span."""
    return {name: {'file': f'{name}.extxyz', **_span(frames)} for name, frames in splits.items()}


def _span(frames: Sequence[Atoms]) -> dict[str, Any]:
    bulk = [atoms for atoms in frames if not is_isolated_atom(atoms)]
    symbols = Counter(symbol for atoms in frames for symbol in atoms.symbols)
    compositions = Counter(atoms.symbols.formula.reduce()[0].format('hill') for atoms in bulk)
    return {
        'n_frames': len(frames),
        'by_kind': dict(Counter(KINDS.get(kind := atoms.info['config_type'], kind) for atoms in frames)),
        'n_origins': len({atoms.info['origin'] for atoms in bulk}),
        'n_atoms_by_element': dict(sorted(symbols.items())),
        'n_frames_by_composition': dict(sorted(compositions.items())),
        'atoms_per_frame': _range(len(atoms) for atoms in bulk),
        'volume_per_atom_A3': _range(
            round(float(atoms.cell.volume) / len(atoms), 3) for atoms in bulk if fills_its_cell(atoms)
        ),
        'temperatures_K': sorted({atoms.info['temperature_K'] for atoms in bulk if 'temperature_K' in atoms.info}),
        'pressures_GPa': sorted({atoms.info['pressure_GPa'] for atoms in bulk if 'pressure_GPa' in atoms.info}),
        'all_periodic': all(atoms.pbc.all() for atoms in bulk),
        'n_with_vacuum': sum(not fills_its_cell(atoms) for atoms in bulk),
    }


def _range(values: Any) -> list[Any] | None:
    found = list(values)
    return [min(found), max(found)] if found else None


def _explored(stages: Mapping[Stage, Sequence[ReplicaEntry]], exploration: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the dynamics have been, stage by stage, and where a guard stopped them."""
    trained = [one for stage, replicas in stages.items() if stage != EXPLORE_TEST for one in replicas]
    return {
        'ensemble': exploration['ensemble'],
        'timestep_fs': exploration['timestep_fs'],
        'n_replicas': len(trained),
        'n_frames': sum(one['n_frames'] for one in trained),
        'temperatures_K': sorted(
            {one[end] for one in trained for end in ('temperature_K', 'temperature_end_K') if one[end] is not None}
        ),
        'pressures_GPa': sorted({one['pressure_GPa'] for one in trained if one['pressure_GPa'] is not None}),
        'strains': sorted({one['strain'] for one in trained}),
        'atoms_per_frame': _range(one['n_atoms'] for one in trained),
        'guards': [row for stage, replicas in stages.items() for row in _guards(stage, replicas)],
    }


def _guards(stage: Stage, replicas: Sequence[ReplicaEntry]) -> list[dict[str, Any]]:
    """Return how many replicas of each condition a guard stopped, of those that ran there."""
    ran = Counter((one['temperature_K'], one['pressure_GPa']) for one in replicas)
    stopped = Counter(
        (one['guard']['name'], one['temperature_K'], one['pressure_GPa']) for one in replicas if one['guard']
    )
    return [
        {
            'stage': stage.label,
            'guard': guard,
            'temperature_K': temperature,
            'pressure_GPa': pressure,
            'n_stopped': number,
            'n_replicas': ran[temperature, pressure],
        }
        for (guard, temperature, pressure), number in sorted(stopped.items(), key=str)
    ]


def _errors(evaluated: Sequence[Evaluated], potential: PotentialData, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the errors of the potential on the test set, of the one before on what it found, of the first one."""
    tests = [one for one in evaluated if one.stage.judges_potential]
    found = [one for one in evaluated if one.stage.judges_labels]
    own = next((one.metrics for one in reversed(tests) if one.potential_uuid == potential.uuid), None)
    errors: dict[str, Any] = {
        'dtype': evaluation['dtype'],
        'tolerances': {name: value for name, value in evaluation.items() if name.startswith('max_')},
        'validation': potential.base.attributes.get('validation_errors', None),
        'test': None,
        'hot': None,
        'calibration': None,
        'above_tolerance': {},
    }
    if own is not None:
        errors |= {
            'above_tolerance': missed_tolerances(own['by_split'], EvaluationParameters(**evaluation)),
            'test': own['by_split'].get('test'),
            'hot': own['by_split'].get('hot'),
            'calibration': own['calibration'],
            **{name: own[name] for name in ('by_element', 'by_temperature', 'by_pressure', 'by_origin')},
        }
    if tests and tests[0].potential_uuid != potential.uuid:
        errors['test_of_the_first'] = tests[0].metrics['by_split'].get('test')
    if found:
        errors['newly_found'] = {'stage': found[-1].stage.label} | {
            name: value
            for name, value in found[-1].metrics.items()
            if not name.startswith('by_') and name != 'calibration'
        }
    return errors


def _risen(run: orm.WorkChainNode) -> list[dict[str, Any]]:
    """Return of each round over which errors rose which did, and why."""
    rounds = run.outputs.summary['rounds'] if 'summary' in run.outputs else []
    return [{'round': one['round'], **one['risen']} for one in rounds if one.get('risen')]


def _rejected(record: RunRecord) -> dict[str, dict[str, int]]:
    """Return of each stage how many labels were rejected for which reason; stages without are left out."""
    return {
        stage.label: dict(sorted(Counter(map(without_pks, reasons.values())).items()))
        for stage, reasons in record.rejected.items()
        if reasons
    }


def _summary(run: orm.WorkChainNode) -> dict[str, Any] | None:
    """Return why there is no further round, what limits the last potential, and what labels are likely to be worth."""
    if 'summary' not in run.outputs:
        return None
    summary = run.outputs.summary.get_dict()
    return {
        'n_rounds': len(summary['rounds']),
        'training': summary['rounds'][-1]['training'] if summary['rounds'] else None,
        **{name: summary[name] for name in ('warning', 'stopped', 'learning_curve')},
    }


def _licence(run: orm.WorkChainNode, potential: PotentialData, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the licences of the potential and of what explored for it or was fine-tuned."""
    surrogate = run.inputs.surrogate if 'surrogate' in run.inputs else None
    return {
        'potential': potential.base.attributes.get('licence', 'unknown'),
        'method': potential.base.attributes.get('method', None),
        'surrogate': surrogate
        and {
            'name': configuration['surrogate'],
            'origin': surrogate.base.attributes.get('origin', None),
            'sha256': surrogate.sha256,
            'licence': surrogate.base.attributes.get('licence', 'unknown'),
        },
        'tool': 'MIT',
    }


def _cost(record: RunRecord) -> dict[str, Any]:
    progress, spent = ProgressReader(record.run.pk).read(), core_hours(record.run.pk)
    stages = [call.link for call in record.stages if call.link in spent]
    return {
        'wall_hours': round(progress.seconds / 3600, 2),
        'core_hours': round(sum(spent.values()), 3),
        'core_hours_by_stage': {stage: round(spent[stage], 4) for stage in stages},
        'n_calculations': progress.n_processes,
        'n_reused': progress.n_reused,
    }


def _versions(record: RunRecord, potential: PotentialData) -> dict[str, str]:
    """Return the versions of what made the potential, and of what labels."""
    labels = versions_of_labels(record.run, record.calls.values())
    told = {record.labeller.program: ', '.join(sorted(labels))} if labels else {}
    return _versions_of_training(record.run, potential) | told


def _versions_of_training(run: orm.WorkChainNode, potential: PotentialData) -> dict[str, str]:
    """Return the versions of what made the potential: the worker's packages, AiiDA, this package."""
    training = potential.creator
    has_told = training is not None and 'retrieved' in training.outputs
    versions = dict(versions_told(training.outputs.retrieved)) if has_told else {}
    told = run.base.attributes.get('version', {})
    return versions | {
        name: told[key]
        for name, key in (('aiida-core', 'core'), ('aiida-mlip-autopipe (workflows)', 'plugin'))
        if key in told
    }
