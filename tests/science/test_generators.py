"""What every method of making seeds must hold, whoever wrote it: each that is registered is asked."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.generate import SeedGenerator, StructureGenerator, isotropic_supercell
from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.parameters import GenerationParameters
from aiida_mlip_autopipe.science.registry import GENERATORS
from tests.support.conformance import check_references, check_sentence

FACTOR = 0.7
BASE = isotropic_supercell(bulk('NaCl', 'rocksalt', a=5.64), 8)


def asking_for_some(name: str) -> SeedGenerator:
    """Return the method with its defaults; one that makes nothing by default is asked for three."""
    method = GENERATORS[name]()
    return method if method.count() else GENERATORS[name](n=3)


def made_by(method: SeedGenerator, seed: int) -> list:
    return method.make(BASE.copy(), np.random.default_rng(seed), FACTOR)


@pytest.fixture(params=list(GENERATORS))
def name(request):
    return request.param


def test_it_makes_as_many_as_it_counts_the_same_again_from_the_same_seed(name):
    method = asking_for_some(name)
    first, again = made_by(method, 5), made_by(method, 5)
    assert method.count() == len(first) == len(again) > 0
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.positions, other.positions) and np.array_equal(one.cell.array, other.cell.array)


def test_it_keeps_the_elements_the_shortest_distances_and_its_base(name):
    base = BASE.copy()
    for atoms in asking_for_some(name).make(base, np.random.default_rng(0), FACTOR):
        assert set(atoms.symbols) <= set(BASE.symbols) and np.isfinite(atoms.positions).all()
        assert atoms.cell.rank == 3 and closest_pair(atoms, FACTOR) is None
    assert base == BASE


def test_it_is_a_section_of_the_input_whose_keys_are_explained(name):
    parameters = GenerationParameters(**{name: asking_for_some(name).model_dump()})
    assert parameters.methods()[name] == asking_for_some(name)
    assert parameters == GenerationParameters(**parameters.model_dump(mode='json'))
    assert all(field.description for field in GENERATORS[name].model_fields.values())
    made = [atoms.info['method'] for atoms in StructureGenerator(parameters).generate([bulk('Si')])]
    assert made.count(name) == parameters.methods()[name].count()


def test_a_method_of_another_package_makes_nothing_unless_it_is_asked_for(name):
    if not GENERATORS[name].__module__.startswith('aiida_mlip_autopipe.'):
        assert GENERATORS[name]().count() == 0


def test_it_says_what_it_does(name):
    method = asking_for_some(name)
    check_sentence(method.sentence())
    check_references(method.references())


def test_no_seed_at_all_is_refused():
    nothing = {name: {'n': 0} for name in GENERATORS}
    with pytest.raises(
        ValueError,
        match=f'none of {", ".join(name for name, _ in GENERATORS.items())} makes a seed; raise n of one of them',
    ):
        GenerationParameters(**nothing)
