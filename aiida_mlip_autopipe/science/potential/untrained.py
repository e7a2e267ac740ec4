"""A MACE potential with random weights: it costs what a trained one of its size costs, and knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase.data import atomic_numbers

from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.load import quiet

__all__ = ['untrained_potential']

# What `mace_run_train` takes where `TrainingParameters` has no word.
N_BESSEL, N_CUTOFF, READOUT = 8, 5, '16x0e'
TYPICAL_NEIGHBOURS = 30.0


def untrained_potential(
    path: Path, elements: Sequence[str], parameters: TrainingParameters | None = None, random_seed: int = 0
) -> Path:
    """Save the potential (float32) that a training would start from; return ``path``.

    Parameters
    ----------
    path : Path
        The ``.model`` file to write.
    elements : sequence of str
        Chemical symbols that it knows.
    parameters : TrainingParameters, optional
        Its size; the defaults if not given.
    random_seed : int
        Seed of the weights; the state of torch's generator is not touched.
    """
    parameters = parameters or TrainingParameters()
    with quiet():
        import mace.modules as modules  # before e3nn: it lets e3nn load its constants
        import torch
        from e3nn import o3
        from mace.tools.torch_tools import default_dtype

    numbers = sorted(atomic_numbers[element] for element in elements)
    block = modules.interaction_classes['RealAgnosticResidualInteractionBlock']
    hidden = o3.Irreps([(parameters.num_channels, (degree, (-1) ** degree)) for degree in range(parameters.max_L + 1)])
    with quiet(), torch.random.fork_rng(devices=[]), default_dtype(torch.float32):
        torch.manual_seed(random_seed)
        model = modules.ScaleShiftMACE(
            r_max=parameters.r_max,
            num_bessel=N_BESSEL,
            num_polynomial_cutoff=N_CUTOFF,
            max_ell=parameters.max_ell,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=parameters.num_interactions,
            num_elements=len(numbers),
            hidden_irreps=hidden,
            MLP_irreps=o3.Irreps(READOUT),
            gate=torch.nn.functional.silu,
            atomic_energies=[0.0] * len(numbers),
            avg_num_neighbors=TYPICAL_NEIGHBOURS,
            atomic_numbers=numbers,
            correlation=parameters.correlation,
            radial_type='bessel',
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )
    torch.save(model, path)
    return path
