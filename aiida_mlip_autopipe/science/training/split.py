"""Training and validation sets that do not leak.

Frames of one trajectory, and all that descends from one seed structure, resemble each other: if some train and others
validate, the validation error is too good. So whole origins go to one side or the other. Origins are ranked by a salted
hash of their name: the assignment does not depend on the order of the frames. Once on a side an origin stays there, so
that the errors of one round can be compared with those of the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aiida_mlip_autopipe.science.systems import is_isolated_atom

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['split_by_origin']


def split_by_origin(
    frames: Sequence[Atoms],
    validation_fraction: float,
    random_seed: int,
    fixed: Mapping[str, str] | None = None,
) -> tuple[list[int], list[int]]:
    """Divide frames by the seed structure from which they descend.

    Parameters
    ----------
    frames : sequence of Atoms
        Each with ``info['origin']``, or with the ``config_type`` IsolatedAtom.
    validation_fraction : float
        Fraction of the origins that validate; at least one does and at least one trains.
    random_seed : int
        Salt of the hash.
    fixed : mapping, optional
        Origins that are on a side already -> ``training`` or ``validation``; the others are divided so that the
        fraction is kept as well as it can be.

    Returns
    -------
    training, validation : list of int
        Indices of the frames, ascending; isolated atoms are all in ``training``.

    Raises
    ------
    ValueError
        If a frame has no origin or there are fewer than two origins.
    """
    origins: dict[int, str] = {}
    for index, atoms in enumerate(frames):
        if not is_isolated_atom(atoms):
            if 'origin' not in atoms.info:
                raise ValueError(
                    f"frame {index} ({atoms.info.get('frame_id', 'unnamed')}) has no info['origin']: set "
                    'it to the name of the structure from which the frame descends'
                )
            origins[index] = str(atoms.info['origin'])
    ranked = sorted(set(origins.values()), key=lambda origin: (_salted_hash(random_seed, origin), origin))
    if len(ranked) < 2:
        raise ValueError(
            f'the frames descend from {len(ranked)} structure(s); training and validation need one each: '
            'generate more seed structures (generation)'
        )
    fixed = fixed or {}
    validating = {origin for origin in ranked if fixed.get(origin) == 'validation'}
    n_wanted = min(max(round(validation_fraction * len(ranked)), 1), len(ranked) - 1)
    free = [origin for origin in ranked if origin not in fixed]
    validating.update(free[: max(n_wanted - len(validating), 0)])
    validation = [index for index, origin in origins.items() if origin in validating]
    training = [index for index in range(len(frames)) if index not in set(validation)]
    return training, validation


def _salted_hash(random_seed: int, origin: str) -> str:
    return hashlib.sha256(f'{random_seed}:{origin}'.encode()).hexdigest()
