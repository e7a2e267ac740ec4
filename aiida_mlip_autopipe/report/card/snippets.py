"""How a potential is loaded elsewhere: each snippet is written once, here, and a test runs it as it stands.

A snippet runs in the folder of a bundle. What LAMMPS itself reads is not run: the builds of LAMMPS that can be
installed have neither ``pair_style mace`` (it is in mace's own branch) nor ML-IAP with Python.

Sources: mace's documentation, https://mace-docs.readthedocs.io, "MACE in LAMMPS" and "MACE in LAMMPS with ML-IAP".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    'ase',
    'committee',
    'lammps_convert',
    'lammps_convert_for_gpu',
    'lammps_data',
    'lammps_input',
    'lammps_pair_for_gpu',
    'torch_sim',
]


def ase(card: Mapping[str, Any]) -> str:
    """Return Python that computes energy, forces and stress of a test frame with ASE."""
    return f"""\
from ase.io import read
from mace.calculators import MACECalculator

atoms = read('{_frames(card)}', index=0)
atoms.calc = MACECalculator(model_paths='{card['potential']['file']}', device='cpu', default_dtype='{_dtype(card)}')
print(atoms.get_potential_energy(), 'eV')
print(atoms.get_forces(), 'eV/Å')
print(atoms.get_stress(), 'eV/Å³, xx yy zz yz xz xy')
"""


def committee(card: Mapping[str, Any]) -> str:
    """Return Python that tells the expected force error of a frame from the disagreement of the committee."""
    models = [card['potential']['file'], *(member['file'] for member in card['potential']['committee'])]
    factor = card['errors']['calibration']['factor']
    return f"""\
import numpy as np
from ase.io import read
from mace.calculators import MACECalculator

atoms = read('{_frames(card)}', index=0)
forces = []
for model in {models!r}:
    atoms.calc = MACECalculator(model_paths=model, device='cpu', default_dtype='{_dtype(card)}')
    forces.append(atoms.get_forces())
deviations = np.linalg.norm(np.array(forces) - np.mean(forces, axis=0), axis=2)
disagreement = np.sqrt((deviations**2).mean(axis=0)).max()
print(disagreement, 'eV/Å: largest disagreement on the force on an atom')
print({factor:.4g} * disagreement, 'eV/Å: expected largest force error')
"""


def torch_sim(card: Mapping[str, Any]) -> str:
    """Return Python that computes many frames at once with torch-sim."""
    return f"""\
import torch
import torch_sim
from ase.io import read
from mace.calculators.mace_torchsim import MaceTorchSimModel

device, dtype = torch.device('cpu'), torch.{_dtype(card)}
model = MaceTorchSimModel('{card['potential']['file']}', device=device, dtype=dtype)
state = torch_sim.initialize_state(read('{_frames(card)}', index=':'), device, dtype)
result = model(state)
print(result['energy'], 'eV')
print(result['forces'], 'eV/Å')
"""


def lammps_convert(card: Mapping[str, Any]) -> str:
    """Return the shell command that makes the file that ``pair_style mace`` reads."""
    return f'mace_create_lammps_model {card["potential"]["file"]} --dtype {_dtype(card)}\n'


def lammps_convert_for_gpu(card: Mapping[str, Any]) -> str:
    """Return the shell command that makes the file that ``pair_style mliap`` reads; it needs cuEquivariance."""
    return lammps_convert(card).rstrip() + ' --format mliap\n'


def lammps_data(card: Mapping[str, Any]) -> str:
    """Return Python that writes a test frame as a data file, with the elements as types in the order of the input."""
    return f"""\
from ase.io import read, write

atoms = read('{_frames(card)}', index=0)
# LAMMPS requires a certain orientation of the cell; ASE rotates the cell and the atoms.
write('frame.data', atoms, format='lammps-data', specorder={_elements(card)!r}, masses=True)
"""


def lammps_input(card: Mapping[str, Any]) -> str:
    """Return the input of LAMMPS: the energy of the frame, then a short run."""
    return f"""\
units metal
atom_style atomic
atom_modify map yes
newton on
read_data frame.data
pair_style mace no_domain_decomposition
pair_coeff * * {card['potential']['file']}-lammps.pt {' '.join(_elements(card))}
thermo 10
run 0
velocity all create 300 1
fix 1 all nve
timestep 0.001
run 100
"""


def lammps_pair_for_gpu(card: Mapping[str, Any]) -> str:
    """Return the two lines that take the place of ``pair_style`` and ``pair_coeff`` with ML-IAP."""
    return f"""\
pair_style mliap unified {card['potential']['file']}-mliap_lammps.pt 0
pair_coeff * * {' '.join(_elements(card))}
"""


def _frames(card: Mapping[str, Any]) -> str:
    """Return the file whose frames the snippets compute: the test set if there is one."""
    data = card['data']
    return str(data['test' if 'test' in data else 'training']['file'])


def _dtype(card: Mapping[str, Any]) -> str:
    """Return the precision in which the errors were found."""
    return str(card['errors']['dtype'])


def _elements(card: Mapping[str, Any]) -> Sequence[str]:
    return sorted(card['data']['training']['n_atoms_by_element'])
