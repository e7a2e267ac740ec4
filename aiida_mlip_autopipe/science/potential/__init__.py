"""Everything that knows MACE: what its files, its command line, its logs and its models look like.

* `load`: a potential as a file; what it says of itself, and the ASE calculator that runs it.
* `batch`: the potential of many systems at once, for torch-sim.
* `features`: what a potential has learned to see around an atom.
* `foundation`: published potentials by name; `untrained`: one with random weights, to measure what a step costs.
* `training_command`: what ``mace_run_train`` is asked; `child`: how it is run; `training_files`: what it leaves.
* `fine_tuning`: foundations, their replay, and heads.
* `snippets`: how a potential is loaded and converted elsewhere.

No other module of the package imports mace.
"""

from aiida_mlip_autopipe.science.potential.foundation import FOUNDATIONS, FoundationError, load_foundation
from aiida_mlip_autopipe.science.potential.load import PotentialError, inspect_potential, load_calculator

__all__ = [
    'FOUNDATIONS',
    'FoundationError',
    'PotentialError',
    'inspect_potential',
    'load_calculator',
    'load_foundation',
]
