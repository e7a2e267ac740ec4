"""Parameters to a descriptor, and frames on disk to rows: the interface used by the pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.descriptors.ace import ACE
from aiida_mlip_autopipe.science.descriptors.base import Descriptor, OnError
from aiida_mlip_autopipe.science.descriptors.mace import MACEFeatures
from aiida_mlip_autopipe.science.descriptors.soap import SOAP

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.frames import FrameChunk
    from aiida_mlip_autopipe.science.parameters import DescriptorParameters

__all__ = ['make_descriptor', 'stream_rows']


def make_descriptor(
    parameters: DescriptorParameters,
    species: Iterable[int | str],
    potential: str | Path | None = None,
    **changes: object,
) -> Descriptor:
    """Return the descriptor that the parameters ask for.

    Parameters
    ----------
    parameters : DescriptorParameters
        Kind and settings.
    species : iterable of str or int
        All elements that will be met.
    potential : path, optional
        The MACE potential whose features are wanted; for ``kind: mace`` only.
    **changes
        Settings in place of those of the parameters, such as ``average='off'``.

    Raises
    ------
    ValueError
        If a setting is out of bounds, or the potential is missing.
    """
    settings = {**parameters.model_dump(exclude={'kind'}), **changes}
    if parameters.kind == 'mace':
        if potential is None:
            raise ValueError('descriptor mace needs a potential; give one, or choose soap or ace')
        return MACEFeatures(potential, **settings)
    if parameters.kind == 'ace':
        return ACE(species, **settings)
    return SOAP(species, **settings)


def stream_rows(
    descriptor: Descriptor,
    chunks: Iterable[FrameChunk],
    progress: Callable[[Mapping[str, object]], None] | None = None,
    n_jobs: int = 1,
    on_error: OnError = 'mask',
) -> Iterator[np.ndarray]:
    """Describe frames chunk by chunk, and tell how far it is.

    Parameters
    ----------
    descriptor : Descriptor
        From `make_descriptor`.
    chunks : iterable of FrameChunk
        Frames of equal composition within a chunk, in order.
    progress : callable, optional
        Called after each chunk with ``{'frames_described': int}``, and ``'frames_masked': {reason: int}`` if any were.
    n_jobs : int
        Threads over the frames of a chunk.
    on_error : str
        ``mask``: rows of frames that cannot be described are NaN; or ``raise``.

    Yields
    ------
    numpy.ndarray
        (n, features), or (n, n_atoms, features) of a descriptor that does not average; a buffer that the next chunk
        overwrites.

    Raises
    ------
    ValueError
        If a chunk has an element that is not among the species.
    """
    n_described = 0
    masked: Counter[str] = Counter()
    for described in descriptor.stream(chunks, n_jobs, on_error):
        yield described.rows
        n_described += len(described.rows)
        masked.update(problem.reason for problem in described.masked.values())
        if progress is not None:
            progress({'frames_described': n_described} | ({'frames_masked': dict(masked)} if masked else {}))
