"""How a potential is loaded elsewhere: each snippet is written once, here, and a test runs it as it stands.

A snippet runs in the folder of a bundle. What LAMMPS itself reads is not run: the builds of LAMMPS that can be
installed have neither ``pair_style mace`` (it is in mace's own branch) nor ML-IAP with Python.

Sources: mace's documentation, https://mace-docs.readthedocs.io, "MACE in LAMMPS" and "MACE in LAMMPS with ML-IAP".
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    'Exported',
    'ase',
    'committee',
    'lammps_convert',
    'lammps_convert_for_gpu',
    'lammps_data',
    'lammps_input',
    'lammps_pair_for_gpu',
    'torch_sim',
]


@dataclass(frozen=True)
class Exported:
    """A potential as it lies in a folder beside frames.

    Attributes
    ----------
    file : str
        The ``.model`` file.
    committee : tuple of str
        Files of the other members of its committee.
    frames : str
        File of frames (extxyz) that the snippets compute.
    dtype : str
        Precision in which its errors were found.
    elements : tuple of str
        Chemical symbols, in the order in which LAMMPS is told them.
    error_by_disagreement : float, optional
        Expected force error over the disagreement of the committee.
    """

    file: str
    committee: tuple[str, ...]
    frames: str
    dtype: str
    elements: tuple[str, ...]
    error_by_disagreement: float | None = None


def ase(potential: Exported) -> str:
    """Return Python that computes energy, forces and stress of a test frame with ASE."""
    return f"""\
from ase.io import read
from mace.calculators import MACECalculator

atoms = read('{potential.frames}', index=0)
atoms.calc = MACECalculator(model_paths='{potential.file}', device='cpu', default_dtype='{potential.dtype}')
print(atoms.get_potential_energy(), 'eV')
print(atoms.get_forces(), 'eV/Å')
print(atoms.get_stress(), 'eV/Å³, xx yy zz yz xz xy')
"""


def committee(potential: Exported) -> str:
    """Return Python that tells the expected force error of a frame from the disagreement of the committee."""
    models = [potential.file, *potential.committee]
    return f"""\
import numpy as np
from ase.io import read
from mace.calculators import MACECalculator

atoms = read('{potential.frames}', index=0)
forces = []
for model in {models!r}:
    atoms.calc = MACECalculator(model_paths=model, device='cpu', default_dtype='{potential.dtype}')
    forces.append(atoms.get_forces())
deviations = np.linalg.norm(np.array(forces) - np.mean(forces, axis=0), axis=2)
disagreement = np.sqrt((deviations**2).mean(axis=0)).max()
print(disagreement, 'eV/Å: largest disagreement on the force on an atom')
print({potential.error_by_disagreement:.4g} * disagreement, 'eV/Å: expected largest force error')
"""


def torch_sim(potential: Exported) -> str:
    """Return Python that computes many frames at once with torch-sim."""
    return f"""\
import torch
import torch_sim
from ase.io import read
from mace.calculators.mace_torchsim import MaceTorchSimModel

device, dtype = torch.device('cpu'), torch.{potential.dtype}
model = MaceTorchSimModel('{potential.file}', device=device, dtype=dtype)
state = torch_sim.initialize_state(read('{potential.frames}', index=':'), device, dtype)
result = model(state)
print(result['energy'], 'eV')
print(result['forces'], 'eV/Å')
"""


def lammps_convert(potential: Exported) -> str:
    """Return the shell command that makes the file that ``pair_style mace`` reads."""
    return f'mace_create_lammps_model {potential.file} --dtype {potential.dtype}\n'


def lammps_convert_for_gpu(potential: Exported) -> str:
    """Return the shell command that makes the file that ``pair_style mliap`` reads; it needs cuEquivariance."""
    return lammps_convert(potential).rstrip() + ' --format mliap\n'


def lammps_data(potential: Exported) -> str:
    """Return Python that writes a test frame as a data file, with the elements as types in the order of the input."""
    return f"""\
from ase.io import read, write

atoms = read('{potential.frames}', index=0)
# LAMMPS requires a certain orientation of the cell; ASE rotates the cell and the atoms.
write('frame.data', atoms, format='lammps-data', specorder={list(potential.elements)!r}, masses=True)
"""


def lammps_input(potential: Exported) -> str:
    """Return the input of LAMMPS: the energy of the frame, then a short run."""
    return f"""\
units metal
atom_style atomic
atom_modify map yes
newton on
read_data frame.data
pair_style mace no_domain_decomposition
pair_coeff * * {potential.file}-lammps.pt {' '.join(potential.elements)}
thermo 10
run 0
velocity all create 300 1
fix 1 all nve
timestep 0.001
run 100
"""


def lammps_pair_for_gpu(potential: Exported) -> str:
    """Return the two lines that take the place of ``pair_style`` and ``pair_coeff`` with ML-IAP."""
    return f"""\
pair_style mliap unified {potential.file}-mliap_lammps.pt 0
pair_coeff * * {' '.join(potential.elements)}
"""
