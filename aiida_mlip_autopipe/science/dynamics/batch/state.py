"""Many replicas as one set of tensors: what is in a batch, how replicas join it and leave it.

Positions, momenta and cells are float64 whatever the precision of the potential, as with the engine ``ase``. Sums over
the atoms of a replica go through ``index_add``: in order, and so the same bits each time, on a CPU; on a GPU the order
of the additions is not fixed (nor is it inside of MACE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.data import covalent_radii
from ase.geometry import complete_cell

from aiida_mlip_autopipe.science.dynamics.guards import Bonds, degrees_of_freedom, max_temperature_K

if TYPE_CHECKING:
    from torch import Tensor

    from aiida_mlip_autopipe.science.dynamics.recorder import Recorder
    from aiida_mlip_autopipe.science.parameters import GuardParameters

    PerAtom = Tensor
    PerSystem = Tensor
    PerBond = Tensor

__all__ = ['Batch', 'Slot']

VACUUM_A = 50.0
"""Length of the cell vector that a potential is told where a structure has none, in Å."""


class Slot:
    """A replica on its way through the batch.

    Parameters
    ----------
    recorder : Recorder
        Takes its frames.
    first_step : int
        Where it begins if it was not begun before: minus the number of equilibration steps.

    Attributes
    ----------
    step : int
        Last step done, while the replica is not in the batch; 0 and below: equilibration.
    state : dict of ndarray or None
        What it goes on from; None if it was never begun.
    moved : bool
        Whether the replica made steps since the last checkpoint.
    ended : bool
        Whether its recorder was told that it ended.
    """

    def __init__(self, recorder: Recorder, first_step: int) -> None:
        self.recorder = recorder
        self.replica = recorder.replica
        self.n_atoms = len(recorder.atoms)
        self.pbc = tuple(bool(periodic) for periodic in recorder.atoms.pbc)
        self.state: dict[str, np.ndarray] | None = None
        self.step = first_step
        if recorder.resumed is not None:
            self.step, self.state = recorder.resumed
        self.moved = False
        self.ended = False


@dataclass(kw_only=True)
class Batch:
    """K replicas with n atoms and b bonds in all. Units: Å, eV, u, and ASE's unit of time.

    Attributes
    ----------
    slots : list of Slot
    steps : ndarray of int, shape (K,)
        Last step done of each replica.
    pbc : tuple of bool
        The same for all replicas of a batch.
    owner : int64 tensor, shape (n,)
        Replica of each atom, ascending.
    index : int64 tensor, shape (n,)
        Number of each atom in its replica.
    cell : tensor, shape (K, 3, 3)
        Rows are lattice vectors.
    completion : tensor, shape (K, 3, 3)
        What is added to ``cell`` for the potential where lattice vectors are missing.
    virial : tensor, shape (K,)
        Pressure without its kinetic part, in eV/Å³; zero unless it is needed.
    temperature : tensor, shape (K,)
        As last measured, in K.
    degrees : tensor, shape (K,)
        Momenta that move freely.
    rest : tensor, shape (K,)
        1 where the centre of mass rests, 0 for a single atom.
    reference_energy : tensor, shape (K,)
        Energy per atom that the guards compare with; not a number until it is known.
    """

    slots: list[Slot]
    steps: np.ndarray
    pbc: tuple[bool, ...]
    owner: Tensor
    positions: PerAtom
    momenta: PerAtom
    forces: PerAtom
    masses: PerAtom
    numbers: PerAtom
    radii: PerAtom
    index: PerAtom
    sizes: PerSystem
    cell: PerSystem
    completion: PerSystem
    energy: PerSystem
    virial: PerSystem
    temperature: PerSystem
    degrees: PerSystem
    rest: PerSystem
    start_volume: PerSystem
    max_temperature: PerSystem
    reference_energy: PerSystem
    compressibility: PerSystem
    pressure: PerSystem
    seed: PerSystem
    bond_first: PerBond
    bond_second: PerBond
    bond_shifts: PerBond
    bond_lengths: PerBond

    @classmethod
    def of(cls, slots: Sequence[Slot], guards: GuardParameters, device: str) -> Batch:
        """Return a batch of replicas as they are: at the start, or where they were left."""
        import torch

        columns: dict[str, list[np.ndarray]] = {}
        offset = 0
        for slot in slots:
            for name, array in _arrays(slot, guards, offset).items():
                columns.setdefault(name, []).append(np.asarray(array))
            offset += slot.n_atoms
        sizes = np.array([slot.n_atoms for slot in slots])
        return cls(
            slots=list(slots),
            steps=np.array([slot.step for slot in slots]),
            pbc=slots[0].pbc,
            owner=torch.as_tensor(np.repeat(np.arange(len(slots)), sizes), device=device),
            **{
                name: torch.as_tensor(np.stack(arrays) if _FIELDS[name] == 'PerSystem' else np.concatenate(arrays)).to(
                    device
                )
                for name, arrays in columns.items()
            },
        )

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def n_atoms(self) -> int:
        """Atoms of all replicas."""
        return len(self.owner)

    def select(self, keep: np.ndarray) -> Batch:
        """Return the batch of some of its replicas; ``keep`` is a mask of shape (K,)."""
        import torch

        systems = torch.as_tensor(keep, device=self.owner.device)
        atoms = systems[self.owner]
        bonds = atoms[self.bond_first]
        masks = {'PerSystem': systems, 'PerAtom': atoms, 'PerBond': bonds}
        tensors: dict[str, Any] = {name: getattr(self, name)[masks[of]] for name, of in _FIELDS.items()}
        number = torch.cumsum(atoms, dim=0) - 1
        for name in ('bond_first', 'bond_second'):
            tensors[name] = number[tensors[name]]
        return replace(
            self,
            slots=[slot for slot, kept in zip(self.slots, keep, strict=True) if kept],
            steps=self.steps[keep],
            owner=(torch.cumsum(systems, dim=0) - 1)[self.owner[atoms]],
            **tensors,
        )

    def join(self, other: Batch) -> Batch:
        """Return the batch of the replicas of both; those of ``other`` come last."""
        import torch

        tensors: dict[str, Any] = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in _FIELDS}
        for name in ('bond_first', 'bond_second'):
            tensors[name][len(getattr(self, name)) :] += self.n_atoms
        return replace(
            self,
            slots=self.slots + other.slots,
            steps=np.concatenate([self.steps, other.steps]),
            owner=torch.cat([self.owner, other.owner + len(self)]),
            **tensors,
        )

    def total(self, values: Tensor) -> Tensor:
        """Return the sums over the atoms of each replica, shape (K, ...)."""
        return values.new_zeros((len(self), *values.shape[1:])).index_add_(0, self.owner, values)

    def largest(self, values: Tensor) -> Tensor:
        """Return the largest of each replica's numbers, which are not negative, shape (K,)."""
        return values.new_zeros(len(self)).scatter_reduce_(0, self.owner, values, 'amax')

    def volume(self) -> Tensor:
        """Return the volumes, in Å³, shape (K,)."""
        return self.cell.det().abs()

    def kinetic_energy(self) -> Tensor:
        """Return the kinetic energies, in eV, shape (K,)."""
        return self.total((self.momenta**2).sum(dim=1) / (2 * self.masses))

    def kinetic_temperature(self) -> Tensor:
        """Return the temperatures that the momenta have now, in K, shape (K,)."""
        return 2 * self.kinetic_energy() / (units.kB * self.degrees)

    def wrapped(self) -> tuple[Tensor, Tensor]:
        """Return positions inside of the cell where that is periodic, and the cell with no vector missing."""
        import torch

        cell = self.cell + self.completion
        if not any(self.pbc):
            return self.positions, cell
        inverse = torch.linalg.inv(cell)
        scaled = torch.einsum('ni,nij->nj', self.positions, inverse[self.owner])
        periodic = torch.tensor(self.pbc, device=scaled.device)
        shifts = torch.where(periodic, torch.floor(scaled), 0.0)
        return self.positions - torch.einsum('ni,nij->nj', shifts, cell[self.owner]), cell

    def states(self, which: Sequence[int] | None = None) -> dict[int, dict[str, np.ndarray]]:
        """Return what some replicas (all, unless told) can go on from, by their number in the batch."""
        on_cpu = {name: getattr(self, name).cpu().numpy() for name in _STATE}
        ends = np.cumsum(self.sizes.cpu().numpy())
        return {
            number: {
                name: array[ends[number] - self.slots[number].n_atoms : ends[number]].copy()
                if _FIELDS[name] == 'PerAtom'
                else np.array(array[number])
                for name, array in on_cpu.items()
            }
            for number in (range(len(self)) if which is None else which)
        }


_FIELDS = {entry.name: str(entry.type) for entry in fields(Batch) if str(entry.type).startswith('Per')}

_STATE = ('positions', 'momenta', 'forces', 'cell', 'energy', 'virial', 'temperature', 'reference_energy',
          'compressibility')  # fmt: skip
"""What of a replica changes on its way."""


def _arrays(slot: Slot, guards: GuardParameters, offset: int) -> dict[str, Any]:
    """Return the share of one replica in the tensors of a batch; its atoms are numbered from ``offset``."""
    atoms, replica, n_atoms = slot.recorder.atoms, slot.replica, slot.n_atoms
    bonds = Bonds.of(atoms, guards.max_bond_stretch)
    arrays = {
        'positions': atoms.positions,
        'momenta': np.zeros((n_atoms, 3)),
        'forces': np.zeros((n_atoms, 3)),
        'masses': atoms.get_masses(),
        'numbers': atoms.numbers.astype(np.int64),
        'radii': covalent_radii[atoms.numbers],
        'index': np.arange(n_atoms),
        'sizes': np.int64(n_atoms),
        'cell': atoms.cell.array,
        'completion': _completion(atoms.cell.array, atoms.positions),
        'energy': np.nan,
        'virial': 0.0,
        'temperature': 0.0,
        'degrees': float(degrees_of_freedom(n_atoms)),
        'rest': float(n_atoms > 1),
        'start_volume': abs(float(np.linalg.det(atoms.cell.array))),
        'max_temperature': max_temperature_K(guards, replica.max_target_K, n_atoms),
        'reference_energy': np.nan,
        'compressibility': 0.0,
        'pressure': (replica.pressure_GPa or 0.0) * units.GPa,
        'seed': np.int64(replica.random_seed),
        'bond_first': bonds.first + offset,
        'bond_second': bonds.second + offset,
        'bond_shifts': bonds.shifts,
        'bond_lengths': bonds.lengths,
    }
    return arrays | (slot.state or {})


def _completion(cell: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return what a cell lacks, shape (3, 3): long vectors, normal to the others, for those that are zero."""
    missing = np.logical_not(cell.any(axis=1))
    length = max(VACUUM_A, 2 * float(np.ptp(positions, axis=0).max()))
    return np.where(missing[:, np.newaxis], length * complete_cell(cell), 0.0)
