"""The program that runs on the other computer: ``mlip-autopipe-worker STAGE input.json``, in the folder of its job.

It reads one JSON file, does one stage of the science, and writes ``result.json`` last: a folder without that file is an
incomplete job. ``progress.json`` is rewritten meanwhile. The worker knows no AiiDA, so that a GPU computer needs only
the science.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ['main']

STAGES = ('md', 'sample', 'train', 'evaluate', 'physics', 'verify', 'doctor')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage; return the exit status: 0, or 1 after an error that ``result.json`` tells."""
    parser = argparse.ArgumentParser(prog='mlip-autopipe-worker', description='Run one stage of mlip-autopipe.')
    parser.add_argument('stage', choices=STAGES, help='what to do')
    parser.add_argument('input', type=Path, help='the input file (JSON); its folder is the folder of the job')
    chosen = parser.parse_args(arguments)

    from aiida_mlip_autopipe.worker.job import run_job

    return run_job(chosen.stage, chosen.input)
