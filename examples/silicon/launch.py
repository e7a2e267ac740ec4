"""The silicon pipeline without the command line tool: ``verdi run examples/silicon/launch.py``.

It needs a profile with the codes ``mlip-worker@localhost`` and ``pw@localhost`` and the pseudopotential family
``autopipe/pbe``; ``mlip-autopipe init`` sets these up.
"""

import sys
from pathlib import Path

from aiida import engine, orm
from aiida.plugins import DataFactory, WorkflowFactory
from ase.build import bulk

from aiida_mlip_autopipe.science.potential import inspect_potential

AutoPipeWorkChain = WorkflowFactory('mlip_autopipe.autopipe')
PotentialData = DataFactory('mlip_autopipe.potential')

# `verdi run` sets `__file__` to the name alone; the first argument has the folder, too.
SURROGATE = Path(sys.argv[0]).resolve().parent / 'silicon.model'


def build() -> engine.ProcessBuilder:
    """Take the inputs from a protocol and change what should differ."""
    builder = AutoPipeWorkChain.get_builder_from_protocol(
        worker_code='mlip-worker@localhost',
        labelling_code='pw@localhost',
        structure=orm.StructureData(ase=bulk('Si', 'diamond', a=5.43)),
        protocol='fast',
        overrides={'exploration': {'temperatures_K': [600.0, 1800.0], 'n_to_select': 10}},
        surrogate=PotentialData.from_file(SURROGATE, inspect_potential(SURROGATE), origin='file'),
    )
    builder.metadata.label = 'silicon'
    return builder


if __name__ == '__main__':
    node = engine.submit(build())
    print(f'Submitted {node.process_label}<{node.pk}>; follow it with: mlip-autopipe status {node.pk}')
