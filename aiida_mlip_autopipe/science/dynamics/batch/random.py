"""Random numbers of many replicas at once, each a function of its replica, step and atom alone.

A generator with a state would tie a replica to its neighbours in the batch, and one generator for each replica would
cost more than the forces. These numbers come from a counter instead: Philox4x32-10 (J. K. Salmon, M. A. Moraes,
R. O. Dror, D. E. Shaw, SC '11, doi:10.1145/2063384.2063405) maps the replica's seed (key) and stream, step and atom
(counter) to 128 random bits; the transformation of Box and Muller makes normal numbers of them. No state has to be kept
in a checkpoint, and a step that is done again draws the same numbers again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['BAROSTAT', 'THERMOSTAT', 'VELOCITIES', 'philox', 'standard_normal']

VELOCITIES, THERMOSTAT, BAROSTAT = 0, 1, 2
"""Streams: what the numbers are drawn for."""

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_UNIT = 2.0**-32


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return four random words for each counter.

    Parameters
    ----------
    counter, key : tuples of int64 tensors
        Words of 32 bits; the shapes broadcast.

    Returns
    -------
    tuple of four int64 tensors
        Words of 32 bits.
    """
    first, second, third, fourth = counter
    key_0, key_1 = key
    for _ in range(_ROUNDS):
        product_0, product_1 = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]  # modulo 2**64
        first, second, third, fourth = (
            ((product_1 >> 32) & _MASK) ^ second ^ key_0,
            product_1 & _MASK,
            ((product_0 >> 32) & _MASK) ^ fourth ^ key_1,
            product_0 & _MASK,
        )
        key_0, key_1 = (key_0 + _WEYL[0]) & _MASK, (key_1 + _WEYL[1]) & _MASK
    return first, second, third, fourth


def standard_normal(seed: Tensor, stream: int, step: Tensor, index: Tensor) -> Tensor:
    """Return three independent standard normal numbers for each step and index.

    Parameters
    ----------
    seed, step, index : int64 tensors
        Seed of the replica (below 2**64), step and atom (below 2**32); the shapes broadcast to one shape S.
    stream : int
        What the numbers are for: other streams give other numbers.

    Returns
    -------
    Tensor of float64, shape (\\*S, 3)
    """
    import torch

    streams = torch.full_like(index, stream)
    words = philox((index, step & _MASK, streams, torch.zeros_like(index)), (seed & _MASK, (seed >> 32) & _MASK))
    uniform = [word.to(torch.float64) for word in words]
    radius_0 = torch.sqrt(-2 * torch.log((uniform[0] + 1) * _UNIT))  # the logarithm never sees zero
    radius_1 = torch.sqrt(-2 * torch.log((uniform[2] + 1) * _UNIT))
    angle_0, angle_1 = (2 * math.pi * _UNIT) * uniform[1], (2 * math.pi * _UNIT) * uniform[3]
    normal = (radius_0 * torch.cos(angle_0), radius_0 * torch.sin(angle_0), radius_1 * torch.cos(angle_1))
    return torch.stack(normal, dim=-1)
