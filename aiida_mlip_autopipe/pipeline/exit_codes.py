"""The exit codes of all processes, each number with one meaning, and what the user can do about them.

2xx: the input was refused. 3xx: it cannot be recovered. 4xx: a handler recovers it. 7xx: finished, with something to
say. A process takes its codes from here with `add_exit_codes`. Numbers below 200, 301, 302, 401 and 402 are AiiDA's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = [
    'EXIT_CODES',
    'NODE_FAILURE',
    'OUT_OF_WALLTIME',
    'SCHEDULER_OUT_OF_MEMORY',
    'STOPPED_BY_MONITOR',
    'WARNINGS',
    'ProcessExitCode',
    'add_exit_codes',
    'advice_on',
]

#: AiiDA's own, which jobs of any plugin may end with.
SCHEDULER_OUT_OF_MEMORY, OUT_OF_WALLTIME, NODE_FAILURE, STOPPED_BY_MONITOR = 110, 120, 140, 150

#: Of processes that did what they could and have something to say.
WARNINGS = range(700, 800)

OURS = 'mlip_autopipe.'
WALL_TIME = 'raise max_wallclock_seconds in options'
UNFIT_THERE = (
    'lower the temperatures or exploration.timestep_fs, or label more seeds: the potential is unsuitable there. Where '
    'replicas end in their first steps, displace the seeds less (generation.rattled.stdev_A) or raise the temperatures'
)
END_OF_LOG = 'check the end of the log in the message, and training.method, precision and batch size'
SMALLER_BATCH = 'request more memory in options, or lower exploration.max_batch_atoms'


@dataclass(frozen=True)
class ProcessExitCode:
    """An exit code of a process.

    Attributes
    ----------
    status : int
    label : str
        'ERROR_...' or 'WARNING_...'.
    message : str
        A template; the process that ends fills it in.
    meaning : str
    advice : str
        What the user can change; empty where nothing is to be done, or where the process below says it.
    invalidates_cache : bool
        Whether a process that ended so is never taken from the cache.
    """

    status: int
    label: str
    message: str
    meaning: str
    advice: str = ''
    invalidates_cache: bool = False


class TakesExitCodes(Protocol):
    """What AiiDA's ``ProcessSpec`` does with an exit code."""

    def exit_code(self, status: int, label: str, message: str, invalidates_cache: bool = False) -> None:
        """Define an exit code of a process."""


def add_exit_codes(spec: TakesExitCodes, *codes: ProcessExitCode) -> None:
    """Define exit codes in the specification of a process."""
    for code in codes:
        spec.exit_code(code.status, code.label, message=code.message, invalidates_cache=code.invalidates_cache)


def advice_on(process_type: str, status: int | None) -> str | None:
    """Return what can be changed after a process ended with a status; empty: nothing; None: nothing is known.

    Parameters
    ----------
    process_type : str
        AiiDA's: 'aiida.calculations:mlip_autopipe.mace_md'. Another plugin's numbers mean something else.
    status : int or None
    """
    name = process_type.partition(':')[2]
    if status is None or (name, status) in _ADVICE:
        return None if status is None else _ADVICE[name, status]
    if status in _ADVICE_ON_AIIDA:
        return _ADVICE_ON_AIIDA[status]
    return _BY_STATUS[status].advice if name.startswith(OURS) and status in _BY_STATUS else None


INVALID_INPUT = ProcessExitCode(
    201,
    'ERROR_INVALID_INPUT',
    'The worker refused its input: {message}',
    'A value, a structure or a file is not valid for the stage.',
)
STASH_FOLDER = ProcessExitCode(
    202,
    'ERROR_STASH_FOLDER',
    'stash_folder: {message}',
    'The folder for copies of the frames cannot be created or written to.',
    advice='check exploration.stash_folder and its permissions',
)
INVALID_SEEDS = ProcessExitCode(
    203,
    'ERROR_INVALID_SEEDS',
    'The seeds do not fit the parameters: {message}',
    'The replicas cannot be made from these seeds.',
    advice='change generation or exploration according to the message',
)
SCRATCH_MISSING = ProcessExitCode(
    310,
    'ERROR_SCRATCH_MISSING',
    'Frames on the computer are missing or were changed: {message}',
    'The folder of an MD job was removed, or its files differ from its manifest.',
    advice='nothing to change: an MD job without its frames is not taken from the cache',
    invalidates_cache=True,
)
NO_FRAMES = ProcessExitCode(
    311,
    'ERROR_NO_FRAMES',
    'There are no frames: {message}',
    'A guard stopped every replica before its first frame.',
    advice=UNFIT_THERE,
)
POTENTIAL_UNUSABLE = ProcessExitCode(
    312,
    'ERROR_POTENTIAL_UNUSABLE',
    'The potential could not be used: {message}',
    'The file is not a MACE potential, or the potential gives no finite energies.',
    advice='use another surrogate',
)
TRAINING_FAILED = ProcessExitCode(
    313,
    'ERROR_TRAINING_FAILED',
    'The training failed: {message}',
    'The training ended with an error, or its errors are not finite.',
    advice=END_OF_LOG,
)
ALL_REPLICAS_BROKE = ProcessExitCode(
    314,
    'ERROR_ALL_REPLICAS_BROKE',
    '{message}',
    'Guards stopped all of the first replicas that ended, so the MD job was killed.',
    advice=UNFIT_THERE,
)
DYNAMICS_FAILED = ProcessExitCode(
    320,
    'ERROR_DYNAMICS_FAILED',
    'No MD job left a frame: {message}',
    'None of the MD jobs of an exploration has frames.',
)
SAMPLING_FAILED = ProcessExitCode(
    321, 'ERROR_SAMPLING_FAILED', 'The sampling failed: {message}', 'The frames of an exploration were not sampled.'
)
STASH_DIFFERS = ProcessExitCode(
    322,
    'ERROR_STASH_DIFFERS',
    'Some copies differ from the files of the MD jobs: {message}',
    'A copy in the stash folder differs in size or checksum from its manifest.',
    advice='check the disk of the stash folder; frames whose copies differ stay in the folders of their MD jobs',
    invalidates_cache=True,
)
DISK_FULL = ProcessExitCode(
    330,
    'ERROR_DISK_FULL',
    'The disk is full: {message}',
    'The scratch disk of the computer is full.',
    advice='free disk space, or raise exploration.sample_interval',
    invalidates_cache=True,
)
TOO_FEW_LABELS = ProcessExitCode(
    331,
    'ERROR_TOO_FEW_LABELS',
    '{found} of {wanted} candidates were labelled, fewer than min_success_fraction requires',
    'More labels failed than labelling.min_success_fraction allows.',
    advice='check the reasons in `rejected`, and labelling.min_success_fraction',
)
NO_LABEL = ProcessExitCode(
    332,
    'ERROR_NO_LABEL',
    'None of the {wanted} candidates was labelled; the first reason: {reason}',
    'All labels of a batch failed; its candidates are labelled one by one.',
    invalidates_cache=True,
)
NOT_RELAXED = ProcessExitCode(
    333,
    'ERROR_NOT_RELAXED',
    'Structure {number} of system was not relaxed: {reason}',
    'The relaxation of the source of the seeds failed.',
    advice='check the structure and the labelling parameters, or relax less of it, or none (system.relax)',
)
NO_STATE = ProcessExitCode(
    334,
    'ERROR_NO_STATE',
    'The source was labelled in no state: {reasons}',
    'None of the states that were to be compared, such as magnetic orders, has a label.',
    advice='name the state in the input (labelling.magnetic_order), and check the reasons',
)
DATASET = ProcessExitCode(
    340,
    'ERROR_DATASET',
    'The labelled sets cannot be split: {message}',
    'The labels have several levels of theory, or there are too few structures for a training and a validation set.',
    advice='use labelled sets with one level of theory',
)
NO_POTENTIAL = ProcessExitCode(
    341,
    'ERROR_NO_POTENTIAL',
    '{message}',
    'The training of the first potential of a committee failed; the message is that of its job.',
    advice=END_OF_LOG,
)
STAGE_FAILED = ProcessExitCode(
    350, 'ERROR_STAGE_FAILED', '{stage} failed: {message}', 'A stage of the run failed; earlier results are kept.'
)
ISOLATED_ATOMS = ProcessExitCode(
    351,
    'ERROR_ISOLATED_ATOMS',
    'No label for the isolated atom of {elements}, without whose energy no potential can be trained: {reasons}',
    'The isolated atom of an element has no label.',
    advice='check generation.isolated_atom_box_A and the labelling parameters of isolated atoms',
)
OTHER_LEVEL_OF_THEORY = ProcessExitCode(
    352,
    'ERROR_OTHER_LEVEL_OF_THEORY',
    'data: {message}. The data cannot be combined with the labels of this run: set labelling to the level of theory of '
    'the data, or remove data and label its structures again (system.structure).',
    'Labels of the existing data differ from the recomputed ones.',
    advice='set labelling to the level of theory of the data, or remove data',
)
UNEXPECTED = ProcessExitCode(
    390,
    'ERROR_UNEXPECTED',
    'The worker failed: {message}',
    'An unexpected error of the worker.',
    advice='check worker.log of the job: verdi calcjob outputcat PK worker.log',
    invalidates_cache=True,
)
INCOMPLETE = ProcessExitCode(
    400,
    'ERROR_INCOMPLETE',
    'The job ended without a result file: it was killed or ran out of time.',
    'The job did not finish; it runs again.',
    advice=WALL_TIME,
    invalidates_cache=True,
)
NOT_COMPLETE = ProcessExitCode(
    410,
    'ERROR_NOT_COMPLETE',
    'The job was stopped by its wall clock or a signal and left a checkpoint.',
    'An MD job was interrupted; the next one continues from its checkpoint.',
    advice=WALL_TIME,
)
OUT_OF_MEMORY = ProcessExitCode(
    411,
    'ERROR_OUT_OF_MEMORY',
    'The memory did not suffice: {message}',
    'An MD job ran out of memory; the next one runs half as many replicas at once.',
    advice=SMALLER_BATCH,
    invalidates_cache=True,
)
NOTHING_NEW = ProcessExitCode(
    700,
    'WARNING_NOTHING_NEW',
    'No new frames: of {n_frames}, {n_not_new} are within min_novelty ({min_novelty}) of a labelled one, and '
    '{n_certain} others have no expected error above min_expected_error_eV_A ({min_expected_error}).',
    'The exploration found no frame to label: the loop ends.',
)
NOT_ALL_FRAMES = ProcessExitCode(
    720,
    'WARNING_NOT_ALL_FRAMES',
    'Stopped after {n} attempts without progress; the existing frames are used. The last attempt: {message}',
    'An MD job was interrupted repeatedly; its frames so far are used.',
    advice=WALL_TIME,
)
NOT_ALL_STASHED = ProcessExitCode(
    721,
    'WARNING_NOT_ALL_STASHED',
    'Some frames were not moved: {message}',
    'Some folders of MD jobs were not copied, or their copies differ; they are not deleted.',
    advice='check the disk of the stash folder',
)
NOT_ALL_LABELLED = ProcessExitCode(
    730,
    'WARNING_NOT_ALL_LABELLED',
    '{found} of {wanted} candidates were labelled; the first failure: {reason}',
    'The other candidates of the batch are labelled one by one.',
    invalidates_cache=True,
)
PROBE_FAILED = ProcessExitCode(
    740,
    'WARNING_PROBE_FAILED',
    'Some tests failed: {message}',
    'A test of `doctor` failed; the results of the others are reported.',
    invalidates_cache=True,
)

EXIT_CODES = tuple(value for value in globals().values() if isinstance(value, ProcessExitCode))
"""All of them."""

_BY_STATUS = {code.status: code for code in EXIT_CODES}
_ADVICE_ON_AIIDA = {
    SCHEDULER_OUT_OF_MEMORY: 'request more memory in options',
    OUT_OF_WALLTIME: WALL_TIME,
    NODE_FAILURE: 'the node failed; nothing to change',
}
#: Where a process knows more: its entry point and exit status.
_ADVICE = {
    (f'{OURS}mace_md', SCHEDULER_OUT_OF_MEMORY): SMALLER_BATCH,
    (f'{OURS}mace_train', SCHEDULER_OUT_OF_MEMORY): 'request more memory in options, or lower training.batch_size',
}
