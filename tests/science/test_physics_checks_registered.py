"""What every physics check must hold, whoever wrote it: each that is registered is asked, with a potential of ASE."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.evaluation.physics import (
    check_calculator,
    reference_structures,
    write_physics_figures,
)
from aiida_mlip_autopipe.science.evaluation.physics.base import Check
from aiida_mlip_autopipe.science.generate.isolated import isolated_atoms
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.registry import PHYSICS_CHECKS
from tests.support.conformance import check_references, check_sentence

COPPER = bulk('Cu', cubic=True)


@pytest.fixture(params=list(PHYSICS_CHECKS))
def name(request):
    return request.param


def parameters(*names, **changes):
    small = {'supercell_atoms': 8, 'n_volumes': 5, 'nve_steps': 100, 'stability_steps': 100}
    return PhysicsParameters(checks=list(names), **(small | changes))


def labelled(name):
    """Return the structures of a check with the labels of EMT."""
    frames = reference_structures(COPPER, parameters(name))
    frames += isolated_atoms(['Cu'], 12.0) if PHYSICS_CHECKS[name].needs_isolated_atoms else []
    for atoms in frames:
        bare = atoms.copy()
        bare.calc = EMT()
        atoms.info['REF_energy'], atoms.info['REF_stress'] = bare.get_potential_energy(), bare.get_stress()
        atoms.arrays['REF_forces'] = bare.get_forces()
    return frames


def test_its_structures_are_named_and_the_same_each_time(name):
    first, again = (reference_structures(COPPER, parameters(name)) for _ in range(2))
    assert [atoms.info['frame_id'] for atoms in first] == [atoms.info['frame_id'] for atoms in again]
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, again, strict=True))
    assert len({atoms.info['frame_id'] for atoms in first}) == len(first)
    for atoms in first:
        assert atoms.info['config_type'] == 'physics' and atoms.info['check']
        assert atoms.info['origin'] == first[0].info['frame_id'] and atoms.pbc.all()


def test_a_potential_agrees_with_itself_in_plain_numbers(name, tmp_path):
    outcome = check_calculator(EMT(), labelled(name), parameters(name))
    check = json.loads(json.dumps(outcome['checks'][name], allow_nan=False))
    assert check['rows'] and check['uncertainty']
    for row in check['rows']:
        assert row['name'] and row['unit'] is not None
        if row['reference'] is not None:
            assert row['difference'] == pytest.approx(0, abs=1e-6) and row['passed'] is not False
    figures = json.loads(json.dumps(outcome['figures'], allow_nan=False))
    drawn = {path.stem for path in write_physics_figures(figures, tmp_path) if path.suffix == '.svg'}
    assert drawn == (set(figures) if PHYSICS_CHECKS[name].draw else set())


def test_missing_labels_are_told_and_not_judged(name):
    pristine, *others = labelled(name)
    check = check_calculator(EMT(), [pristine], parameters(name))['checks'][name]
    if others:
        assert check['passed'] is None and 'not judged' in check['note']


def test_it_says_what_it_does_and_how_long_it_runs(name):
    check = PHYSICS_CHECKS[name]
    assert isinstance(check, Check) and check.about.endswith('.') and '\n' not in check.about
    assert check.n_steps(parameters(name)) >= 0
    check_sentence(check.sentence(parameters(name)))
    check_references(check.references)


def test_checks_are_made_in_their_order_and_others_are_refused():
    order = [name for name, _ in PHYSICS_CHECKS.items()]
    assert order[:2] == ['equation_of_state', 'elastic'] and sorted(order) == list(PHYSICS_CHECKS)
    with pytest.raises(ValueError, match="Input should be 'cohesive', 'dimers', 'elastic', 'equation_of_state'"):
        parameters('hardness')
