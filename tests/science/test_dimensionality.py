"""What a structure is: bulk, layered, a slab, a chain, molecules; and the vacuum that travels with its frames."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, diamond100, fcc111, graphene, make_supercell, molecule
from ase.lattice.hexagonal import Graphite
from ase.spacegroup import crystal

from aiida_mlip_autopipe.science.generate import StructureGenerator
from aiida_mlip_autopipe.science.generate.supercell import isotropic_supercell
from aiida_mlip_autopipe.science.parameters import GenerationParameters
from aiida_mlip_autopipe.science.systems import dimensionality, filled_axes, fills_its_cell, recognised, vacuum_axes
from aiida_mlip_autopipe.science.systems.dimensionality import planar_gaps_A


def layer(vacuum, pbc=True):
    atoms = graphene()
    atoms.center(vacuum=vacuum / 2, axis=2)
    atoms.pbc = pbc
    return atoms


def slab(pbc=True):
    atoms = diamond100('Si', (1, 1, 6), vacuum=4.5)
    atoms.pbc = pbc
    return atoms


def in_a_box(name, edge):
    atoms = molecule(name, cell=[edge] * 3, pbc=True)
    atoms.center()
    return atoms


def graphite(c=6.71):
    return Graphite('C', latticeconstant={'a': 2.46, 'c': c})


def molybdenite():
    sites = [(1 / 3, 2 / 3, 1 / 4), (1 / 3, 2 / 3, 0.621)]
    return crystal(['Mo', 'S'], sites, spacegroup=194, cellpar=[3.16, 3.16, 12.3, 90, 90, 120])


def dry_ice():
    return crystal(['C', 'O'], [(0, 0, 0), (0.118,) * 3], spacegroup=205, cellpar=[5.62] * 3 + [90] * 3)


def sodalite():
    sites = [(0.25, 0.5, 0), (0.1398, 0.1398, 0.5)]
    return crystal(['Si', 'O'], sites, spacegroup=229, cellpar=[8.83] * 3 + [90] * 3)


def selenium():
    return crystal('Se', [(0.2254, 0, 1 / 3)], spacegroup=152, cellpar=[4.366, 4.366, 4.954, 90, 90, 120])


def polyethylene():
    carbon = [[0, 0.43, 0], [1.27, -0.43, 0]]
    hydrogen = [[0, 1.06, 0.89], [0, 1.06, -0.89], [1.27, -1.06, 0.89], [1.27, -1.06, -0.89]]
    return Atoms('C2H4', positions=carbon + hydrogen, cell=[2.54, 14, 14], pbc=True)


def moved(atoms, by):
    """Return a copy that lies across the boundaries of the cell."""
    atoms = atoms.copy()
    atoms.set_scaled_positions(atoms.get_scaled_positions() + by)
    atoms.wrap()
    return atoms


def skewed(atoms):
    """Return a copy whose c leans: the same structure, the vectors of another reader."""
    atoms = atoms.copy()
    atoms.cell[2] += 0.7 * atoms.cell[0] + 0.2 * atoms.cell[1]
    return atoms


def tilted(atoms):
    return make_supercell(atoms, [[1, 0, 1], [0, 1, 0], [0, 0, 1]])


STRUCTURES = {
    'silicon': (bulk('Si'), '', 'bulk'),
    'rock salt': (bulk('NaCl', 'rocksalt', a=5.64), '', 'bulk'),
    'iron': (bulk('Fe'), '', 'bulk'),
    'caesium': (bulk('Cs'), '', 'bulk'),
    'nickel oxide': (bulk('NiO', 'rocksalt', a=4.18), '', 'bulk'),
    'argon': (bulk('Ar'), '', 'bulk'),
    'sodalite, with its pores': (sodalite(), '', 'bulk'),
    'graphite': (graphite(), '', 'layered bulk'),
    'graphite without dispersion': (graphite(8.8), '', 'layered bulk'),
    'molybdenite': (molybdenite(), '', 'layered bulk'),
    'selenium': (selenium(), '', 'bulk of chains'),
    'dry ice': (dry_ice(), '', 'molecular crystal or liquid'),
    'graphene, 15 Å': (layer(15), 'c', 'slab or layer'),
    'graphene, 25 Å': (layer(25), 'c', 'slab or layer'),
    'slab, T T T': (slab(), 'c', 'slab or layer'),
    'slab, T T F': (slab((True, True, False)), 'c', 'slab or layer'),
    'slab, 8 Å': (fcc111('Al', (1, 1, 3), vacuum=4), 'c', 'slab or layer'),
    'slab across the boundary': (moved(slab(), [0, 0, 0.5]), 'c', 'slab or layer'),
    'slab with c leaning': (skewed(slab()), 'c', 'slab or layer'),
    'polyethylene': (polyethylene(), 'bc', 'chain'),
    'water in 8 Å': (in_a_box('H2O', 8), 'abc', 'molecule in a box'),
    'benzene': (in_a_box('C6H6', 14), 'abc', 'molecule in a box'),
    'benzene across the corner': (moved(in_a_box('C6H6', 14), [0.5, 0.5, 0.5]), 'abc', 'molecule in a box'),
}


@pytest.mark.parametrize('name', STRUCTURES)
def test_a_structure_is_recognised_from_where_its_atoms_are(name):
    atoms, axes, kind = STRUCTURES[name]
    found = dimensionality(atoms)
    assert (found.vacuum_axes, found.kind) == (axes, kind)
    assert dimensionality(atoms.repeat((2, 1, 1) if 'a' not in axes else 1)).vacuum_axes == axes


def test_molecules_are_whole_wherever_they_lie():
    assert dimensionality(dry_ice()).molecules == ('CO2',) * 4
    assert dimensionality(moved(in_a_box('C6H6', 14), [0.5, 0.5, 0.5])).molecules == ('C6H6',)
    pair = in_a_box('H2O', 12)
    pair.extend(Atoms(pair.numbers, pair.positions + np.array([3, 0, 0])))
    assert dimensionality(pair).kind == '2 molecules in a box'
    assert 'molecule' in str(dimensionality(in_a_box('H2O', 8))) and 'H2O' in str(dimensionality(in_a_box('H2O', 8)))
    on_it = slab()
    on_it.extend(Atoms('CO', positions=on_it.positions[-1] + [[0, 0, 2.9], [0, 0, 4.05]]))
    on_it.center(vacuum=5, axis=2)
    assert dimensionality(on_it).kind == 'slab or layer' and dimensionality(on_it).molecules == ('CO',)


def test_a_gap_is_measured_between_surfaces_and_across_planes():
    """Sheets of carbon at distance d leave d minus two van der Waals radii (1.77 Å each, Alvarez)."""
    assert planar_gaps_A(layer(15), np.array([(0, 0, 1)])) == pytest.approx(15 - 3.54)
    assert planar_gaps_A(skewed(layer(15)), np.array([(0, 0, 1)])) == pytest.approx(15 - 3.54)
    assert planar_gaps_A(layer(15), np.array([(1, 0, 0)])) == 0
    assert dimensionality(layer(3.54 + 2.9)).vacuum_axes == ''
    assert dimensionality(layer(3.54 + 3.1)).vacuum_axes == 'c'


def test_vacuum_that_no_lattice_vector_follows_is_refused():
    with pytest.raises(ValueError, match=r'vacuum of 11\.5 Å between the planes 101, but not along a lattice vector'):
        dimensionality(tilted(layer(15)))


def test_an_axis_that_is_open_without_vacuum_is_refused_with_the_way_out():
    open_bulk = bulk('Si')
    open_bulk.pbc = (True, True, False)
    with pytest.raises(ValueError, match=r'c is not periodic, .* leaves 0\.0 Å .*3 Å and more, or set pbc'):
        recognised(open_bulk)


@pytest.mark.parametrize('pbc', [True, (True, True, False)])
def test_seeds_of_a_slab_are_periodic_and_keep_its_vacuum(pbc):
    seeds = StructureGenerator(GenerationParameters(target_atoms=40)).generate([slab(pbc)])
    for seed in seeds:
        assert seed.pbc.all() and vacuum_axes(seed) == 'c' and not fills_its_cell(seed)
        assert seed.cell[2] == pytest.approx(slab().cell[2], abs=1e-9)
    strained = [seed for seed in seeds if seed.info['method'] == 'strained']
    assert strained and all(not np.allclose(seed.cell[:2], seeds[0].cell[:2]) for seed in strained)
    heights = [np.ptp(seed.positions[:, 2]) for seed in strained]
    assert heights == pytest.approx([np.ptp(slab().positions[:, 2])] * len(strained))


def test_a_molecule_is_neither_repeated_nor_strained():
    water = in_a_box('H2O', 8)
    parameters = GenerationParameters(target_atoms=64, strained={'n': 0}, rattled={'n': 3})
    for seed in StructureGenerator(parameters).generate([water]):
        assert len(seed) == 3 and seed.cell.lengths() == pytest.approx([8, 8, 8])
    with pytest.raises(ValueError, match=r'vacuum on all sides; .*set strained\.n to 0'):
        StructureGenerator(GenerationParameters(strained={'n': 1})).generate([water])


def test_a_chain_is_repeated_along_itself():
    cell = isotropic_supercell(recognised(polyethylene()), 20)
    assert len(cell) == 24 and cell.cell.lengths() == pytest.approx([4 * 2.54, 14, 14])
    assert filled_axes(cell).tolist() == [True, False, False]
