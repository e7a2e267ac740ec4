"""``mlip-autopipe watch``: rates, times to go, reasons, and a view that ends without the run."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from aiida.cmdline.groups.verdi import VerdiContext
from aiida.manage import get_manager
from click.testing import CliRunner
from plumpy import ProcessState
from rich.console import Console

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.cli.display import progress_table, tell_reasons
from aiida_mlip_autopipe.cli.verdi import command as verdi_command
from aiida_mlip_autopipe.provenance.failures import Ending, Failure
from aiida_mlip_autopipe.provenance.progress import ProgressReader, RunProgress, StageProgress
from aiida_mlip_autopipe.provenance.states import AUTOPIPE

BIN = Path(sys.executable).parent


def stage(name: str, state: str = 'running', seconds: float = 60.0, **counts: Any) -> StageProgress:
    """Return a stage that has one process, not from the cache."""
    return StageProgress(name, 1, state, seconds, n_processes=1, n_reused=0, **counts)


def run_of(*stages: StageProgress, failures: list[Failure] | None = None) -> RunProgress:
    """Return a run at work with these stages, of at most four rounds."""
    return RunProgress(7, 'waiting', False, False, '', 600.0, list(stages), 1, 0, [], failures or [], 4)


def text_of(progress: RunProgress, in_full: bool = True) -> str:
    """Return the table of a run as it is printed at 120 columns."""
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(progress_table(progress, in_full))
    return console.export_text()


def failure(message: str, process: str = 'PwCalculation') -> Failure:
    """Return a failure that was set aside."""
    return Failure(1, process, 'label_r1', 410, message, Ending.TOLERATED)


def at_work() -> orm.WorkChainNode:
    """Return a stored run that waits for its first stage."""
    node = orm.WorkChainNode()
    node.process_type = AUTOPIPE
    node.set_process_state(ProcessState.WAITING)
    node.description = 'Si2, fast'
    return node.store()


def test_rates_and_times_to_go():
    """From what is counted and since when; nothing is told where nothing is done or all was reused."""
    half = stage('label_r1', seconds=1800, done=30, total=60, unit='labels')
    assert half.per_second == pytest.approx(1 / 60) and half.to_go_s == pytest.approx(1800)
    seen = stage('explore_r1', seconds=100, counting_s=90, begun=(50, 100), done=500, total=900, unit='frames')
    assert seen.per_second == pytest.approx(10) and seen.to_go_s == pytest.approx(40)
    sampled = stage('explore_r1', 'done', 200, counting_s=100, begun=(50, 100), done=500, total=500, unit='frames')
    assert sampled.per_second == pytest.approx(5) and sampled.to_go_s is None
    first = stage('train_r1', seconds=70, counting_s=70, begun=(70, 1), done=1, total=60, unit='epochs')
    assert first.per_second == pytest.approx(1 / 70) and first.to_go_s is None  # most of it was the start
    assert stage('explore_r1', done=0, total=10).per_second is None
    reused = StageProgress('label_r1', 1, 'done', 2.0, n_processes=3, n_reused=3, done=9, total=9)
    assert reused.per_second is None
    assert [one.round for one in (half, stage('label_initial'), stage('evaluate_labels_r12'))] == [1, 0, 12]


def test_the_table_has_counts_rates_and_what_is_left():
    """Of the stage at work and of the run, which may take what the round before took."""
    before = [stage(f'{name}_r1', 'done', 100.0, done=5, total=5) for name in ('explore', 'label', 'train')]
    now = stage('explore_r2', seconds=50.0, done=120, total=480, unit='frames', detail='2 replicas stopped by a guard')
    text = text_of(run_of(*before, now))
    assert 'run 7: running, round 2 of at most 4' in text
    assert 'at most 14:10 left' in text  # 50 + 100 + 100 s of this round, and two more of 300 s
    assert '120/480 frames' in text and '2.4/s' in text and '2:30 left  2 replicas stopped by a guard' in text


def test_earlier_rounds_make_room():
    """A live view shows the last two rounds in full, of those before how they ended; the final one shows all."""
    stages = [
        stage(f'{name}_r{number}', 'done', 60.0, detail=f'{name} {number}')
        for number in (1, 2, 3)
        for name in ('label', 'evaluate')
    ]
    live, full = text_of(run_of(*stages), in_full=False), text_of(run_of(*stages))
    assert 'label_r1' not in live and re.search(r'round 1 +done +evaluate 1 +2:00', live) and 'label_r2' in live
    assert 'label_r1' in full and 'round 1 ' not in full


def test_failures_are_told_by_reason():
    """Messages that differ in numbers are one reason; the most frequent first."""
    found = [
        failure('the forces are 61.2 eV/Å'),
        failure('guard', 'MaceMdCalculation'),
        failure('the forces are 1e3 eV/Å'),
    ]
    assert tell_reasons(found) == [
        '2 × PwCalculation: the forces are 61.2 eV/Å (label_r1, tolerated)',
        'MaceMdCalculation: guard (label_r1, tolerated)',
    ]
    text = text_of(run_of(stage('label_r1'), failures=found))
    assert '2 × PwCalculation' in text and 'mlip-autopipe failures 7' in text


def test_a_finished_run_is_told_to_its_end(finished_run):
    """Piped: a line for each stage with its count and rate, each reason once, then the errors of the rounds; exit 0."""
    done = CliRunner().invoke(main, ['watch', str(finished_run.pk)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    stages = ProgressReader(finished_run.pk).read().stages
    assert f'run {finished_run.pk}: finished' in lines[0]
    assert [line.split()[0] for line in lines[1 : 1 + len(stages)]] == [one.name for one in stages]
    trained = next(line for line in lines if line.split()[:1] == ['train_r1'])
    assert '20 epochs' in trained and '/min' in trained and 'validation: ' in trained
    assert re.search(r'label_initial +done +\d+(/\d+)? labels +[\d.e+]+/h', done.output)
    assert 'the maximum number of rounds (loop.max_rounds) was reached' in ' '.join(done.output.split())
    assert '\x1b[' not in done.output


def test_nothing_is_at_work(finished_run):
    """Without a PK and without a run at work the last one is named."""
    done = CliRunner().invoke(main, ['watch'])
    assert done.exit_code == 2
    assert f'the last was {finished_run.pk}' in done.stderr


def heed_interrupts() -> None:
    """Take Ctrl-C as a terminal would send it: tests that run in the background inherit that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_the_run_alone(finished_run):
    """The newest run at work is watched; an interrupt says that it goes on, and the exit status is 130."""
    run = at_work()
    command = [str(BIN / 'mlip-autopipe'), '--profile', get_manager().get_profile().name, 'watch']
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert f'run {run.pk}: running' in first
    assert process.returncode == 130, errors
    assert ' '.join([*command[1:], str(run.pk)]) in output and f'verdi process kill {run.pk}' in output
    assert orm.load_node(run.pk).exit_status is None and 'Traceback' not in errors


def test_the_shell_completes_commands_options_and_runs(finished_run):
    """What click asks for on a tab, in bash."""

    def completed(words: str) -> list[str]:
        environment = {
            '_MLIP_AUTOPIPE_COMPLETE': 'bash_complete',
            'COMP_WORDS': words,
            'COMP_CWORD': str(len(words.split(' ')) - 1),
        }
        done = CliRunner().invoke(main, env=environment, prog_name='mlip-autopipe')
        return [line.split(',')[1] for line in done.output.splitlines() if line]

    assert completed('mlip-autopipe wat') == ['watch']
    assert completed('mlip-autopipe watch --o') == ['--output']
    pk = str(finished_run.pk)
    assert pk in completed('mlip-autopipe status ') and completed(f'mlip-autopipe watch {pk}') == [pk]
    assert completed('mlip-autopipe watch x') == []


def test_verdi_users_find_the_same_commands(finished_run):
    """Below `verdi data`, with the profile of verdi."""
    context = VerdiContext(verdi_command)
    context.obj.profile = get_manager().get_profile()
    done = CliRunner().invoke(verdi_command, ['status', str(finished_run.pk)], obj=context.obj)
    assert done.exit_code == 0, done.output
    assert f'run {finished_run.pk}: finished' in done.output
