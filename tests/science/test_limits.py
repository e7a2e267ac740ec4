"""Limits: what is just inside stays, what is just outside goes, and every frame that goes has a reason."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from aiida_mlip_autopipe.science.frames import FrameChunk
from aiida_mlip_autopipe.science.parameters import ExplorationParameters, LimitParameters, SamplingParameters
from aiida_mlip_autopipe.science.sampling.compiled.distances import closest_ratios
from aiida_mlip_autopipe.science.sampling.limits import ACCEPTED, REASONS, FrameLimits

CODES = {reason: code for code, reason in REASONS.items()}
NO_LIMITS = dict.fromkeys(LimitParameters.model_fields)


def chunk_of(frames, first=0, energies=0.0, max_forces=0.0):
    """Return frames of one composition as a chunk; energies and forces for all of them, or for each."""
    n = len(frames)
    return FrameChunk(
        numbers=frames[0].numbers.astype(int),
        positions=np.array([atoms.positions for atoms in frames]),
        cells=np.array([atoms.cell.array for atoms in frames]),
        pbc=np.array(frames[0].pbc),
        folder_index=0,
        shard={},
        first=first,
        steps=np.arange(n),
        energies=np.broadcast_to(float(energies) if np.ndim(energies) == 0 else energies, n),
        temperatures=np.zeros(n),
        max_forces=np.broadcast_to(float(max_forces) if np.ndim(max_forces) == 0 else max_forces, n),
        disagreements=np.full(n, np.nan),
    )


def reasons(chunk, **limits):
    """Return the reason of each frame, None for those accepted, under the given limits alone."""
    codes = FrameLimits(LimitParameters(**(NO_LIMITS | limits))).check(chunk)
    assert codes.dtype == np.int8 and codes.shape == (len(chunk),)
    return [REASONS.get(code) for code in codes.tolist()]


def dimer(distance, box=None):
    """Return silicon and carbon so far apart, isolated or in a periodic box."""
    atoms = Atoms('SiC', positions=[[0, 0, 0], [0, 0, distance]])
    if box is not None:
        atoms.set_cell([box] * 3)
        atoms.pbc = True
    return atoms


def scaled(atoms, volume):
    """Return the atoms in a cell of this volume per atom."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return atoms


def ratio_by_ase(atoms, bound):
    """Return the smallest distance over the sum of covalent radii, or the bound where nothing is closer."""
    radii = covalent_radii[atoms.numbers]
    i, j, distances = neighbor_list('ijd', atoms, bound * radii)
    return min(bound, np.min(distances / (radii[i] + radii[j]), initial=bound))


def ratio(atoms, bound):
    numbers, kinds = np.unique(atoms.numbers, return_inverse=True)
    return closest_ratios(
        atoms.positions[None], atoms.cell.array[None], np.array(atoms.pbc), kinds, covalent_radii[numbers], bound
    )[0]


# ------------------------------------------------------------------------------------------------------------ distances


def random_structure(seed):
    """Return up to six atoms, unwrapped, in a skewed cell, often thinner than their radii."""
    rng = np.random.default_rng(seed)
    n_atoms = int(rng.integers(1, 7))
    cell = rng.normal(size=(3, 3)) * rng.uniform(1.0, 6.0)
    cell *= max(1.0, 0.5 * np.linalg.norm(np.linalg.inv(cell), axis=0).max())  # planes at least 0.5 Å apart
    pbc = rng.integers(0, 2, 3).astype(bool) if seed % 2 else True
    positions = rng.normal(scale=5.0, size=(n_atoms, 3))
    return Atoms(rng.choice(['H', 'C', 'Si', 'Cs'], n_atoms), positions=positions, cell=cell, pbc=pbc)


@pytest.mark.slow
def test_the_smallest_ratio_is_that_of_ases_neighbour_list():
    found = {}
    for seed in range(120):
        atoms = random_structure(seed)
        for bound in (0.6, 1.2):
            found[seed, bound] = ratio(atoms, bound)
            assert found[seed, bound] == pytest.approx(ratio_by_ase(atoms, bound), rel=1e-9), (seed, bound)
    assert 80 < sum(value < bound for (_, bound), value in found.items()) < 200


def test_one_atom_sees_its_own_images():
    lattice = Atoms('Si', cell=[[2.2, 0, 0], [40.0, 2.4, 0], [0.7, 0.9, 3.0]], pbc=True)
    assert ratio_by_ase(lattice, 1.2) < 1.1
    assert ratio(lattice, 1.2) == pytest.approx(ratio_by_ase(lattice, 1.2))
    thin = Atoms('Si', cell=[0.1, 5.0, 5.0], pbc=True)
    assert ratio(thin, 0.6) == pytest.approx(0.1 / 2.22)
    assert ratio(Atoms('Si', cell=[0.1, 5.0, 5.0], pbc=[False, True, True]), 0.6) == 0.6
    assert ratio(Atoms('Si'), 0.6) == 0.6


@pytest.mark.parametrize('box', [None, 4.0])
def test_shortest_distance(box):
    bound = 0.8 * (covalent_radii[14] + covalent_radii[6])
    frames = [dimer(bound * factor, box) for factor in (1.001, 0.999, 0.0)]
    assert reasons(chunk_of(frames), min_distance_factor=0.8) == [None, 'min_distance_factor', 'min_distance_factor']
    assert reasons(chunk_of(frames)) == [None] * 3
    if box is not None:
        across = [dimer(box - bound * factor, box) for factor in (1.001, 0.999)]
        assert reasons(chunk_of(across), min_distance_factor=0.8) == [None, 'min_distance_factor']


def test_a_molecule_has_no_volume_and_needs_no_cell():
    water = molecule('H2O')
    limits = {'min_volume_A3': 1.0, 'max_volume_A3': 2.0, 'min_distance_factor': 0.6}
    assert reasons(chunk_of([water, water]), **limits) == [None, None]
    squeezed = water.copy()
    squeezed.positions *= 0.5
    assert reasons(chunk_of([water, squeezed]), **limits) == [None, 'min_distance_factor']
    slab = bulk('Si', cubic=True)
    slab.pbc = [True, True, False]
    assert reasons(chunk_of([slab]), **limits) == [None]


def test_frames_without_a_geometry_are_always_rejected():
    frames = [bulk('Si', cubic=True) for _ in range(7)]
    frames[1].positions[3, 2] = np.nan
    frames[2].positions[0, 0] = np.inf
    frames[3].cell[1, 1] = np.inf
    frames[4].cell[2] = frames[4].cell[1]
    frames[5].positions[0, 0] = 1e20
    broken = [None, *['finite_geometry'] * 5, None]
    assert reasons(chunk_of(frames)) == broken
    assert reasons(chunk_of(frames), min_distance_factor=0.6, min_volume_A3=5.0, max_volume_A3=50.0) == broken


def test_a_collapsed_cell_is_too_close():
    frames = [bulk('Si', cubic=True) for _ in range(2)]
    frames[1].set_cell(frames[1].cell.array * 1e-3, scale_atoms=True)
    assert reasons(chunk_of(frames), min_distance_factor=0.6) == [None, 'min_distance_factor']


# ------------------------------------------------------------------------------------------- volume, force and energy


def test_volume_per_atom():
    silicon = bulk('Si') * (2, 1, 1)
    frames = [scaled(silicon, volume) for volume in (9.99, 10.01, 39.99, 40.01)]
    left_handed = frames[1].copy()
    left_handed.cell[2] *= -1
    assert reasons(chunk_of([*frames, left_handed]), min_volume_A3=10, max_volume_A3=40) == [
        'min_volume_A3', None, None, 'max_volume_A3', None,
    ]  # fmt: skip
    assert reasons(chunk_of(frames), max_volume_A3=40) == [None, None, None, 'max_volume_A3']


def test_force_cap_and_shards_that_hold_no_forces():
    frames = [bulk('Si')] * 4
    forces = [0.1, 49.9, 50.1, np.inf]
    broken = [None, None, 'max_force_eV_A', 'max_force_eV_A']
    assert reasons(chunk_of(frames, max_forces=forces), max_force_eV_A=50) == broken
    assert reasons(chunk_of(frames, max_forces=np.nan), max_force_eV_A=50) == [None] * 4


def test_energy_window_is_per_atom_and_around_the_first_frame_of_each_shard():
    frames = [bulk('Si', cubic=True)] * 3
    limits = FrameLimits(LimitParameters(**(NO_LIMITS | {'energy_window_eV': 2.0})))
    window = CODES['energy_window_eV']
    first = chunk_of(frames, energies=np.array([-40.0, -40.0 + 8 * 1.99, -40.0 + 8 * 2.01]))
    second = chunk_of(frames, first=3, energies=np.array([-40.0 - 8 * 1.99, -40.0 - 8 * 2.01, -40.0]))
    other = chunk_of(frames, energies=np.array([100.0, 100.0, -40.0]))
    assert limits.check(first).tolist() == [ACCEPTED, ACCEPTED, window]
    assert limits.check(second).tolist() == [ACCEPTED, window, ACCEPTED]
    assert limits.check(other).tolist() == [ACCEPTED, ACCEPTED, window]
    with pytest.raises(ValueError, match=r'begins with frame 6 .* where 3 would be next'):
        limits.check(replace(other, first=6))


# ----------------------------------------------------------------------------------------------------------- parameters


def test_what_physics_allows_passes_the_defaults():
    frames = []
    for seed in range(20):
        atoms = bulk('Si', cubic=True)
        atoms.rattle(0.15, seed=seed)
        frames.append(atoms)
    assert FrameLimits(LimitParameters()).check(chunk_of(frames, max_forces=8.0)).tolist() == [ACCEPTED] * 20


def test_the_first_limit_names_a_frame_that_breaks_several():
    silicon = bulk('Si')
    frames = [silicon, scaled(silicon, 1.0)]
    chunk = chunk_of(frames, energies=np.array([0.0, 1e3]), max_forces=1e3)
    limits = {'max_force_eV_A': 50, 'energy_window_eV': 5}
    assert reasons(chunk, min_distance_factor=0.6, min_volume_A3=5, **limits) == [
        'max_force_eV_A', 'min_distance_factor',
    ]  # fmt: skip
    assert reasons(chunk, min_volume_A3=5, **limits) == ['max_force_eV_A', 'min_volume_A3']


@pytest.mark.parametrize(
    ('limits', 'message'),
    [
        ({'min_volume_A3': 30, 'max_volume_A3': 20}, r'min_volume_A3 \(30\.0\) is not < max_volume_A3 \(20\.0\)'),
        ({'min_volume_A3': 20, 'max_volume_A3': 20}, 'lower min_volume_A3 or raise max_volume_A3'),
        ({'min_volume_A3': 0}, 'min_volume_A3\n.*greater than 0'),
        ({'min_distance_factor': 1.5}, 'min_distance_factor\n.*less than or equal to 1.2'),
        ({'max_force_eV_A': float('nan')}, 'max_force_eV_A\n.*finite'),
        ({'energy_window_eV': -1}, 'energy_window_eV\n.*greater than 0'),
        ({'min_volume': 1}, 'min_volume\n.*not permitted'),
    ],
)
def test_bad_limits_are_named(limits, message):
    with pytest.raises(ValueError, match=message):
        LimitParameters(**limits)
    with pytest.raises(ValueError, match='limits'):
        SamplingParameters(limits=limits)


def test_limits_are_part_of_the_sampling():
    exploration = ExplorationParameters(limits={'min_distance_factor': None, 'max_volume_A3': 30})
    limits = exploration.sampling().limits
    assert limits.min_distance_factor is None and limits.max_volume_A3 == 30
    assert SamplingParameters(**exploration.sampling().model_dump(mode='json')).limits == limits
