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

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.data.selection import selection_array
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.science.evaluation import calibrate, missed_tolerances
from aiida_mlip_autopipe.science.parameters import (
    DynamicsParameters,
    EvaluationParameters,
    GenerationParameters,
    LabellingParameters,
    SamplingParameters,
    TrainingParameters,
    descriptor_parameters,
)

from .labels import check_label, fingerprint, labelled_atoms
from .pw_inputs import kpoints_mesh, pw_parameters

__all__ = [
    'calculate_descriptors',
    'calibrate_disagreement',
    'collect_labels',
    'committee_parameters',
    'direct_sampling_local',
    'generate_structures',
    'pick_structure',
    'round_parameters',
    'run_mace_md',
    'split_dataset',
    'summarise',
]

STAGES_OF_A_ROUND = ('generation', 'dynamics', 'sampling', 'labelling', 'training', 'evaluation')


@calcfunction
def round_parameters(configuration: orm.Dict, round_number: orm.Int) -> dict[str, orm.Dict]:
    """Derive the parameters of each stage of a round from the configuration.

    Each round explores and samples with a random seed of its own; round 0, where the test set is made, samples at
    random as many frames as the evaluation asks for.

    :param configuration: the full configuration, as ``ConfigExpander`` makes it.
    :param round_number: 0 for what comes before the first round.
    """
    values = configuration.get_dict()
    exploration = dict(values['exploration'])
    number = round_number.value
    exploration['random_seed'] = _random_seed(exploration['random_seed'], number)
    if number == 0:
        exploration |= {'selection': 'random', 'n_to_select': values['evaluation']['n_test']}
    stages = {
        **values,
        'dynamics': {name: exploration[name] for name in DynamicsParameters.model_fields},
        'sampling': {name: exploration[name] for name in SamplingParameters.model_fields},
    }
    return {stage: orm.Dict(stages[stage]) for stage in STAGES_OF_A_ROUND}


def _random_seed(random_seed: int, number: int) -> int:
    """Return a random seed that belongs to another one and to a number."""
    return int(np.random.SeedSequence((random_seed, number)).generate_state(1)[0])


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
    :returns: ``candidates`` (unless nothing is new), ``selection`` and ``report``, as the CalcJob gives them; and
        ``figures``, a folder.
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
            'selection': selection_array(chosen.table, chosen.scores),
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
    atoms = candidates.get_atoms()[index.value]
    labelling = LabellingParameters(**parameters.get_dict())
    z_valence = {element: pseudo.z_valence for element, pseudo in pseudos.items()}
    structure = orm.StructureData(cell=atoms.cell.array, pbc=[True, True, True])
    for symbol, position in zip(atoms.symbols, atoms.positions, strict=True):
        structure.append_atom(symbols=symbol, position=position)
    structure.label = atoms.info['frame_id']
    kpoints = orm.KpointsData()
    kpoints.set_kpoints_mesh(kpoints_mesh(atoms, labelling.kpoints_distance))
    return {
        'structure': structure,
        'parameters': orm.Dict(pw_parameters(atoms, labelling, z_valence)),
        'kpoints': kpoints,
    }


@calcfunction
def collect_labels(candidates: FramesData, parameters: orm.Dict, **results: orm.Data) -> dict[str, orm.Data]:
    """Join what pw.x said of the candidates into one labelled set.

    :param parameters: ``LabellingParameters``.
    :param results: ``parameters_I`` and ``trajectory_I``, the outputs of pw.x for candidate I; a candidate without
        them was not labelled. ``pseudo_ELEMENT``: the pseudopotentials, for the fingerprint.
    :returns: ``labelled`` (if any label is sound) and ``rejected``, a reason for each label that is not.
    """
    labelling = LabellingParameters(**parameters.get_dict())
    pseudos = {name.removeprefix('pseudo_'): node for name, node in results.items() if name.startswith('pseudo_')}
    labelled, rejected = [], {}
    for index, atoms in enumerate(candidates.get_atoms()):
        if f'parameters_{index}' not in results:
            continue
        frame = labelled_atoms(atoms, results[f'parameters_{index}'], results[f'trajectory_{index}'])
        reason = check_label(frame, labelling)
        if reason is None:
            labelled.append(frame)
        else:
            rejected[frame.info['frame_id']] = reason
    outputs: dict[str, orm.Data] = {'rejected': orm.Dict(rejected)}
    if labelled:
        outputs['labelled'] = FramesData.from_atoms(labelled, fingerprint(labelling, pseudos))
    return outputs


@calcfunction
def split_dataset(parameters: orm.Dict, **labelled: FramesData) -> dict[str, FramesData]:
    """Join labelled sets and split them by origin, so that no trajectory spans training and validation.

    :param parameters: ``TrainingParameters``.
    :param labelled: the sets; all of one level of theory.
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
    for name, indices in zip(
        ('training', 'validation'),
        split_by_origin(dataset, training.validation_fraction, training.random_seed),
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
    others = (_random_seed(training.random_seed, member) for member in range(1, training.committee_size))
    seeds = [training.random_seed, *others]
    alone = {**values, 'committee_size': 1}
    return {f'member_{member}': orm.Dict({**alone, 'random_seed': seed}) for member, seed in enumerate(seeds)}


@calcfunction
def calibrate_disagreement(frames: FramesData, predictions: orm.ArrayData) -> orm.Dict:
    """Compare the disagreement of a committee with the errors of the potential that explored.

    :param frames: labelled frames with the disagreement at which they were found.
    :param predictions: what that potential says of them, as the evaluation returns it.
    :returns: see :func:`aiida_mlip_autopipe.science.evaluation.calibrate`.
    """
    found_at = {atoms.info['frame_id']: atoms.info.get('disagreement_eV_A', np.nan) for atoms in frames.get_atoms()}
    errors = np.linalg.norm(predictions.get_array('forces') - predictions.get_array('REF_forces'), axis=1)
    first_atoms = np.cumsum(predictions.get_array('n_atoms'))[:-1]
    largest = [float(of_frame.max()) for of_frame in np.split(errors, first_atoms)]
    names = map(str, predictions.get_array('frame_id'))
    return orm.Dict(calibrate([found_at[name] for name in names], largest))


@calcfunction
def summarise(configuration: orm.Dict, why: orm.Str, n_labels: orm.Int, **metrics: orm.Dict) -> orm.Dict:
    """Put the errors of all rounds side by side, and say why there are no more.

    :param why: ``nothing_new``, ``tolerances``, ``rounds`` or ``labels``.
    :param n_labels: DFT calculations asked for.
    :param metrics: ``surrogate`` and ``round_1``, ``round_2`` ...: errors on the test set; ``labels_1`` ...: errors of
        the previous potential on the labels of a round, before training on them; ``calibration_1`` ...: how the
        disagreement of its committee compares with them; ``training_1`` ...: errors that the training itself reported;
        ``report_1`` ...: what the sampling said.
    """
    calibrations = {name: node.get_dict() for name, node in metrics.items() if name.startswith('calibration_')}
    rounds = sorted(int(name.removeprefix('round_')) for name in metrics if name.startswith('round_'))
    summary = {
        'protocol': configuration['protocol'],
        'surrogate': metrics['surrogate'].get_dict(),
        'tolerances': {name: value for name, value in configuration['evaluation'].items() if name.startswith('max_')},
        'rounds': [
            {
                'round': number,
                'labels': metrics[f'labels_{number}'].get_dict(),
                'calibration': calibrations.get(f'calibration_{number}'),
                'test': metrics[f'round_{number}'].get_dict(),
                'training': metrics[f'training_{number}'].get_dict(),
                'sampling': metrics[f'report_{number}'].get_dict(),
            }
            for number in rounds
        ],
    }
    newest = metrics[f'round_{rounds[-1]}' if rounds else 'surrogate'].get_dict()
    missed = missed_tolerances(newest, EvaluationParameters(**configuration['evaluation']))
    summary['stopped'] = {'why': why.value, 'n_labels': n_labels.value, 'above_tolerance': missed}
    return orm.Dict(summary)
