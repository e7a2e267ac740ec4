"""The states that a labelling code leaves open, such as magnetic orders, once their energies are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ['tell_states']

CLOSE_meV = 1.0
"""States that are closer than this, in meV per atom, are told: a change of the lattice may turn them round."""


def tell_states(report: Mapping[str, Any]) -> str:
    """Return the choice with the energies of the others above it, in words; ``report`` is that of `StateWorkChain`."""
    energies, chosen = report['energies_eV_atom'], report['chosen']
    above = {name: 1e3 * (energy - energies[chosen]) for name, energy in energies.items() if name != chosen}
    told = [f'{name} is {value:.1f} meV/atom higher' for name, value in sorted(above.items(), key=lambda one: one[1])]
    told += [f'{name} has no label: {reason}' for name, reason in report['rejected'].items()]
    if above and min(above.values()) < CLOSE_meV:
        told.append('states this close may change places in another structure: give the order if it is known')
    return '; '.join([f'{chosen} has the lowest energy', *told])
