"""scikit-learn's manners: what an estimator was made with can be asked for, changed, and copied by ``sklearn.clone``.

Source: https://scikit-learn.org/stable/developers/develop.html
"""

from __future__ import annotations

import inspect
from typing import Any, Self

__all__ = ['Parametrised', 'RemembersArguments', 'check_real']


class Parametrised:
    """What has parameters: the arguments of its constructor, kept under their names."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the value of each parameter, by name; ``deep`` makes no difference, as none has parameters itself."""
        return {name: getattr(self, name) for name in _names_of(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Change parameters, and return itself; what was fitted stays.

        Raises
        ------
        ValueError
            If there is no such parameter, or a value is out of bounds: nothing is changed then.
        """
        names = _names_of(type(self))
        if unknown := sorted(set(params) - set(names)):
            raise ValueError(f'{type(self).__name__} has no parameter {", ".join(unknown)}; it has {", ".join(names)}')
        self.__dict__.update(type(self)(**{**self.get_params(), **params}).__dict__)
        return self


class RemembersArguments(Parametrised):
    """What keeps the arguments of its constructor as they were given, beside what was made of them."""

    _given: dict[str, Any]

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        """Note the arguments; a copy and an unpickled one are given none, and bring their notes along."""
        made = super().__new__(cls)
        bound = inspect.signature(cls).bind_partial(*args, **keywords)
        bound.apply_defaults()
        made._given = dict(bound.arguments)
        return made

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments, by name; ``deep`` makes no difference, as none has parameters itself."""
        return dict(self._given)


def check_real(values: Any, name: str) -> None:
    """Refuse complex numbers, of which NumPy would keep the real parts with no more than a warning.

    Raises
    ------
    ValueError
    """
    dtype = getattr(values, 'dtype', None)
    if dtype is not None and dtype.kind == 'c':
        raise ValueError(f'{name} is {dtype}, and complex numbers have no order or distance here; give real numbers')


def _names_of(estimator: type) -> list[str]:
    return list(inspect.signature(estimator).parameters)
