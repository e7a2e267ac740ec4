"""The report of the doctor as its user reads it, in 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from aiida_mlip_autopipe.cli.doctor_report import facts_table
from aiida_mlip_autopipe.worker.probes import packages

REPORT = {
    'packages': packages(),
    'cpu': {'model': 'EPYC [7763]', 'cores': 4, 'cores_of_node': 64, 'load': 2.0},
    'memory': {'total_GiB': 503.4, 'limit_GiB': 32.0, 'limited_by': 'control group'},
    'gpu': {
        'cards': [{'name': 'NVIDIA H100 80GB HBM3', 'memory_GiB': 79.2, 'compute_capability': '9.0'}] * 2,
        'torch_built_for': 'CUDA 12.8',
        'driver': '570.86.15',
        'given_by_scheduler': '0,1',
        'reason': None,
    },
    'engine': {'engine': 'torchsim', 'device': 'cuda', 'reason': 'a GPU and torch-sim: many replicas in one batch'},
    'potential': {
        'kind': 'given', 'sha256': '0' * 64, 'elements': [*'HBCNOFPSK'], 'r_max': 6.0, 'dtype': 'float32',
        'n_parameters': 4_700_000,
    },
    'md_steps': [
        {'formula': 'C8', 'ms_per_step': 12.3456, 'atom_steps_per_s': 648.0, 'dtype': 'float32', 'device': 'cuda'}
    ],
    'failed': {'disk': 'OSError: [Errno 28] No space left on device', 'md_step_64': 'no answer within 300 s'},
}  # fmt: skip


def test_facts_and_failures():
    """Each fact on its row, what failed in its place with its message, brackets as they are, no line too long."""
    output = io.StringIO()
    Console(file=output, width=80).print(facts_table(REPORT))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    rows = [' '.join(line.split()) for line in lines]
    for row in (
        'cores 4 of 64 (EPYC [7763])',
        'memory 32.0 GiB (control group) of 503.4 GiB',
        'GPU NVIDIA H100 80GB HBM3, 79.2 GiB',
        'torch for CUDA 12.8, driver 570.86.15',
        'engine torchsim on cuda (a GPU and torch-sim: many replicas in one batch)',
        'disk OSError: [Errno 28] No space left on device',
        'MD step C8: 12.3 ms, 648 atom-steps/s (cuda, float32, a single replica)',
        'md step 64 no answer within 300 s',
    ):
        assert row in rows
    assert rows.count('NVIDIA H100 80GB HBM3, 79.2 GiB') == 1
    assert 'as given: 4,700,000 parameters, r_max 6 Å, H B C N O F P S ...' in ' '.join(rows)
