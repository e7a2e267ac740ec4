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
    'lower the temperatures or exploration.timestep_fs, or label more seeds: the potential is unsuitable there'
)
END_OF_LOG = 'look at the end of the log in the message; training.method, precision and batch size'
SMALLER_BATCH = 'more memory in options, or a lower exploration.max_batch_atoms'


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
    'A value, a structure or a file that the stage cannot take.',
)
STASH_FOLDER = ProcessExitCode(
    202,
    'ERROR_STASH_FOLDER',
    'stash_folder: {message}',
    'The folder for copies of the frames cannot be made or written to.',
    advice='exploration.stash_folder, or the rights in it',
)
INVALID_SEEDS = ProcessExitCode(
    203,
    'ERROR_INVALID_SEEDS',
    'The seeds do not fit the parameters: {message}',
    'The replicas cannot be made of these seeds.',
    advice='generation and exploration, as the message says',
)
SCRATCH_MISSING = ProcessExitCode(
    310,
    'ERROR_SCRATCH_MISSING',
    'Frames on the computer are missing or were changed: {message}',
    'The folder of an MD job was removed, or its files are not what its manifest says.',
    advice='nothing to change: an MD job whose frames are gone is not taken from the cache',
    invalidates_cache=True,
)
NO_FRAMES = ProcessExitCode(
    311,
    'ERROR_NO_FRAMES',
    'No frame was left: {message}',
    'A guard ended every replica before its first frame.',
    advice=UNFIT_THERE,
)
POTENTIAL_UNUSABLE = ProcessExitCode(
    312,
    'ERROR_POTENTIAL_UNUSABLE',
    'The potential could not be used: {message}',
    'A file that is no MACE potential, or one that gives no finite energies.',
    advice='another surrogate: this one cannot be used',
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
    'The first replicas that ended were all stopped by a guard, so that the MD job was killed.',
    advice=UNFIT_THERE,
)
DYNAMICS_FAILED = ProcessExitCode(
    320, 'ERROR_DYNAMICS_FAILED', 'No MD job left a frame: {message}', 'None of the MD jobs of an exploration left one.'
)
SAMPLING_FAILED = ProcessExitCode(
    321, 'ERROR_SAMPLING_FAILED', 'The sampling failed: {message}', 'The frames of an exploration were not sampled.'
)
STASH_DIFFERS = ProcessExitCode(
    322,
    'ERROR_STASH_DIFFERS',
    'Not all copies are what the MD jobs wrote: {message}',
    'A copy in the stash folder has another size or checksum than its manifest says.',
    advice='the disk of the stash folder; frames whose copies differ stay in the folders of their MD jobs',
    invalidates_cache=True,
)
DISK_FULL = ProcessExitCode(
    330,
    'ERROR_DISK_FULL',
    'The disk is full: {message}',
    'The scratch of the computer had no room for further frames.',
    advice='make room on the disk, or raise exploration.sample_interval',
    invalidates_cache=True,
)
TOO_FEW_LABELS = ProcessExitCode(
    331,
    'ERROR_TOO_FEW_LABELS',
    '{found} of {wanted} candidates were labelled, fewer than min_success_fraction asks for',
    'More labels failed than labelling.min_success_fraction permits.',
    advice='the reasons in `rejected`; labelling.min_success_fraction',
)
NO_LABEL = ProcessExitCode(
    332,
    'ERROR_NO_LABEL',
    'None of the {wanted} candidates was labelled; the first reason: {reason}',
    'A batch of labels gave none; its candidates are labelled alone.',
    invalidates_cache=True,
)
DATASET = ProcessExitCode(
    340,
    'ERROR_DATASET',
    'The labelled sets cannot be split: {message}',
    'Labels of several levels of theory, or too few structures for a training and a validation set.',
    advice='the labelled sets must be of one level of theory',
)
NO_POTENTIAL = ProcessExitCode(
    341,
    'ERROR_NO_POTENTIAL',
    '{message}',
    'The training of the first potential of a committee failed; the message is that of its job.',
    advice=END_OF_LOG,
)
STAGE_FAILED = ProcessExitCode(
    350, 'ERROR_STAGE_FAILED', '{stage} failed: {message}', 'A stage of the run failed; what it had reached is there.'
)
ISOLATED_ATOMS = ProcessExitCode(
    351,
    'ERROR_ISOLATED_ATOMS',
    'No label for the isolated atom of {elements}: without its energy no potential can be trained; `mlip-autopipe '
    'status` shows why its calculation failed.',
    'The isolated atom of an element has no label.',
    advice='generation.isolated_atom_box_A, or what labelling asks of an isolated atom',
)
OTHER_LEVEL_OF_THEORY = ProcessExitCode(
    352,
    'ERROR_OTHER_LEVEL_OF_THEORY',
    'data: {message}. It cannot be trained on beside the labels of this run: set labelling to the level of theory of '
    'the data, or leave data out and label its structures again (system.structure).',
    'Labels of the existing data differ from those that were made again.',
    advice='set labelling to the level of theory of the data, or leave data out',
)
UNEXPECTED = ProcessExitCode(
    390,
    'ERROR_UNEXPECTED',
    'The worker failed: {message}',
    'An error of the worker that nothing foresees.',
    advice='look at worker.log of the job: verdi calcjob outputcat PK worker.log',
    invalidates_cache=True,
)
INCOMPLETE = ProcessExitCode(
    400,
    'ERROR_INCOMPLETE',
    'The job ended without a result file: it was killed or ran out of time.',
    'A job that did not come to its end; it runs again.',
    advice=WALL_TIME,
    invalidates_cache=True,
)
NOT_COMPLETE = ProcessExitCode(
    410,
    'ERROR_NOT_COMPLETE',
    'The job was stopped by its wall clock or a signal and left a checkpoint.',
    'An MD job that was interrupted; the next one goes on from its checkpoint.',
    advice=WALL_TIME,
)
OUT_OF_MEMORY = ProcessExitCode(
    411,
    'ERROR_OUT_OF_MEMORY',
    'The memory did not suffice: {message}',
    'An MD job that needs more memory; the next one runs half as many replicas at once.',
    advice=SMALLER_BATCH,
    invalidates_cache=True,
)
NOTHING_NEW = ProcessExitCode(
    700,
    'WARNING_NOTHING_NEW',
    'No frame is worth a label: of {n_frames}, {n_not_new} are within min_novelty ({min_novelty}) of a known one, and '
    'on {n_certain} others no error above min_expected_error_eV_A ({min_expected_error}) is expected.',
    'Nothing that was explored is worth a label: the loop ends.',
)
NOT_ALL_FRAMES = ProcessExitCode(
    720,
    'WARNING_NOT_ALL_FRAMES',
    'Given up after {n} attempts without headway, the frames there are were delivered. The last attempt: {message}',
    'An MD job was interrupted again and again; its frames so far are used.',
    advice=WALL_TIME,
)
NOT_ALL_STASHED = ProcessExitCode(
    721,
    'WARNING_NOT_ALL_STASHED',
    'Some frames stay where they are: {message}',
    'Folders of MD jobs that were not copied, or whose copies differ; they are not removed.',
    advice='the disk of the stash folder',
)
NOT_ALL_LABELLED = ProcessExitCode(
    730,
    'WARNING_NOT_ALL_LABELLED',
    '{found} of {wanted} candidates were labelled; the first failure: {reason}',
    'The other candidates of the batch are labelled alone.',
    invalidates_cache=True,
)
PROBE_FAILED = ProcessExitCode(
    740,
    'WARNING_PROBE_FAILED',
    'Not everything could be examined: {message}',
    'A probe of the doctor failed; the others are told.',
    invalidates_cache=True,
)

EXIT_CODES = tuple(value for value in globals().values() if isinstance(value, ProcessExitCode))
"""All of them."""

_BY_STATUS = {code.status: code for code in EXIT_CODES}
_ADVICE_ON_AIIDA = {
    SCHEDULER_OUT_OF_MEMORY: 'more memory in options',
    OUT_OF_WALLTIME: WALL_TIME,
    NODE_FAILURE: 'the node failed; nothing to change',
}
#: Where a process knows more: its entry point and exit status.
_ADVICE = {
    (f'{OURS}mace_md', SCHEDULER_OUT_OF_MEMORY): SMALLER_BATCH,
    (f'{OURS}mace_train', SCHEDULER_OUT_OF_MEMORY): 'more memory in options, or a lower training.batch_size',
}
