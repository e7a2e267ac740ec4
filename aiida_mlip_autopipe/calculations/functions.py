"""The pipeline's steps as calcfunctions: what is quick, and what a notebook or a test runs in the process at hand.

``run_mace_md``, ``calculate_descriptors`` and ``direct_sampling_local`` are the in-process twins of the CalcJobs and
give the same answers. The daemon never runs them: a calcfunction blocks its worker.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from aiida import orm
from aiida.engine import Process, calcfunction
from ase.io import iread

from aiida_mlip_autopipe.config.expander import merged
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.science.evaluation import fit_learning_curve, missed_tolerances
from aiida_mlip_autopipe.science.existing_data import EXISTING_DATA
from aiida_mlip_autopipe.science.parameters import (
    DynamicsParameters,
    EvaluationParameters,
    GenerationParameters,
    LabellingParameters,
    SamplingParameters,
    TrainingParameters,
    descriptor_parameters,
)
from aiida_mlip_autopipe.science.random_seeds import derived_seed
from aiida_mlip_autopipe.science.training.split import is_isolated_atom

from .labels import (
    check_label,
    energy_outliers,
    fingerprint,
    label_of_pw,
    labelled_atoms,
    labels_of_batch,
)
from .pw_inputs import kpoints_mesh, label_key, pw_parameters

__all__ = [
    'calculate_descriptors',
    'change_configuration',
    'collect_labels',
    'committee_parameters',
    'direct_sampling_local',
    'generate_structures',
    'mark_corner',
    'pick_structure',
    'round_parameters',
    'run_mace_md',
    'split_dataset',
    'summarise',
]

STAGES_OF_A_ROUND = ('generation', 'dynamics', 'sampling', 'labelling', 'training', 'evaluation', 'physics')


@calcfunction
def round_parameters(
    configuration: orm.Dict, round_number: orm.Int, metrics: orm.Dict | None = None
) -> dict[str, orm.Dict]:
    """Derive the parameters of each stage of a round from the configuration.

    Each round explores and samples with a random seed of its own; round 0, where the test set is made, samples at
    random as many frames as the evaluation asks for, as many from the corner as from each temperature of the rounds.

    :param configuration: the full configuration, as ``ConfigExpander`` makes it.
    :param round_number: 0 for what comes before the first round.
    :param metrics: errors of the committee that explores on the test set: its disagreement is multiplied by the factor
        of their calibration.
    """
    values = configuration.get_dict()
    exploration = dict(values['exploration'])
    number = round_number.value
    exploration['random_seed'] = derived_seed(exploration['random_seed'], number)
    if number == 0:
        exploration |= _for_the_test_set(exploration['temperatures_K'], values['evaluation'])
    elif metrics is not None and metrics['calibration'] and metrics['calibration']['factor']:
        exploration['disagreement_factor'] = metrics['calibration']['factor']
    stages = {
        **values,
        'dynamics': {name: exploration[name] for name in DynamicsParameters.model_fields},
        'sampling': {name: exploration[name] for name in SamplingParameters.model_fields},
    }
    return {stage: orm.Dict(stages[stage]) for stage in STAGES_OF_A_ROUND}


@calcfunction
def change_configuration(configuration: orm.Dict, change: orm.Dict) -> orm.Dict:
    """Put the values of a change, section by section, in the place of those of a configuration."""
    return orm.Dict(merged([configuration.get_dict(), change.get_dict()]))


def _for_the_test_set(temperatures: list, evaluation: dict) -> dict:
    """Return what differs where the test set is explored: any frame may be in it, and the corner joins the grid."""
    corner = evaluation['corner_factor']
    return {
        'temperatures_K': [*temperatures, *([] if corner is None else [corner * float(np.max(temperatures))])],
        'selection': 'random',
        'group_by': 'temperature',
        'n_to_select': evaluation['n_test'],
        'environment_fill': 0.0,
        'min_expected_error_eV_A': 0.0,
    }


@calcfunction
def generate_structures(structure: orm.Data, parameters: orm.Dict) -> dict[str, FramesData]:
    """Generate what the pipeline starts from.

    :param structure: ``StructureData`` or ``FramesData``, the source.
    :param parameters: ``GenerationParameters``.
    :returns: ``seeds`` to explore from; ``initial``, isolated atoms and seeds, to label first; ``test_seeds``, from
        which the test set is explored.
    """
    from aiida_mlip_autopipe.science.generate import StructureGenerator

    sources = source_atoms(structure)
    generator = StructureGenerator(GenerationParameters(**parameters.get_dict()))
    elements = sorted({symbol for atoms in sources for symbol in atoms.symbols})
    seeds = generator.generate(sources)
    return {
        'seeds': FramesData.from_atoms(seeds),
        'initial': FramesData.from_atoms([*generator.isolated_atoms(elements), *seeds]),
        'test_seeds': FramesData.from_atoms(generator.generate_test_seeds(sources)),
    }


@calcfunction
def run_mace_md(potential: PotentialData, seeds: FramesData, parameters: orm.Dict) -> dict[str, orm.Data]:
    """Run MACE molecular dynamics in this process: the twin of the ``mace_md`` CalcJob.

    :param parameters: ``DynamicsParameters``.
    :returns: ``manifest`` and ``shards``, a folder as the CalcJob leaves it on its computer.
    """
    from aiida_mlip_autopipe.science.dynamics import run_replicas

    with TemporaryDirectory() as name, potential.as_path() as model:
        folder = Path(name)
        manifest = run_replicas(
            model,
            seeds.get_atoms(),
            DynamicsParameters(**parameters.get_dict()),
            folder,
            md_job=Process.current().node.uuid[:8],
        )
        return {'manifest': orm.Dict(manifest), 'shards': orm.FolderData(tree=str(folder))}


@calcfunction
def calculate_descriptors(
    shards: orm.FolderData, parameters: orm.Dict, potential: PotentialData | None = None
) -> orm.ArrayData:
    """Describe every frame of a folder of shards.

    :param parameters: ``SoapParameters``, ``AceParameters`` or ``MaceFeaturesParameters``, told apart by ``kind``.
    :param potential: the potential whose features are wanted, for ``kind: mace``.
    :returns: array ``features``, shape (n_frames, n_features); NaN in the rows of frames that cannot be described.
    """
    from aiida_mlip_autopipe.science.sampling import describe_folders

    chosen = descriptor_parameters(parameters.get_dict())
    with shards.base.repository.as_path() as folder, _path_of(potential) as model:
        features = describe_folders([folder], chosen, potential=model)
    return orm.ArrayData({'features': features})


@calcfunction
def direct_sampling_local(
    shards: orm.FolderData, parameters: orm.Dict, potential: PotentialData | None = None, **others: orm.Data
) -> dict[str, orm.Data]:
    """Select candidates in this process: the twin of the ``direct_sampling`` CalcJob.

    :param parameters: ``SamplingParameters``.
    :param potential: the potential whose features describe the frames, for the descriptor ``mace``.
    :param others: further folders of shards (``FolderData``), in the order of their names, and labelled sets
        (``FramesData``) that the selection keeps away from.
    :returns: ``candidates`` (unless nothing is new), ``selection``, ``frames`` and ``report``, as the CalcJob gives
        them; and ``figures``, a folder.
    """
    from aiida_mlip_autopipe.science.sampling import select_candidates
    from aiida_mlip_autopipe.science.sampling.figures import write_figures

    sampling = SamplingParameters(**parameters.get_dict())
    more = [others[name] for name in sorted(others)]
    known = [atoms for node in more if isinstance(node, FramesData) for atoms in node.get_atoms()]
    with ExitStack() as opened:
        nodes = [shards, *(node for node in more if isinstance(node, orm.FolderData))]
        folders = [opened.enter_context(node.base.repository.as_path()) for node in nodes]
        model = opened.enter_context(_path_of(potential))
        chosen = select_candidates(folders, sampling, potential=model, known=known)
        drawn = opened.enter_context(TemporaryDirectory())
        write_figures(chosen.figures, drawn)
        outputs: dict[str, orm.Data] = {
            'selection': orm.ArrayData(chosen.table),
            'frames': orm.ArrayData(chosen.frames),
            'report': orm.Dict(chosen.report),
            'figures': orm.FolderData(tree=drawn),
        }
    if chosen.candidates:
        outputs['candidates'] = FramesData.from_atoms(chosen.candidates)
    return outputs


def _path_of(potential: PotentialData | None) -> AbstractContextManager[Path | None]:
    """Return the file of a potential for as long as it is needed; None where there is none."""
    return nullcontext() if potential is None else potential.as_path()


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
            rejected[atoms.info['frame_id']] = 'it was not computed: its lane of labels ended before'
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


@calcfunction
def mark_corner(labelled: FramesData, configuration: orm.Dict) -> FramesData:
    """Tell the test frames apart: ``info['split']`` is ``corner`` where they are hotter than any round explores."""
    hottest = float(np.max(configuration['exploration']['temperatures_K']))
    frames = labelled.get_atoms()
    for atoms in frames:
        atoms.info['split'] = 'corner' if atoms.info['temperature_K'] > hottest else 'test'
    return FramesData.from_atoms(frames, labelled.label_fingerprint)


@calcfunction
def split_dataset(
    parameters: orm.Dict, previous: FramesData | None = None, **labelled: FramesData
) -> dict[str, FramesData]:
    """Join labelled sets and split them by origin, so that no trajectory spans training and validation.

    :param parameters: ``TrainingParameters``.
    :param previous: the data set of the round before: its origins stay on their sides.
    :param labelled: the sets; all of one level of theory. Existing data among them trains: what validates is the run's
        own.
    :returns: ``training``, ``validation`` and ``dataset`` (both, with ``info['split']``).
    :raises ValueError: if the sets were labelled at different levels of theory.
    """
    from aiida_mlip_autopipe.science.training import split_by_origin

    fingerprints = {node.label_fingerprint for node in labelled.values()}
    if len(fingerprints) > 1:
        raise ValueError(
            f'labelled: sets of {len(fingerprints)} levels of theory ({sorted(map(str, fingerprints))}); '
            'label all of them with the same pseudopotentials, cutoffs, k-points and smearing'
        )
    fingerprint_of_all = fingerprints.pop()
    training = TrainingParameters(**parameters.get_dict())
    frames = {atoms.info['frame_id']: atoms for name in sorted(labelled) for atoms in labelled[name].get_atoms()}
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


@calcfunction
def summarise(
    configuration: orm.Dict,
    why: orm.Str,
    n_labels: orm.Int,
    core_hours: orm.Float,
    warning: orm.Str | None = None,
    **results: orm.Data,
) -> orm.Dict:
    """Put the errors of all rounds side by side, and say why there are no more.

    :param why: a key of ``science.evaluation.REASONS_TO_STOP``.
    :param n_labels: DFT calculations asked for.
    :param core_hours: computing time of what was not taken from the cache.
    :param warning: what must be known when the errors are read.
    :param results: ``surrogate`` and ``round_1``, ``round_2`` ...: errors on the test set; ``labels_1`` ...: errors of
        the previous potential on the labels of a round, before training on them; ``training_1`` ...: errors that the
        training itself reported; ``report_1`` ...: what the sampling said; ``dataset_1`` ...: what was trained on, and
        ``dataset_0`` where the first potential was bootstrapped.
    """
    numbers = sorted(int(name.removeprefix('round_')) for name in results if name.startswith('round_'))
    judged = [results['surrogate'], *(results[f'round_{number}'] for number in numbers)]
    missed = missed_tolerances(judged[-1]['by_split'], EvaluationParameters(**configuration['evaluation']))
    return orm.Dict(
        {
            'protocol': configuration['protocol'],
            'warning': None if warning is None else warning.value,
            'surrogate': _judgement(judged[0]),
            'tolerances': {key: value for key, value in configuration['evaluation'].items() if key.startswith('max_')},
            'rounds': [
                {
                    'round': number,
                    **_judgement(results[f'round_{number}']),
                    **{
                        name: results[f'{key}_{number}'].get_dict()
                        for name, key in (('labels', 'labels'), ('training', 'training'), ('sampling', 'report'))
                    },
                }
                for number in numbers
            ],
            'learning_curve': _learning_curve(dict(enumerate(judged)), results),
            'stopped': {
                'why': why.value,
                'n_labels': n_labels.value,
                'core_hours': core_hours.value,
                'above_tolerance': missed,
            },
        }
    )


def _judgement(metrics: orm.Dict) -> dict:
    """Return the errors on the test set: where the rounds explore, in the corner beyond (None: there is none), by
    group; and what the committee's disagreement meant there."""
    values = metrics.get_dict()
    return {
        'test': values['by_split']['test'],
        'corner': values['by_split'].get('corner'),
        'calibration': values['calibration'],
        'breakdown': {name: groups for name, groups in values.items() if name.startswith('by_')},
    }


def _learning_curve(judged: dict[int, orm.Dict], results: dict[str, orm.Data]) -> dict | None:
    """Fit the force errors on the test set over the number of labelled structures that were trained on."""
    points = []
    for number, metrics in judged.items():
        errors = metrics['by_split']['test']
        if f'dataset_{number}' in results and errors['force_rmse_standard_error_meV_A'] is not None:
            frames = results[f'dataset_{number}'].get_atoms()
            n_frames = sum(not is_isolated_atom(atoms) for atoms in frames)
            points.append((n_frames, errors['force_rmse_meV_A'], errors['force_rmse_standard_error_meV_A']))
    if not points or min(error for _, error, _ in points) == 0:
        return None
    n_labels, force_errors, spreads = zip(*points, strict=True)
    curve = fit_learning_curve(n_labels, force_errors, spreads)
    return curve and {**curve, 'points': points}
