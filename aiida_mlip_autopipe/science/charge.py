"""The total charge of structures: a potential has no input for it, so a data set has one."""

from __future__ import annotations

from collections.abc import Iterable

from ase import Atoms

__all__ = ['CHARGE', 'charge_problem', 'told_charge']

CHARGE = 'total_charge'
NAMES = (CHARGE, 'REF_charge', 'charge')


def told_charge(atoms: Atoms) -> float | None:
    """Return the total charge that a frame tells, in units of e; None if it tells none."""
    return next((float(atoms.info[name]) for name in NAMES if name in atoms.info), None)


def charge_problem(frames: Iterable[Atoms], charge: int) -> str | None:
    """Return what keeps labelled frames from joining labels of a charge, and the way out.

    Parameters
    ----------
    frames : iterable of Atoms
        Those that tell no charge are not judged.
    charge : int
        Of the run, in units of e.
    """
    others = sorted({told for atoms in frames if (told := told_charge(atoms)) is not None and told != charge})
    if not others:
        return None
    return (
        f'it has frames with a total charge of {", ".join(f"{one:+g}" for one in others)}, but labelling.charge is '
        f'{charge:+d}: a potential is not told of a charge, so a data set has one; leave these frames out, or change '
        'labelling.charge'
    )
