"""``mace_run_train`` that does not outlive who started it.

A worker that is killed cannot end its child, and a training left alone would write into the folder that the next
attempt reads. Standard input is a pipe that nothing is written to: it ends when the other side does.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ['main']


def main() -> None:
    """Run ``mace_run_train`` with the arguments of this process."""
    from aiida_mlip_autopipe.science.potential.load import quiet

    threading.Thread(target=_end_alone, daemon=True).start()
    with quiet():
        from mace.cli.run_train import main as run_train
    run_train()


def _end_alone() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == '__main__':
    main()
