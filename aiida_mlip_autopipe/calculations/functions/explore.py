"""Exploration in this process: for notebooks and tests, with the answers of the CalcJobs.

The daemon never runs these: a calcfunction blocks its worker.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from aiida import orm
from aiida.engine import Process, calcfunction

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.parameters import (
    DynamicsParameters,
    SamplingParameters,
    descriptor_parameters,
)

__all__ = ['calculate_descriptors', 'direct_sampling_local', 'run_mace_md']


@calcfunction
def run_mace_md(potential: PotentialData, seeds: FramesData, parameters: orm.Dict) -> dict[str, orm.Data]:
    """Run MACE molecular dynamics in this process: the twin of the ``mace_md`` CalcJob.

    :param parameters: ``DynamicsParameters``.
    :returns: ``manifest`` and ``shards``, a folder as the CalcJob leaves it on its computer.
    """
    from aiida_mlip_autopipe.science.dynamics import run_replicas

    with TemporaryDirectory() as name, potential.as_path() as model:
        folder = Path(name)
        manifest = run_replicas(
            model,
            seeds.get_atoms(),
            DynamicsParameters(**parameters.get_dict()),
            folder,
            md_job=Process.current().node.uuid[:8],
        )
        return {'manifest': orm.Dict(manifest), 'shards': orm.FolderData(tree=str(folder))}


@calcfunction
def calculate_descriptors(
    shards: orm.FolderData, parameters: orm.Dict, potential: PotentialData | None = None
) -> orm.ArrayData:
    """Describe every frame of a folder of shards.

    :param parameters: ``SoapParameters``, ``AceParameters`` or ``MaceFeaturesParameters``, told apart by ``kind``.
    :param potential: the potential whose features are wanted, for ``kind: mace``.
    :returns: array ``features``, shape (n_frames, n_features); NaN in the rows of frames that cannot be described.
    """
    from aiida_mlip_autopipe.science.sampling import describe_folders

    chosen = descriptor_parameters(parameters.get_dict())
    with shards.base.repository.as_path() as folder, _path_of(potential) as model:
        features = describe_folders([folder], chosen, potential=model)
    return orm.ArrayData({'features': features})


@calcfunction
def direct_sampling_local(
    shards: orm.FolderData, parameters: orm.Dict, potential: PotentialData | None = None, **others: orm.Data
) -> dict[str, orm.Data]:
    """Select candidates in this process: the twin of the ``direct_sampling`` CalcJob.

    :param parameters: ``SamplingParameters``.
    :param potential: the potential whose features describe the frames, for the descriptor ``mace``.
    :param others: further folders of shards (``FolderData``), in the order of their names, and labelled sets
        (``FramesData``) that the selection keeps away from.
    :returns: ``candidates`` (unless nothing is new), ``selection``, ``frames`` and ``report``, as the CalcJob gives
        them; and ``figures``, a folder.
    """
    from aiida_mlip_autopipe.science.sampling import select_candidates
    from aiida_mlip_autopipe.science.sampling.figures import write_figures

    sampling = SamplingParameters(**parameters.get_dict())
    more = [others[name] for name in sorted(others)]
    known = [atoms for node in more if isinstance(node, FramesData) for atoms in node.get_atoms()]
    with ExitStack() as opened:
        nodes = [shards, *(node for node in more if isinstance(node, orm.FolderData))]
        folders = [opened.enter_context(node.base.repository.as_path()) for node in nodes]
        model = opened.enter_context(_path_of(potential))
        chosen = select_candidates(folders, sampling, potential=model, known=known)
        drawn = opened.enter_context(TemporaryDirectory())
        write_figures(chosen.figures, drawn)
        outputs: dict[str, orm.Data] = {
            'selection': orm.ArrayData(chosen.table),
            'frames': orm.ArrayData(chosen.frames),
            'report': orm.Dict(chosen.report),
            'figures': orm.FolderData(tree=drawn),
        }
    if chosen.candidates:
        outputs['candidates'] = FramesData.from_atoms(chosen.candidates)
    return outputs


def _path_of(potential: PotentialData | None) -> AbstractContextManager[Path | None]:
    """Return the file of a potential for as long as it is needed; None where there is none."""
    return nullcontext() if potential is None else potential.as_path()
