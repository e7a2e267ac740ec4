"""How fast a computer has been: what the doctor measured there, and what earlier jobs of the profile took.

Of the dynamics the doctor's word counts, as it times steps alone; where it has not been there, past MD jobs do. Labels,
trainings and evaluations are told by past ones alone, of the same elements and level of theory or the same network. The
range is that of the measurements; nothing is assumed where there are none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from aiida import orm
from ase import Atoms

from aiida_mlip_autopipe.config.plan import Rate, Speeds
from aiida_mlip_autopipe.config.schema import Configuration
from aiida_mlip_autopipe.labelling.answers import PastLabel
from aiida_mlip_autopipe.labelling.base import Labeller, labeller_of
from aiida_mlip_autopipe.provenance.cost import cores_of
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.worker.files import RESULT_FILE

__all__ = ['label_rate', 'measured_speeds']

WORKER = 'aiida.calculations:mlip_autopipe.'
NETWORK = ('num_channels', 'max_L', 'r_max', 'correlation', 'max_ell', 'num_interactions', 'dtype', 'method')
"""What decides how long an epoch takes on a frame."""
MOST_JOBS = 20
FEW = 10


def measured_speeds(
    configuration: Configuration, worker_code: orm.AbstractCode | None, labelling_code: orm.AbstractCode | None
) -> Speeds:
    """Return the speeds of the computers of two codes; where a code is None, nothing of it is known."""
    missing = {
        'dynamics': f'mlip-autopipe doctor {configuration.codes.worker}',
        'training': 'no training of this network has been run there yet',
        'evaluation': 'no evaluation has been run there yet',
        'label': 'no label of these elements and this level of theory has been computed there yet',
    }
    known: dict[str, Any] = {}
    if worker_code is not None and worker_code.computer is not None:
        computer = worker_code.computer
        dynamics = _doctor(computer) or _past_dynamics(computer)
        on = dynamics.on if dynamics else 'core'
        known = {
            'dynamics': dynamics,
            'training': _past_training(computer, configuration, on),
            'evaluation': _past_evaluation(computer, on),
        }
    if labelling_code is not None and labelling_code.computer is not None:
        labeller = labeller_of(configuration.labelling)
        known['label'] = label_rate(labeller.past_labels(labelling_code.computer), labeller)
    return Speeds(**known, missing=missing)


def label_rate(past: Sequence[PastLabel], labeller: Labeller) -> Callable[[Atoms], Rate | None]:
    """Return what gives the rate of the label of a structure, from past ones of a like level of theory.

    Those nearest in size are taken. The time grows with what the labelling code says, such as k-points, and with the
    number of atoms somewhere between in proportion and to the third power.
    """

    def rate(atoms: Atoms) -> Rate | None:
        elements, n_atoms, isolated = frozenset(atoms.symbols), len(atoms), is_isolated_atom(atoms)
        effort = labeller.effort(atoms)
        alike = [one for one in past if one.elements == elements and (one.n_atoms == 1 or not isolated)]
        if not alike:
            return None
        size = min((one.n_atoms for one in alike), key=lambda number: abs(np.log(number / n_atoms)))
        seconds = [one.wall_s * cores_of(one.resources) * effort / one.effort for one in alike if one.n_atoms == size]
        least, most = np.quantile(seconds, (0.1, 0.9) if len(seconds) >= FEW else (0.0, 1.0))
        ratio = n_atoms / size
        scaled = '' if size == n_atoms else f', scaled to {n_atoms} with N to N³'
        atoms_of = f'{"-".join(sorted(elements))} atom{"s" if size > 1 else ""}'
        what = f'{len(seconds)} earlier {labeller.program} of {size} {atoms_of}{scaled}'
        return Rate(float(least) * min(ratio, ratio**3), float(most) * max(ratio, ratio**3), what)

    return rate


def _doctor(computer: orm.Computer) -> Rate | None:
    """Return what the last doctor on a computer says of the dynamics; None if there is no word of it."""
    query = orm.QueryBuilder()
    query.append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    query.append(
        orm.CalcJobNode, with_computer='computer', filters={'process_type': f'{WORKER}doctor'}, project='id', tag='job'
    )
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'report'}, project='attributes')
    query.order_by({'job': {'ctime': 'desc'}})
    for pk, report in query.iterall():
        if not report['md_steps']:
            continue
        seconds = [1 / step['atom_steps_per_s'] for step in report['md_steps']]
        on_gpu = report['md_steps'][0]['device'] == 'cuda'
        batches = on_gpu and report.get('engine', {}).get('engine') == 'torchsim'
        sizes = ' and '.join(step['formula'] for step in report['md_steps'])
        basis = f'doctor <{pk}> on {computer.label}: {sizes}, one replica alone'
        return Rate(
            0.0 if batches else min(seconds),
            max(seconds),
            f'{basis}; in batches it is faster' if batches else basis,
            'GPU' if on_gpu else 'core',
        )
    return None


def _past_dynamics(computer: orm.Computer) -> Rate | None:
    found, on = [], 'core'
    for result, output in _worker_jobs(computer, 'mace_md', 'manifest'):
        atom_steps = sum(one['n_atoms'] * one['n_steps'] for one in output['replicas'])
        if output['complete'] and atom_steps:
            on = 'GPU' if output['device'] == 'cuda' else 'core'
            side_by_side = 1 if on == 'GPU' else output['n_processes'] or 1
            found.append(result['wall_s'] * side_by_side / atom_steps)
    return _rate(found, 'MD job', computer, on)


def _past_training(computer: orm.Computer, configuration: Configuration, on: str) -> Rate | None:
    wanted = configuration.training.model_dump()
    network = {f'attributes.{name}': wanted[name] for name in NETWORK}
    found = []
    for result, output in _worker_jobs(computer, 'mace_train', 'metrics', network):
        found.append(result['wall_s'] / (output['run']['n_epochs'] * output['train']['n_frames']))
    return _rate(found, 'training', computer, on)


def _past_evaluation(computer: orm.Computer, on: str) -> Rate | None:
    found = [result['wall_s'] for result, _ in _worker_jobs(computer, 'evaluate', 'metrics')]
    return _rate(found, 'evaluation', computer, on)


def _rate(seconds: Sequence[float], what: str, computer: orm.Computer, on: str) -> Rate | None:
    if not seconds:
        return None
    number = f'{len(seconds)} earlier {what}{"s" if len(seconds) > 1 else ""}'
    return Rate(min(seconds), max(seconds), f'{number} on {computer.label}', on)


def _worker_jobs(
    computer: orm.Computer, name: str, output: str, parameters: dict[str, Any] | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what the newest finished jobs of a stage wrote last, and an output; those from the cache are left out."""
    query = orm.QueryBuilder(limit=MOST_JOBS)
    query.append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    query.append(
        orm.CalcJobNode,
        with_computer='computer',
        filters={
            'process_type': f'{WORKER}{name}',
            'attributes.exit_status': 0,
            'extras': {'!has_key': '_aiida_cached_from'},
        },
        tag='job',
    )
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': output}, project='attributes')
    query.append(orm.FolderData, with_incoming='job', edge_filters={'label': 'retrieved'}, project='*')
    if parameters is not None:
        query.append(orm.Dict, with_outgoing='job', edge_filters={'label': 'parameters'}, filters=parameters)
    query.order_by({'job': {'ctime': 'desc'}})
    for attributes, retrieved in query.all():
        if RESULT_FILE in retrieved.base.repository.list_object_names():
            yield json.loads(retrieved.base.repository.get_object_content(RESULT_FILE)), attributes
