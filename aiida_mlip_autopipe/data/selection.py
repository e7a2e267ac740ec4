"""The selection table as a node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from aiida.orm import ArrayData
from numpy.typing import ArrayLike

__all__ = ['selection_array']


def selection_array(table: Mapping[str, ArrayLike], scores: ArrayLike) -> ArrayData:
    """Return the table's columns and the scores of the explored frames as one unstored node.

    :param table: columns of equal length, a row for each candidate.
    :param scores: principal components of (a sample of) all frames, shape (n, 2), to draw the candidates upon.
    """
    node = ArrayData()
    for name, column in table.items():
        node.set_array(name, np.asarray(column))
    node.set_array('scores', np.asarray(scores, dtype=np.float32))
    return node
