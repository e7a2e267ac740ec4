"""An installed wheel does something: ``python tests/smoke.py`` with the Python of an environment that has nothing else.

Frames are described and selected, dynamics run, by the installed package; what needs AiiDA works, or names the extra.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.build import bulk

import aiida_mlip_autopipe
from aiida_mlip_autopipe.science.descriptors import SOAP
from aiida_mlip_autopipe.science.sampling import DirectSampler

BIN = Path(sys.executable).parent


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / arguments[0]), *arguments[1:]], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def select() -> None:
    frames = [bulk('Si', cubic=True) for _ in range(30)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.005 * number, seed=number)
    rows = SOAP(['Si'], r_cut=4.0, n_max=3, l_max=2, sigma=0.5, average='outer').create(frames)
    assert len(DirectSampler(n_to_select=5).fit(np.asarray(rows)).selected_idx_) == 5


def run_doctor(folder: Path) -> None:
    """Build a potential, run a few steps with it and time them, by the worker's command."""
    parameters = {'n_atoms': [8], 'n_steps': 2, 'write_megabytes': 1.0, 'device': 'cpu'}
    content = {'schema_version': 1, 'stage': 'doctor', 'job': '12345678', 'parameters': parameters, 'files': {}}
    (folder / 'input.json').write_text(json.dumps({**content, 'arguments': {}}))
    done = call('mlip-autopipe-worker', 'doctor', 'input.json', cwd=folder)
    result = json.loads((folder / 'result.json').read_text())
    assert done.returncode == 0 and result['status'] == 'ok' and result['outputs']['failed'] == {}, done.stderr


def ask_the_command_line() -> None:
    assert aiida_mlip_autopipe.__version__ in call('mlip-autopipe', '--version').stdout
    if find_spec('aiida') is None:
        done = call('mlip-autopipe', 'run')
        assert done.returncode == 1 and '[aiida]' in done.stderr and 'Traceback' not in done.stderr, done.stderr
        return
    for group in ('calculations', 'data', 'parsers', 'workflows'):
        for entry in entry_points(group=f'aiida.{group}'):
            if entry.name.startswith('mlip_autopipe.'):
                entry.load()
    done = call('mlip-autopipe', 'run', '--help')
    assert done.returncode == 0 and 'input' in done.stdout.lower(), done.stderr


if __name__ == '__main__':
    select()
    with tempfile.TemporaryDirectory() as folder:
        run_doctor(Path(folder))
    ask_the_command_line()
    print(f'{aiida_mlip_autopipe.__file__}: works, {"with" if find_spec("aiida") else "without"} AiiDA')
