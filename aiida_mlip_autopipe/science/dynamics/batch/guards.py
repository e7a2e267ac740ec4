"""The guards of `guards`, for all replicas of a batch at once: same names, same bounds.

Each function returns, by number in the batch, the first guard that each broken replica tripped. A healthy batch costs
one look at the device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aiida_mlip_autopipe.science.dynamics.guards import MAX_MOVE_A, GuardTripped
from aiida_mlip_autopipe.science.potential.batch import neighbours

if TYPE_CHECKING:
    from torch import Tensor

    from aiida_mlip_autopipe.science.dynamics.batch.state import Batch
    from aiida_mlip_autopipe.science.parameters import GuardParameters

__all__ = ['Tripped', 'after_forces', 'after_step', 'before_forces', 'structure']

Tripped = dict[int, GuardTripped]


def before_forces(batch: Batch, previous: Tensor, guards: GuardParameters) -> Tripped:
    """Check what a force call cannot survive; ``previous`` are the positions of the last call, shape (n, 3)."""
    ratio = batch.volume() / batch.start_volume
    has_volume = batch.start_volume > 0
    move = batch.largest((batch.positions - previous).abs().amax(dim=1))
    broken = ~_finite(batch, batch.positions) | ~batch.cell.isfinite().all(dim=2).all(dim=1)
    return _tripped(
        ('finite_geometry', broken, None, 0.0),
        ('min_volume_ratio', has_volume & (ratio < guards.min_volume_ratio), ratio, guards.min_volume_ratio),
        ('max_volume_ratio', has_volume & (ratio > guards.max_volume_ratio), ratio, guards.max_volume_ratio),
        ('max_move_A', move > MAX_MOVE_A, move, MAX_MOVE_A),
    )


def after_forces(batch: Batch) -> Tripped:
    """Check that energies, forces and stresses are finite."""
    finite = _finite(batch, batch.forces) & batch.energy.isfinite() & batch.virial.isfinite()
    return _tripped(('finite_forces', ~finite, None, 0.0))


def after_step(batch: Batch, temperature: Tensor) -> Tripped:
    """Check the temperatures that the momenta have at the end of a step, shape (K,)."""
    bound = batch.max_temperature
    tripped = _tripped(('max_temperature_K', ~(temperature <= bound), temperature, bound))
    for number, guard in tripped.items():
        guard.released_eV = float(batch.reference_energy[number] - batch.energy[number] / batch.sizes[number])
    return tripped


def structure(batch: Batch, guards: GuardParameters) -> Tripped:
    """Check distances, bonds and energies per atom."""
    distance = _shortest_distance(batch, guards.min_distance_factor)
    stretch = _longest_stretch(batch)
    max_stretch = guards.max_bond_stretch or math.inf
    energy = batch.energy / batch.sizes - batch.reference_energy
    return _tripped(
        ('min_distance_factor', distance < guards.min_distance_factor, distance, guards.min_distance_factor),
        ('max_bond_stretch', stretch > max_stretch, stretch, max_stretch),
        ('energy_window_eV', energy.abs() > guards.energy_window_eV, energy, guards.energy_window_eV),
    )


def _tripped(*checks: tuple[str, Tensor, Tensor | None, float | Tensor]) -> Tripped:
    """Return who tripped which guard; a check is its name, who is broken, the value found and the bound."""
    import torch

    broken = torch.stack([check[1] for check in checks])
    if not bool(broken.any()):
        return {}
    tripped = {}
    for number in broken.any(dim=0).nonzero()[:, 0].tolist():
        name, _, value, bound = checks[broken[:, number].tolist().index(True)]
        tripped[number] = GuardTripped(
            name,
            math.nan if value is None else float(value[number]),
            bound if isinstance(bound, float) else float(bound[number]),
        )
    return tripped


def _finite(batch: Batch, values: Tensor) -> Tensor:
    """Return which replicas have finite numbers only; ``values`` has shape (n, 3)."""
    return batch.total(0 * values.sum(dim=1)) == 0  # zero times what is not finite is not a number


def _shortest_distance(batch: Batch, factor: float) -> Tensor:
    """Return the shortest distances as fractions of the sum of the covalent radii, or infinity, shape (K,)."""
    import torch

    positions, cell = batch.wrapped()
    periodic = torch.tensor(batch.pbc, device=positions.device).expand(len(batch), 3)
    cutoff = 2 * factor * float(batch.radii.max())
    (first, second), owner, shifts = neighbours(positions, cell, periodic, cutoff, batch.owner)
    vectors = positions[second] - positions[first] + torch.einsum('pi,pij->pj', shifts, cell[owner])
    fractions = vectors.norm(dim=1) / (batch.radii[first] + batch.radii[second])
    return fractions.new_full((len(batch),), math.inf).scatter_reduce_(0, owner, fractions, 'amin')


def _longest_stretch(batch: Batch) -> Tensor:
    """Return the longest bonds as multiples of the sum of the covalent radii, or 0, shape (K,)."""
    import torch

    first, second = batch.bond_first, batch.bond_second
    owner = batch.owner[first]
    vectors = batch.positions[second] - batch.positions[first]
    vectors = vectors + torch.einsum('bi,bij->bj', batch.bond_shifts, batch.cell[owner])
    stretch = vectors.norm(dim=1) / batch.bond_lengths
    return stretch.new_zeros(len(batch)).scatter_reduce_(0, owner, stretch, 'amax')
