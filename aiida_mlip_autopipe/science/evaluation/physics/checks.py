"""From a crystal to the structures that need a label, and from the labels to a verdict on the potential."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    named,
)
from aiida_mlip_autopipe.science.evaluation.physics.crystal import bare_crystal
from aiida_mlip_autopipe.science.evaluation.records import CheckOutcome, DrawnPhysics
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.potential.load import PotentialError, check_elements, load_calculator
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS
from aiida_mlip_autopipe.science.systems import fills_its_cell, is_isolated_atom, vacuum_axes

__all__ = ['check_calculator', 'check_physics', 'reference_structures']

Progress = Callable[[Mapping[str, object]], None]


def reference_structures(atoms: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return all structures that need a label for the checks that are asked for: single points, nothing is relaxed.

    Parameters
    ----------
    atoms : Atoms
        The crystal, best relaxed by the method of the labels; the checks hold at its volume.
    parameters : PhysicsParameters
        Checks and sizes.

    Returns
    -------
    list of Atoms
        First the crystal itself, which is always there. ``info`` has ``frame_id``, ``origin`` (the ``frame_id`` of the
        crystal), ``config_type`` 'physics', ``check`` ('pristine', 'supercell' where several checks share it, or its
        name) and ``volume_ratio``, ``strain`` (Voigt, engineering shears), ``displacement_index``, or
        ``vacancy_site`` and ``vacancy_element``.

    Raises
    ------
    ValueError
        If a check needs a filled cell and there is vacuum, or the structure has no symmetry.
    """
    bare = bare_crystal(atoms)
    _check_that_it_fills(bare, parameters)
    crystal = named(bare, 'pristine', '', **bare.info)
    crystal.info['origin'] = crystal.info['frame_id']
    frames = {crystal.info['frame_id']: crystal}
    for name in _in_order(parameters):
        for structure in PHYSICS_CHECKS[name].structures(crystal, parameters):
            frames.setdefault(structure.info['frame_id'], structure)
    return list(frames.values())


def check_physics(
    potential: Path, labelled: Sequence[Atoms], parameters: PhysicsParameters, progress: Progress | None = None
) -> DrawnPhysics:
    """Compare a potential with DFT on the structures of `reference_structures`.

    Parameters
    ----------
    potential : Path
        A MACE ``.model`` file.
    labelled : sequence of Atoms
        The structures, with ``REF_energy``, ``REF_forces`` and ``REF_stress``; some may be missing. The crystal itself
        must be among them; it needs a label only where a check compares. Some checks take isolated atoms as well.
    parameters : PhysicsParameters
        As given to `reference_structures`.
    progress : callable, optional
        Is told of each check.

    Raises
    ------
    PotentialError
        If the potential is unusable, does not know an element, or gives what is not finite.
    ValueError
        If the crystal is missing, or the structures do not belong to the parameters.
    """
    calculator = load_calculator(potential, parameters.dtype, parameters.device)
    check_elements([chemical_symbols[z] for z in calculator.z_table.zs], labelled, potential)
    return check_calculator(calculator, labelled, parameters, progress)


def check_calculator(
    calculator: Calculator,
    labelled: Sequence[Atoms],
    parameters: PhysicsParameters,
    progress: Progress | None = None,
) -> DrawnPhysics:
    """Do what `check_physics` does with any ASE calculator of energies, forces and stresses."""
    pristine = [atoms for atoms in labelled if atoms.info.get('check') == 'pristine']
    if len(pristine) != 1:
        raise ValueError(
            f"{len(pristine)} of {len(labelled)} frames have check = 'pristine': give the structures of one crystal, "
            'as physics_structures makes them'
        )
    usable = [atoms for atoms in labelled if _has_label(atoms) and ('check' in atoms.info or is_isolated_atom(atoms))]
    names = [atoms.info['frame_id'] for atoms in usable]
    context = Context(
        calculator=calculator,
        pristine=pristine[0],
        labelled=usable,
        predicted=dict(zip(names, (_predicted(calculator, atoms) for atoms in usable), strict=True)),
        reference=dict(zip(names, map(_label, usable), strict=True)),
        parameters=parameters,
    )
    checks: dict[str, CheckOutcome] = {}
    figures = {}
    for number, name in enumerate(wanted := _in_order(parameters)):
        if progress:
            progress({'check': name, 'checks': number, 'checks_total': len(wanted)})
        judgement = _judge(name, context)
        checks[name] = _plain(judgement)
        if judgement.figure:
            figures[name] = judgement.figure
    return {'passed': _all(check['passed'] for check in checks.values()), 'checks': checks, 'figures': figures}


def _check_that_it_fills(crystal: Atoms, parameters: PhysicsParameters) -> None:
    bulk = [name for name in _in_order(parameters) if PHYSICS_CHECKS[name].needs_filled_cell]
    if bulk and not fills_its_cell(crystal):
        raise ValueError(
            f'{", ".join(bulk)} need a crystal that fills its cell, but {crystal.get_chemical_formula()} has vacuum '
            f'along {", ".join(vacuum_axes(crystal))}; leave them out of the checks'
        )


def _in_order(parameters: PhysicsParameters) -> list[str]:
    return [name for name, _ in PHYSICS_CHECKS.items() if name in parameters.checks]


def _judge(name: str, context: Context) -> Judgement:
    try:
        return PHYSICS_CHECKS[name].judge(context)
    except MissingLabelsError as missing:
        return Judgement([], uncertainty='none', note=f'not judged: {missing}')


def _plain(judgement: Judgement) -> CheckOutcome:
    judged = [row['passed'] for row in judgement.rows if row['passed'] is not None]
    return {
        'passed': all(judged) if judged else None,
        'rows': judgement.rows,
        'uncertainty': judgement.uncertainty,
        'note': judgement.note,
        'data': judgement.data,
    }


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found or not found else True


def _has_label(atoms: Atoms) -> bool:
    if 'REF_energy' not in atoms.info or 'REF_forces' not in atoms.arrays:
        return False
    return bool(np.isfinite(atoms.info['REF_energy']) and np.isfinite(atoms.arrays['REF_forces']).all())


def _label(atoms: Atoms) -> Label:
    stress = atoms.info.get('REF_stress', np.full(6, np.nan))
    return Label(float(atoms.info['REF_energy']), atoms.arrays['REF_forces'], np.asarray(stress, dtype=float))


def _predicted(calculator: Calculator, atoms: Atoms) -> Label:
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    calculator.calculate(bare, ['energy', 'forces', 'stress'], ['positions', 'numbers', 'cell', 'pbc'])
    results: Mapping[str, Any] = calculator.results
    label = Label(float(results['energy']), np.array(results['forces']), np.array(results['stress'], dtype=float))
    if not label.is_finite:
        raise PotentialError(
            f'the potential gives no finite energy, forces or stress for {atoms.info["frame_id"]}: train it again '
            'with a lower lr, or look for wrong labels'
        )
    return label
