"""What the labelling code has to say about an input: values that follow from the system, problems and remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from aiida_mlip_autopipe.config.dump import flatten
from aiida_mlip_autopipe.config.heuristics import Suggestion
from aiida_mlip_autopipe.config.schema import HeuristicRules
from aiida_mlip_autopipe.science.parameters import LABELLERS
from aiida_mlip_autopipe.science.parameters.labelling import kind_of

__all__ = ['LABELLING_PREFIX', 'of_labels', 'recommended_for']

LABELLING_PREFIX = 'labelling.'


def recommended_for(user: Mapping[str, Any], recommended: Any) -> tuple[Any, list[str]]:
    """Return what the profile recommends to the labelling code of an input, and the problems of asking for it.

    Parameters
    ----------
    user : mapping
        The input.
    recommended : any
        The recommendation, or what gives it for the section ``labelling`` (`ConfigExpander.expand`).
    """
    section = user.get('labelling', {})
    if not callable(recommended):
        return recommended, []
    if kind_of(section) not in LABELLERS:
        return None, []
    try:
        return recommended(
            {**(flatten(section) if isinstance(section, Mapping) else {}), 'code': _given_code(user)}
        ), []
    except ValueError as error:
        return None, [str(error)]


def of_labels(
    user: Mapping[str, Any], structures: Sequence[Atoms], recommended: Any, rules: HeuristicRules
) -> tuple[dict[str, Suggestion], list[str], dict[str, str]]:
    """Return what the labelling code suggests, what is wrong with its section, and what to beware of in it.

    Parameters
    ----------
    user : mapping
        The input.
    structures : sequence of Atoms
        Those of the system.
    recommended : any
        What the profile recommends to the code; None if it is not known.
    rules : HeuristicRules
    """
    section = user.get('labelling', {})
    if kind_of(section) not in LABELLERS:
        return {}, [], {}
    labeller, given = LABELLERS[kind_of(section)], flatten(section) if isinstance(section, Mapping) else {}
    elements = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    problems = labeller.problems(elements, given, recommended)
    believed = None if problems else recommended
    found = labeller.suggest(elements, given, believed, rules)
    of_structures: dict[str, tuple[Any, str]] = {}
    try:
        of_structures = labeller.suggest_for(structures, given)
    except ValueError as error:
        problems.append(str(error))
    found |= of_structures
    followed = {key: value for key, (value, _) in of_structures.items()}
    remarks = labeller.remarks(structures, {**followed, **given}, believed)
    return (
        {LABELLING_PREFIX + key: Suggestion(*item) for key, item in found.items()},
        problems,
        {LABELLING_PREFIX + key: remark for key, remark in remarks.items()},
    )


def _given_code(user: Mapping[str, Any]) -> Any:
    """Return the label of the labelling code that the user gave."""
    codes = user.get('codes')
    return codes.get('labelling') if isinstance(codes, Mapping) else None
