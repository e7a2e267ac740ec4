"""From folders of MD frames to candidates for labelling: describe every frame, select, load the selected ones.

Frames are read in chunks and never held together; what is kept of each is its descriptor. A candidate carries in its
``info`` where it comes from (see :mod:`aiida_mlip_autopipe.science.frames`) and why it was chosen: cluster, rank,
reason and distance to the centroid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.science.descriptors import describe
from aiida_mlip_autopipe.science.frames import iter_chunks, load_frames, read_manifest
from aiida_mlip_autopipe.science.parameters import DescriptorParameters, SamplingParameters
from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['Selection', 'describe_folders', 'select_candidates']

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Selection:
    """Candidates and how they were chosen.

    Attributes
    ----------
    candidates : list of ase.Atoms
        In order of rank.
    table : dict of numpy.ndarray
        One entry per candidate: index (among all frames of the folders), cluster, rank, distance, reason, frame_id.
    scores : numpy.ndarray
        The first two components (or one) of all frames, (n_frames, 1 or 2), float32; NaN for frames left out.
    report : dict
        Plain numbers, see :class:`~aiida_mlip_autopipe.science.sampling.direct.DirectSampler`; and ``frames_masked``:
        for each reason why frames could not be described, how many there were.
    """

    candidates: list[Atoms]
    table: dict[str, np.ndarray]
    scores: np.ndarray
    report: dict[str, Any]


def describe_folders(
    folders: Sequence[Path],
    parameters: DescriptorParameters,
    progress: Progress | None = None,
    potential: str | Path | None = None,
) -> np.ndarray:
    """Describe every frame of the folders of MD jobs.

    Parameters
    ----------
    folders : sequence of pathlib.Path
        Folders of MD jobs, each with a manifest.
    parameters : DescriptorParameters
        Descriptor and its settings.
    progress : callable, optional
        Called with ``{'frames_described': int, 'frames_total': int}`` after each chunk, and ``'frames_masked'``, a
        count for each reason, once there are broken frames.
    potential : path, optional
        The MACE potential whose features describe the frames; for the descriptor ``mace``.

    Returns
    -------
    numpy.ndarray
        (n_frames, features): folders in order, shards in the manifest's order, frames in time; NaN in the rows of
        frames that cannot be described. The species are those of all shards together.

    Raises
    ------
    ManifestError
        If a manifest or a shard is missing or differs from what was written.
    ValueError
        If there is no frame, or the potential is missing.
    """
    folders = [Path(folder) for folder in folders]
    shard_sizes = [shard['n_frames'] for folder in folders for shard in read_manifest(folder)['shards']]
    n_frames = sum(shard_sizes)
    if n_frames == 0:
        raise ValueError(
            f'the {len(folders)} folders {[folder.name for folder in folders]} hold no frame; run the MD '
            'for longer or look at the guards that ended it'
        )

    def tell(state: dict[str, Any]) -> None:
        if progress is not None:
            progress({**state, 'frames_total': n_frames})

    species = _species(folders, shard_sizes)
    return describe(iter_chunks(folders), species, parameters, tell, potential, on_error='mask')


def select_candidates(
    folders: Sequence[Path],
    parameters: SamplingParameters,
    progress: Progress | None = None,
    potential: str | Path | None = None,
) -> Selection:
    """Select the frames worth a label from the shards of MD jobs.

    Parameters
    ----------
    folders : sequence of pathlib.Path
        Folders of MD jobs, each with a manifest.
    parameters : SamplingParameters
        How many, by which descriptor and method.
    progress : callable, optional
        As `describe_folders` calls it.
    potential : path, optional
        The MACE potential whose features describe the frames; for the descriptor ``mace``.

    Returns
    -------
    Selection

    Raises
    ------
    ManifestError
        If a manifest or a shard is missing or differs from what was written.
    ValueError
        If there is no frame, or none that can be described; if the potential is missing.
    """
    masked: dict[str, int] = {}

    def tell(state: dict[str, Any]) -> None:
        masked.update(state.get('frames_masked', {}))
        if progress is not None:
            progress(state)

    rows = describe_folders(folders, parameters.descriptor, tell, potential)
    sampler = DirectSampler(
        parameters.n_to_select,
        parameters.clustering,
        parameters.min_eigenvalue,
        parameters.random_seed,
        selection=parameters.selection,
    ).fit(rows)
    candidates = load_frames(folders, sampler.selected_idx_)
    table = {
        'index': sampler.selected_idx_,
        'cluster': sampler.labels_[sampler.selected_idx_],
        'rank': np.arange(len(candidates)),
        'distance': sampler.distances_,
        'reason': np.array(sampler.reasons_),
        'frame_id': np.array([atoms.info['frame_id'] for atoms in candidates]),
    }
    for rank, atoms in enumerate(candidates):
        atoms.info.update({name: table[name][rank].item() for name in ('cluster', 'rank', 'distance', 'reason')})
    report = {**sampler.report_, 'frames_masked': masked}
    return Selection(candidates, table, sampler.scores_[:, :2].astype(np.float32), report)


def _species(folders: Sequence[Path], shard_sizes: Sequence[int]) -> list[int]:
    """Return the atomic numbers of all shards: those of the first frame of each."""
    ends = np.cumsum(shard_sizes)
    first_frames = [int(end - size) for end, size in zip(ends, shard_sizes, strict=True) if size > 0]
    return sorted({int(number) for atoms in load_frames(folders, first_frames) for number in atoms.numbers})
