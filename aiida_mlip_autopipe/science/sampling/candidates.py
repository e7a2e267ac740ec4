"""From frames of MD jobs or files to candidates: describe every frame, select, load the selected ones.

Frames are read in chunks and never held together; the descriptor of each goes to a file, which DIRECT reads block by
block. A candidate carries in its ``info`` where it comes from (see :mod:`aiida_mlip_autopipe.science.frames`) and why
it was chosen: cluster, rank, reason, distance to the centroid, and how many frames it stands for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from aiida_mlip_autopipe.science.descriptors import make_descriptor, stream_rows
from aiida_mlip_autopipe.science.frames import FrameChunk, FrameSource, ShardFrames
from aiida_mlip_autopipe.science.parameters import DescriptorParameters, SamplingParameters
from aiida_mlip_autopipe.science.sampling.direct import DirectSampler
from aiida_mlip_autopipe.science.sampling.environments import EnvironmentSource
from aiida_mlip_autopipe.science.sampling.limits import REASONS, FrameLimits
from aiida_mlip_autopipe.science.sampling.overview import note, overview
from aiida_mlip_autopipe.science.sampling.rows import write_rows
from aiida_mlip_autopipe.science.systems import is_isolated_atom

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.science.descriptors import Descriptor

__all__ = ['Selection', 'describe_folders', 'select_candidates', 'select_frames']

Progress = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True)
class Selection:
    """Candidates and how they were chosen.

    Attributes
    ----------
    candidates : list of ase.Atoms
        In order of rank; empty where no frame is new.
    table : dict of numpy.ndarray
        One entry per candidate: index (among all frames of the folders), cluster, rank, distance, reason, represents
        (how many frames are nearer to it than to any other), frame_id ('' of a frame without one), and novelty where
        something was known.
    frames : dict of numpy.ndarray
        Some of the frames that there were to choose from, see
        :func:`~aiida_mlip_autopipe.science.sampling.overview.overview`.
    report : dict
        Plain numbers, see :class:`~aiida_mlip_autopipe.science.sampling.direct.DirectSampler`; and ``frames_masked``:
        for each reason why frames could not be described, how many there were.
    figures : dict
        What :func:`~aiida_mlip_autopipe.science.sampling.figures.draw_figures` draws.
    """

    candidates: list[Atoms]
    table: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    report: dict[str, Any]
    figures: dict[str, Any]


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
    source = ShardFrames(folders)
    descriptor = make_descriptor(parameters, source.species, potential)
    rows = stream_rows(descriptor, source.chunks(), _with_total(progress, source))
    return np.concatenate([chunk.copy() for chunk in rows])


def select_candidates(
    folders: Sequence[Path],
    parameters: SamplingParameters,
    progress: Progress | None = None,
    potential: str | Path | None = None,
    known: Sequence[Atoms] = (),
    scratch: str | Path | None = None,
) -> Selection:
    """Select the frames worth a label from the shards of MD jobs.

    Parameters
    ----------
    folders, progress, potential
        As for `describe_folders`.
    parameters : SamplingParameters
        How many, by which descriptor and rule.
    known : sequence of ase.Atoms
        Frames that are labelled already: the selection keeps away from them, but for isolated atoms.
    scratch : path, optional
        Folder for the descriptors, four bytes for each frame and feature; the system's if not given.

    Raises
    ------
    ManifestError, ValueError
        As `describe_folders`, and if no frame can be described.
    """
    return select_frames(ShardFrames(folders), parameters, progress, potential, known, scratch)


def select_frames(
    source: FrameSource,
    parameters: SamplingParameters,
    progress: Progress | None = None,
    potential: str | Path | None = None,
    known: Sequence[Atoms] = (),
    scratch: str | Path | None = None,
) -> Selection:
    """Select the frames worth a label from any source of frames; as `select_candidates` does.

    Raises
    ------
    ValueError
        If no frame can be described, or the potential is missing.
    """
    from aiida_mlip_autopipe.science.sampling.figures import figure_data

    masked: dict[str, int] = {}

    def tell(state: Mapping[str, object]) -> None:
        masked.update(cast(dict[str, int], state.get('frames_masked', {})))
        if progress is not None:
            progress(state)

    known = [atoms for atoms in known if not is_isolated_atom(atoms)]
    species = sorted({*source.species, *(int(number) for atoms in known for number in atoms.numbers)})
    descriptor = make_descriptor(parameters.descriptor, species, potential)
    codes: list[np.ndarray] = []
    notes: list[np.ndarray] = []
    checked = _check(source.chunks(), FrameLimits(parameters.limits), codes, notes)
    with TemporaryDirectory(dir=scratch, prefix='descriptors-') as folder:
        rows = stream_rows(descriptor, checked, _with_total(tell, source))
        described = write_rows(Path(folder) / 'descriptors.npy', rows, source.n_frames)
        sampler = _sampler(parameters).fit(
            described,
            known=_describe_known(known, descriptor) if known else None,
            groups=None if parameters.group_by == 'none' else source.groups(parameters.group_by),
            exclude=_excluded(np.concatenate(codes)),
            **_environments(source, parameters, known, species, potential),
            certain=_certain(np.concatenate(notes)['disagreement_eV_A'], parameters),
        )
    candidates = source.load(sampler.selected_idx_)
    table = _table(sampler, candidates)
    _tell_candidates(candidates, table)
    report = {**sampler.report_, 'frames_masked': masked}
    return Selection(candidates, table, overview(notes, sampler), report, figure_data(sampler))


def _tell_candidates(candidates: Sequence[Atoms], table: dict[str, np.ndarray]) -> None:
    """Write into the ``info`` of each candidate how it was chosen."""
    for rank, atoms in enumerate(candidates):
        told = {name: column[rank].item() for name, column in table.items()}
        atoms.info.update({name: value for name, value in told.items() if name not in ('index', 'frame_id')})


def _with_total(progress: Progress | None, source: FrameSource) -> Progress | None:
    """Return what tells the total number of frames along with what it is told."""
    return None if progress is None else lambda state: progress({**state, 'frames_total': source.n_frames})


def _check(
    chunks: Iterable[FrameChunk], limits: FrameLimits, codes: list[np.ndarray], notes: list[np.ndarray]
) -> Iterator[FrameChunk]:
    """Pass chunks on; note which of their frames break a limit, and what is told of each."""
    for chunk in chunks:
        codes.append(limits.check(chunk))
        notes.append(note(chunk))
        yield chunk


def _excluded(codes: np.ndarray) -> dict[str, np.ndarray]:
    """Return which frames break each limit; those without a geometry cannot be described and are counted there."""
    broken = {reason: codes == code for code, reason in REASONS.items() if reason != 'finite_geometry'}
    return {reason: frames for reason, frames in broken.items() if frames.any()}


def _certain(disagreements: np.ndarray, parameters: SamplingParameters) -> np.ndarray | None:
    """Return which frames a committee knows well enough (n_frames,); None if none. NaN says that nobody was asked."""
    certain = parameters.disagreement_factor * disagreements < parameters.min_expected_error_eV_A
    return certain if certain.any() else None


def _describe_known(known: Sequence[Atoms], descriptor: Descriptor) -> np.ndarray:
    """Describe labelled frames (n_known, features), which may differ in size; leave out what cannot be."""
    rows = np.atleast_2d(descriptor.create(known, on_error='mask')).astype(np.float32)
    return rows[np.isfinite(rows).all(axis=1)]


def _environments(
    source: FrameSource,
    parameters: SamplingParameters,
    known: Sequence[Atoms],
    species: Sequence[int],
    potential: str | Path | None,
) -> dict[str, EnvironmentSource]:
    """Return what describes the atoms of all frames, and of known ones; nothing where they are not asked for."""
    if not parameters.uses_environments:
        return {}
    descriptor = make_descriptor(parameters.descriptor, species, potential, average='off')

    def of_known() -> Iterator[np.ndarray]:
        for atoms in known:
            rows = np.asarray(descriptor.create(atoms, on_error='mask'))
            if np.isfinite(rows).all():
                yield rows[None]

    return {'environments': lambda: stream_rows(descriptor, source.chunks()), 'known_environments': of_known}


def _sampler(parameters: SamplingParameters) -> DirectSampler:
    """Return the sampler that the parameters ask for."""
    names = set(inspect.signature(DirectSampler).parameters) & set(SamplingParameters.model_fields)
    return DirectSampler(
        **{name: getattr(parameters, name) for name in names},
        random_state=parameters.random_seed,
        max_bytes=1e9 * parameters.max_memory_GB,
    )


def _table(sampler: DirectSampler, candidates: Sequence[Atoms]) -> dict[str, np.ndarray]:
    """Return the selection table, column by column."""
    selected, novelty = sampler.selected_idx_, sampler.novelty_
    known = {} if novelty is None else {'novelty': novelty[selected].astype(float)}
    return {
        'index': selected,
        'cluster': sampler.labels_[selected].astype(np.int64),
        'rank': np.arange(len(candidates)),
        'distance': sampler.distances_,
        'reason': np.array(sampler.reasons_, dtype=str),
        'represents': sampler.represents_,
        **known,
        'frame_id': np.array([atoms.info.get('frame_id', '') for atoms in candidates], dtype=str),
    }
