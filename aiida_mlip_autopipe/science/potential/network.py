"""What a MACE model is built as, and the energy that it gives a free atom before it has learnt anything."""

from __future__ import annotations

from pathlib import Path

from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.load import PotentialError, load_model, quiet

__all__ = ['Network', 'asked_network', 'read_network']


Network = dict[str, float]
"""The size of a network, by the names of the parameters of a training; ``r_max`` in Å."""


def asked_network(parameters: TrainingParameters) -> Network:
    """Return the network that a training from scratch makes; one layer alone has scalars only, whatever ``max_L``."""
    return Network(
        num_channels=parameters.num_channels,
        max_L=parameters.max_L if parameters.num_interactions > 1 else 0,
        r_max=parameters.r_max,
        correlation=parameters.correlation,
        max_ell=parameters.max_ell,
        num_interactions=parameters.num_interactions,
    )


def read_network(path: Path) -> tuple[Network, dict[str, float], float]:
    """Return the network of a potential, the reference energy of each element in eV, and their relative precision.

    Raises
    ------
    PotentialError
        If it is no potential of the kind that is trained here.
    """
    model = load_model(path)
    with quiet():
        import torch
        from mace.tools.scripts_utils import extract_config_mace_model

        found = extract_config_mace_model(model)
    if 'error' in found:
        raise PotentialError(f'{path}: {found["error"]}')
    irreps = found['hidden_irreps']
    network = Network(
        num_channels=irreps.count('0e'),
        max_L=irreps.lmax,
        r_max=round(float(found['r_max']), 6),
        correlation=int(found['correlation']),
        max_ell=int(found['max_ell']),
        num_interactions=int(found['num_interactions']),
    )
    symbols = [chemical_symbols[int(number)] for number in found['atomic_numbers']]
    energies = found['atomic_energies'].reshape(-1).tolist()
    if len(energies) != len(symbols):
        raise PotentialError(f'{path} has {len(energies)} reference energies for {len(symbols)} elements')
    return network, dict(zip(symbols, energies, strict=True)), torch.finfo(next(model.parameters()).dtype).eps
