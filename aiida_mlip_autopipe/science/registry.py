"""What a scientist may swap is found by entry points: the methods of this package and those of any other.

A registry is a group of entry points. Each names one object, a module or a class, that keeps the contract of the group:
how one is written is said there, such as in ``generate/base.py``. Names are known without an import; an object is
imported when it is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.dynamics.ensembles.base import Ensemble
    from aiida_mlip_autopipe.science.generate.base import SeedGenerator
    from aiida_mlip_autopipe.science.sampling.rules.base import SelectionRule

__all__ = ['ENSEMBLES', 'GENERATORS', 'SELECTION_RULES', 'Registry']

Registered = TypeVar('Registered')


class Registry(Generic[Registered]):
    """The objects registered in one group of entry points, by name.

    As an annotation, ``Annotated[str, registry]``, it makes a parameter whose values are the names.

    Parameters
    ----------
    group : str
        The group, such as ``aiida_mlip_autopipe.ensembles``.
    noun : str
        What one of them is called in an error, such as 'ensemble'.

    Examples
    --------
    >>> ensembles = Registry('aiida_mlip_autopipe.ensembles', 'ensemble')
    >>> 'nvt' in ensembles
    True
    """

    def __init__(self, group: str, noun: str) -> None:
        self.group, self.noun = group, noun

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in sorted(entry_points(group=self.group), key=lambda one: one.name)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Registered:
        """Return what is registered under a name.

        Raises
        ------
        ValueError
            If nothing is; the error names what there is.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise ValueError(f'{name!r} is no {self.noun}: there are {", ".join(self._entries) or "none"}{hint}')
        loaded: Any = self._entries[name].load()
        return loaded

    def items(self) -> Iterator[tuple[str, Registered]]:
        """Yield each name and what is registered under it, by their ``rank`` if they have one, then by name."""
        found = [(name, self[name]) for name in self]
        yield from sorted(found, key=lambda item: (getattr(item[1], 'rank', 0), item[0]))

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Return the schema of a parameter that is one of the names."""
        return core_schema.literal_schema(list(self))


GENERATORS: Registry[type[SeedGenerator]] = Registry('aiida_mlip_autopipe.generators', 'method of making seeds')
ENSEMBLES: Registry[type[Ensemble]] = Registry('aiida_mlip_autopipe.ensembles', 'ensemble')
SELECTION_RULES: Registry[type[SelectionRule]] = Registry('aiida_mlip_autopipe.selection_rules', 'selection rule')
