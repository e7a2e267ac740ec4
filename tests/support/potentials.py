"""Small real MACE potentials for tests: built, not trained, so that they cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase.data import atomic_numbers

from aiida_mlip_autopipe.science.potential.load import quiet

__all__ = ['tiny_potential']


def tiny_potential(
    folder: Path, elements: Sequence[str] = ('Si',), r_max: float = 4.0, channels: int = 4, seed: int = 0
) -> Path:
    """Save an untrained ScaleShiftMACE (float32) of one layer into ``folder``; the same seed gives the same weights.

    Its short-range repulsion keeps atoms apart, so that molecular dynamics with it runs.
    """
    with quiet():
        import mace.modules as modules  # before e3nn: it lets e3nn load its constants
        import torch
        from e3nn import o3
        from mace.tools.torch_tools import default_dtype

    numbers = sorted(atomic_numbers[element] for element in elements)
    with quiet(), torch.random.fork_rng(devices=[]), default_dtype(torch.float32):
        torch.manual_seed(seed)
        model = modules.ScaleShiftMACE(
            r_max=r_max,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=modules.interaction_classes['RealAgnosticResidualInteractionBlock'],
            interaction_cls_first=modules.interaction_classes['RealAgnosticInteractionBlock'],
            num_interactions=1,
            num_elements=len(numbers),
            hidden_irreps=o3.Irreps(f'{channels}x0e'),
            MLP_irreps=o3.Irreps('4x0e'),
            gate=torch.nn.functional.silu,
            atomic_energies=[-1.0 - 0.1 * i for i in range(len(numbers))],
            avg_num_neighbors=8.0,
            atomic_numbers=numbers,
            correlation=2,
            radial_type='bessel',
            pair_repulsion=True,
            atomic_inter_scale=20.0,
            atomic_inter_shift=0.0,
        )
    path = Path(folder) / f'tiny-{"".join(elements)}-{seed}.model'
    torch.save(model, path)
    return path
