"""Foundation models by name: under which licence each may be used, and the file on this machine.

mace downloads a model once and keeps it in its cache (``$XDG_CACHE_HOME/mace`` or ``~/.cache/mace``). Without internet
its loader gives the same words for a failed download and for a wrong path; here the two are told apart.

Sources: the release pages of the mace-foundations, mace-mp and mace-off projects. The Academic Software License (ASL)
does not permit commercial use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ['FOUNDATIONS', 'Foundation', 'FoundationError', 'load_foundation', 'plus_u_elements']

#: In eV.
MATERIALS_PROJECT_U = {'Co': 3.32, 'Cr': 3.7, 'Fe': 5.3, 'Mn': 3.9, 'Mo': 4.38, 'Ni': 6.2, 'V': 3.25, 'W': 6.2}
_PERIODIC_TABLE = '89 elements, H to Pu'


class FoundationError(ValueError):
    """A foundation model is not known or its file is not at hand."""


@dataclass(frozen=True)
class Foundation:
    """What is known of a foundation model before its file is there.

    Attributes
    ----------
    licence : str
        'MIT' or 'ASL' (no commercial use).
    functional : str
        Functional of its labels, with corrections, and the code that computed them.
    elements : str
        What it knows, in words.
    """

    licence: str
    functional: str
    elements: str = _PERIODIC_TABLE

    @property
    def functional_name(self) -> str:
        """Return the name of the functional alone, as another code would call it: 'PBE' of 'PBE(+U), VASP'."""
        return re.split('[(,]', self.functional)[0]

    @property
    def has_plus_u(self) -> bool:
        """Return whether oxides and fluorides of some metals were computed with a Hubbard U."""
        return '(+U)' in self.functional


_ORGANIC = 'H, C, N, O, F, P, S, Cl, Br, I'

FOUNDATIONS: dict[str, Foundation] = {
    **{
        name: Foundation('MIT', 'PBE(+U), VASP')
        for name in (
            'small',
            'medium',
            'large',
            'small-0b',
            'medium-0b',
            'small-0b2',
            'medium-0b2',
            'large-0b2',
            'medium-0b3',
            'medium-mpa-0',
        )
    },
    'small-omat-0': Foundation('ASL', 'PBE(+U), VASP'),
    'medium-omat-0': Foundation('ASL', 'PBE(+U), VASP'),
    'mace-matpes-pbe-0': Foundation('ASL', 'PBE, VASP'),
    'mace-matpes-r2scan-0': Foundation('ASL', 'r2SCAN, VASP'),
    'off-small': Foundation('ASL', 'wB97M-D3BJ', _ORGANIC),
    'off-medium': Foundation('ASL', 'wB97M-D3BJ', _ORGANIC),
    'off-large': Foundation('ASL', 'wB97M-D3BJ', _ORGANIC),
}


def plus_u_elements(elements: Iterable[str]) -> dict[str, float]:
    """Return the metals whose oxides and fluorides the Materials Project computes with U, and U in eV.

    Empty for a system without oxygen and fluorine. Source: pymatgen's set of inputs MPRelaxSet, on which the data of
    the published models rest.
    """
    symbols = set(elements)
    return {one: value for one, value in MATERIALS_PROJECT_U.items() if one in symbols} if symbols & {'O', 'F'} else {}


def load_foundation(name: str) -> Path:
    """Return the file of a foundation model; it is downloaded unless it is in mace's cache.

    Parameters
    ----------
    name : str
        A key of `FOUNDATIONS`, or the path of a file.

    Raises
    ------
    FoundationError
        If the name is unknown, a path leads nowhere, or the download fails.
    """
    if name in FOUNDATIONS:
        return _download(name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise FoundationError(
            f'surrogate {name!r}: there is no file {path.absolute()}; correct the path, or give the '
            f'name of a foundation model ({", ".join(FOUNDATIONS)})'
        )
    close = difflib.get_close_matches(name, FOUNDATIONS, n=1)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    raise FoundationError(
        f'surrogate {name!r} is neither a foundation model nor a file: {hint}known names are {", ".join(FOUNDATIONS)}'
    )


def _download(name: str) -> Path:
    from aiida_mlip_autopipe.science.potential.load import quiet

    with quiet():
        from mace.calculators import foundations_models as models
        from mace.tools.utils import get_cache_dir

        if name.startswith('off-'):
            size = name.removeprefix('off-')
            url = models.mace_off_urls[size]
            target = get_cache_dir() / url.rsplit('/', 1)[1]
        else:
            url = models.mace_mp_urls[name]
            target = get_cache_dir() / ''.join(c for c in url.rsplit('/', 1)[1] if c.isalnum() or c == '_')
        if target.is_file():
            return target
        try:
            if name.startswith('off-'):
                models.mace_off(model=size, device='cpu', return_raw_model=True)
                return target
            return Path(models.download_mace_mp_checkpoint(name))
        except Exception as error:  # URLError, timeouts, RuntimeError of mace
            cause = error.__cause__ or error
            raise FoundationError(
                f'the foundation model {name!r} is not on this machine and cannot be downloaded ({cause}): on a '
                f'machine without internet, fetch {url} elsewhere and save it as {target}, or give the path of the '
                'file as the surrogate'
            ) from error
