"""A MACE potential as a file: is it one, what does it know, and the ASE calculator that runs it.

A ``.model`` file is a pickle: loading one runs code. Load only files whose SHA-256 is known: a published foundation
model, or a file that the user trusts.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.frames import file_sha256

if TYPE_CHECKING:
    from ase import Atoms
    from mace.calculators import MACECalculator
    from mace.modules import MACE
    from torch import Tensor

__all__ = [
    'PotentialError',
    'PotentialInfo',
    'check_elements',
    'import_mace',
    'inspect_potential',
    'load_calculator',
    'load_model',
    'quiet',
    'resolve_device',
]

_NOISY_WARNINGS = (
    '.*weights_only.*',
    '.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.*',
    '.*TorchScript.*',
    '.*torch.jit.*',
    '.*The .grad attribute of a Tensor.*',
    '.*To copy construct from a tensor.*',
)


class PotentialError(ValueError):
    """A file is not a MACE potential, or not one for this system."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what mace, e3nn and torch always print, log or warn of at the start; other warnings pass."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            for message in _NOISY_WARNINGS:
                warnings.filterwarnings('ignore', message=message)
            yield
    finally:
        root.setLevel(level)


def import_mace() -> None:
    """Import mace, for what its import changes in e3nn and torch."""
    with quiet():
        import mace  # noqa: F401


def resolve_device(device: str) -> str:
    """Return 'cpu' or 'cuda'; 'auto' means the GPU where there is one.

    Raises
    ------
    ValueError
        If 'cuda' is asked for and there is none.
    """
    if device == 'cpu':
        return device
    import torch

    available = torch.cuda.is_available()
    if device == 'auto':
        return 'cuda' if available else 'cpu'
    if device == 'cuda' and not available:
        raise ValueError(
            "device is 'cuda', but torch finds no CUDA device here: use device 'auto' or 'cpu', or a "
            'computer with a GPU and a CUDA build of torch'
        )
    return device


class PotentialInfo(TypedDict):
    """What a potential says about itself: elements sorted by atomic number, cutoff in Å."""

    sha256: str
    elements: list[str]
    r_max: float
    dtype: str
    n_parameters: int


def inspect_potential(path: str | Path) -> PotentialInfo:
    """Return what a MACE ``.model`` file says about itself.

    Raises
    ------
    PotentialError
        If the file is missing or is not a MACE potential.
    """
    model = load_model(Path(path))
    parameters = list(model.parameters())
    numbers, r_max = cast('Tensor', model.atomic_numbers), cast('Tensor', model.r_max)
    return {
        'sha256': file_sha256(path),
        'elements': [chemical_symbols[int(z)] for z in sorted(numbers.tolist())],
        'r_max': round(float(r_max), 6),
        'dtype': str(parameters[0].dtype).removeprefix('torch.'),
        'n_parameters': sum(parameter.numel() for parameter in parameters),
    }


def load_calculator(path: str | Path, dtype: str = 'float64', device: str = 'auto') -> MACECalculator:
    """Return an ASE calculator (eV, Å) that runs the potential.

    Raises
    ------
    PotentialError
        If the file is missing or is not a MACE potential.
    ValueError
        If the device does not exist.
    """
    device = resolve_device(device)
    model = load_model(Path(path))
    with quiet():
        from mace.calculators import MACECalculator

        try:
            return MACECalculator(models=[model.to(device)], device=device, default_dtype=dtype)
        except Exception as error:  # mace raises many kinds; a multi-head model without a default head is one
            raise PotentialError(f'{path} cannot be run as a MACE potential: {error}') from error


def check_elements(elements: Iterable[str], frames: Iterable[Atoms], path: str | Path) -> None:
    """Raise `PotentialError` if a frame holds an element that the potential was not trained for."""
    needed = {symbol for atoms in frames for symbol in atoms.get_chemical_symbols()}
    if unknown := sorted(needed - set(elements)):
        raise PotentialError(
            f'the potential {path} knows {", ".join(elements)}, but the structures hold '
            f'{", ".join(unknown)}: use a potential trained for these elements'
        )


def load_model(path: Path) -> MACE:
    """Return the torch model of a file, on the CPU.

    Raises
    ------
    PotentialError
        If the file is missing or is not a MACE potential.
    """
    if not path.is_file():
        raise PotentialError(f'{path} is not a file: give the path of a MACE .model file')
    with quiet():
        import mace.modules  # noqa: F401  the classes that the pickle names
        import torch

        try:
            model = torch.load(path, map_location='cpu', weights_only=False)
        except Exception as error:  # unpickling raises whatever it likes
            raise PotentialError(
                f'{path} cannot be loaded as a MACE potential ({type(error).__name__}: {error}); give '
                'a .model file as mace_run_train writes it'
            ) from error
    if not all(hasattr(model, name) for name in ('parameters', 'atomic_numbers', 'r_max')):
        raise PotentialError(
            f'{path} holds a {type(model).__name__}, not a MACE potential: a checkpoint or a state '
            'dict does not do; give the .model file that mace_run_train writes'
        )
    return model
