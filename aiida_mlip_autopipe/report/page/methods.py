"""A paragraph on the methods, ready for a paper: in the words of the run's own configuration, with references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida_mlip_autopipe.provenance.rounds import RunRecord
from aiida_mlip_autopipe.report.page.blocks import Links, Section, Text, number, title_of
from aiida_mlip_autopipe.report.page.references import REFERENCES
from aiida_mlip_autopipe.report.page.verdict import ERRORS, configuration_elements, judgements
from aiida_mlip_autopipe.science.dynamics.ensembles.base import ensemble_of
from aiida_mlip_autopipe.science.parameters import ExplorationParameters, GenerationParameters, PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS, SELECTION_RULES

__all__ = ['methods']

DESCRIPTORS = {'soap': 'SOAP', 'ace': 'ACE', 'mace': 'MACE features'}


class Citations:
    """Numbers references in the order in which they are cited."""

    def __init__(self) -> None:
        self.cited: list[tuple[str, str]] = []

    def __call__(self, *references: str | Reference) -> str:
        """Return the mark of some references, given themselves or by key: '[1, 4]'."""
        found = [REFERENCES[one] if isinstance(one, str) else one for one in references]
        self.cited += [one for one in dict.fromkeys(found) if one not in self.cited]
        return f'[{", ".join(str(self.cited.index(one) + 1) for one in found)}]'

    def at_the_end(self, sentence: str, references: Sequence[Reference]) -> str:
        """Return a sentence with the mark of what it cites, if anything, before its full stop."""
        return f'{sentence.removesuffix(".")} {self(*references)}.' if references else sentence

    def links(self) -> Links:
        """Return the list of what was cited."""
        return Links(self.cited)


def methods(record: RunRecord) -> Section:
    """Return the paragraph and its references."""
    cite = Citations()
    sentences = (_outline, _seeds, _dynamics, _selection, _labels, _training, _test, _checks)
    paragraphs = [Text(text) for sentence in sentences if (text := sentence(record, cite))]
    note = 'Generated from the configuration of this run. Check it before you use it.'
    return Section('methods', 'Methods, for a paper', [Text(note, 'note'), *paragraphs, cite.links()])


def _outline(record: RunRecord, cite: Citations) -> str:
    versions = record.versions
    n_rounds = sum(bool(one.stage.round) for one in record.trained)
    return (
        f'A MACE potential {cite("mace")} for {", ".join(configuration_elements(record))} was made by active learning '
        f'with aiida-mlip-autopipe {versions["aiida-mlip-autopipe"]} in {n_rounds} '
        f'{"round" if n_rounds == 1 else "rounds"} of molecular dynamics, selection, labelling and training. All steps '
        f'and data are recorded by AiiDA {versions["aiida-core"]} {cite("aiida", "aiida-engine")}; structures were '
        f'handled with ASE {cite("ase")}.'
    )


def _seeds(record: RunRecord, cite: Citations) -> str:
    made, first = GenerationParameters(**record.configuration['generation']), record.surrogate
    begin = 'trained on these labelled seeds'
    if first is not None:
        origin = first.base.attributes.get('origin', 'file')
        foundation = f'{origin} {cite("mace-mp")}' if origin not in ('file', 'trained') else 'a given potential'
        begin = f'{foundation} (SHA-256 {first.sha256[:12]}…)'
    given, earlier = record.run.inputs, ''
    if 'data' in given:
        earlier = f' {given.data.n_frames} labelled frames of earlier work joined them.'
    told = [cite.at_the_end(one.sentence(), one.references()) for one in made.methods().values() if one.count()]
    return (
        f'Seeds were made from the most isotropic supercell of at least {made.target_atoms} atoms. {" ".join(told)} '
        f'Isolated atoms give the reference energies.{earlier} The first potential was {begin}.'
    )


def _dynamics(record: RunRecord, cite: Citations) -> str:
    asked = record.configuration['exploration']
    ensemble = ensemble_of(ExplorationParameters(**asked).dynamics())
    engines = dict.fromkeys(job.manifest['engine'] for one in record.explored for job in one.jobs)
    sampled = [cite.at_the_end(ensemble.sentence(engine), ensemble.references(engine)) for engine in engines]
    conditions = _listed(asked['temperatures_K'], 'K')
    if ensemble.controls_pressure:
        conditions += f' and {_listed(asked["pressures_GPa"], "GPa")}'
    told = (
        f'In each round the newest potential ran molecular dynamics from all seeds at {conditions}, for '
        f'{asked["n_steps"]} steps of {asked["timestep_fs"]:g} fs; every {asked["sample_interval"]} steps a frame was '
        'kept.',
        *sampled,
        'Replicas were stopped when atoms came too close, or temperature, volume or energy left their bounds.',
    )
    return ' '.join(told)


def _selection(record: RunRecord, cite: Citations) -> str:
    asked = record.configuration['exploration']
    descriptor = asked['descriptor']
    kind = descriptor['kind']
    described = f'{DESCRIPTORS[kind]} {cite(kind)}{_size(descriptor)}, averaged over the atoms'
    rule, parameters = SELECTION_RULES[asked['selection']](), ExplorationParameters(**asked).sampling()
    selected = cite.at_the_end(rule.sentence(parameters), rule.references())
    told = f'Frames were described by {described}. {selected}'
    if parameters.random_fraction > 0:
        told += f' Of these, {100 * parameters.random_fraction:g} % were drawn at random before.'
    certain = asked['min_expected_error_eV_A']
    if certain > 0 and record.configuration['training']['committee_size'] > 1:
        told += f' Those without an expected force error above {certain:g} eV/Å {cite("musil")} were left out.'
    return told


def _size(descriptor: dict[str, Any]) -> str:
    if descriptor['kind'] == 'soap':
        size = (descriptor['r_cut'], descriptor['n_max'], descriptor['l_max'], descriptor['sigma'])
        return ' (cutoff {:g} Å, n_max {}, l_max {}, σ {:g} Å)'.format(*size)
    if descriptor['kind'] == 'ace':
        return f' (cutoff {descriptor["r_cut"]:g} Å, correlation order {descriptor["correlation_order"]})'
    return ''


def _labels(record: RunRecord, cite: Citations) -> str:
    labeller = record.labeller
    told = [cite.at_the_end(labeller.sentence(), labeller.references())]
    if version := record.versions.get(labeller.program):
        told.append(f'The version of {labeller.program} is {version}.')
    if fingerprint := next((one.dataset.label_fingerprint for one in reversed(record.trained)), None):
        told.append(f'The fingerprint of the level of theory is {fingerprint}.')
    return ' '.join(told)


def _training(record: RunRecord, cite: Citations) -> str:
    asked = record.configuration['training']
    size = asked['committee_size']
    how = {'scratch': 'from scratch', 'naive': 'by fine-tuning', 'multihead': 'by fine-tuning with replay'}
    model = (
        f', with {asked["num_channels"]} channels, max_L {asked["max_L"]}, {asked["num_interactions"]} layers, '
        f'correlation order {asked["correlation"]} and a cutoff of {asked["r_max"]:g} Å'
        if asked['method'] == 'scratch'
        else ''
    )
    committee = f'; {size} potentials from different random seeds make a committee' if size > 1 else ''
    weights = (
        ' Each selected frame counted by the number of explored frames that it represents, between 1/4 and 4 times the '
        'mean.'
        if asked.get('weigh_by_represented', False)
        else ''
    )
    data = ''
    if record.trained:
        last = record.trained[-1]
        held = sum(split == 'validation' for split in last.splits.values())
        data = (
            f' The data set of {title_of(last.stage)} has {last.dataset.n_frames} frames, {held} of them for '
            'validation, split by the seed that they descend from.'
        )
        if (last.metrics['run'].get('warm_start') or {}).get('kept'):
            data += ' Its training began with the weights of the potential of the round before.'
        if (last.metrics['run'].get('refit') or {}).get('kept'):
            data += f' The linear weights of the last layer were then refitted by ridge regression {cite("ridge")}.'
    return (
        f'MACE was trained {how[asked["method"]]}{model}, for up to {asked["n_steps"]} steps with batches of '
        f'{asked["batch_size"]} and weights {asked["energy_weight"]:g}, {asked["forces_weight"]:g} and '
        f'{asked["stress_weight"]:g} of energy, forces and stress in the loss{committee}.{weights}{data}'
    )


def _test(record: RunRecord, cite: Citations) -> str:
    judged = judgements(record)
    if not judged:
        return ''
    errors = []
    for split, metrics in sorted(judged[-1].metrics['by_split'].items(), reverse=True):
        told = [f'{number(metrics[key], form)} {unit}' for key, (_, unit, form, _) in ERRORS.items()]
        errors.append(f'{", ".join(told)} on {metrics["n_frames"]} frames ({split})')
    asked = record.configuration['evaluation']
    return (
        'The test set was drawn at random from dynamics of separate seeds, from which no training frame descends'
        + (
            f'; a hotter part of it is at {asked["hot_factor"]:g} times the highest temperature of the rounds'
            if len(errors) > 1
            else ''
        )
        + f'. Root mean square errors of energy, forces and stress: {"; ".join(errors)}.'
    )


def _checks(record: RunRecord, cite: Citations) -> str:
    done = record.output('physics')
    if done is None:
        return ''
    parameters = PhysicsParameters(**record.configuration['physics'])
    made = [check for name, check in PHYSICS_CHECKS.items() if name in done['checks']]
    return ' '.join(cite.at_the_end(check.sentence(parameters), check.references) for check in made)


def _listed(values: Any, unit: str) -> str:
    told = [' to '.join(f'{end:g}' for end in value) if isinstance(value, list) else f'{value:g}' for value in values]
    return f'{", ".join(told)} {unit}'
