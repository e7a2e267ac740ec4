"""MACE features: equal to mace's own, invariant, batched without a difference, and broken frames spoil nothing."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from aiida_mlip_autopipe.science.descriptors import MACEFeatures
from aiida_mlip_autopipe.science.frames import FrameChunk
from aiida_mlip_autopipe.science.potential import PotentialError
from aiida_mlip_autopipe.science.potential.last_layer import responses
from aiida_mlip_autopipe.science.potential.load import load_model, quiet
from tests.support.potentials import tiny_potential

CHANNELS = 4


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """Return a potential for silicon and carbon of one layer."""
    return tiny_potential(tmp_path_factory.mktemp('tiny'), ['C', 'Si'])


@pytest.fixture(scope='module')
def layered(tmp_path_factory):
    """Return the file of an untrained potential of two layers with vectors, in double precision."""
    with quiet():
        import mace.modules as modules
        import torch
        from e3nn import o3
        from mace.tools.torch_tools import default_dtype
    with quiet(), torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
        torch.manual_seed(1)
        model = modules.ScaleShiftMACE(
            r_max=4.0,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=modules.interaction_classes['RealAgnosticResidualInteractionBlock'],
            interaction_cls_first=modules.interaction_classes['RealAgnosticInteractionBlock'],
            num_interactions=2,
            num_elements=2,
            hidden_irreps=o3.Irreps(f'{CHANNELS}x0e + {CHANNELS}x1o'),
            MLP_irreps=o3.Irreps('4x0e'),
            gate=torch.nn.functional.silu,
            atomic_energies=[-1.0, -1.1],
            avg_num_neighbors=8.0,
            atomic_numbers=[6, 14],
            correlation=2,
            radial_type='bessel',
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )
    path = tmp_path_factory.mktemp('layered') / 'layered.model'
    torch.save(model, path)
    return path


def carbide(seed=0, stdev=0.1):
    """Return eight displaced atoms of silicon carbide."""
    atoms = bulk('SiC', 'zincblende', a=4.36, cubic=True)
    atoms.rattle(stdev, seed=seed)
    return atoms


def frames_of_all_kinds():
    """Return a crystal, a smaller one, a slab, a molecule and an atom on its own."""
    slab = fcc111('Si', (1, 1, 3), a=4.6, vacuum=6.0)
    slab.pbc = (True, True, False)
    ring = molecule('C6H6')
    ring = ring[[atom.index for atom in ring if atom.symbol == 'C']]
    return [carbide(), bulk('Si'), slab, ring, Atoms('C', pbc=True, cell=[9.0] * 3)]


def stacked(frames):
    """Return the arrays of frames of the same atoms: numbers, positions, cells, pbc."""
    positions = np.array([atoms.positions for atoms in frames])
    return frames[0].numbers, positions, np.array([atoms.cell.array for atoms in frames]), frames[0].pbc


def calculator(path, dtype):
    with quiet():
        from mace.calculators import MACECalculator

        return MACECalculator(models=[load_model(path)], device='cpu', default_dtype=dtype)


@pytest.mark.parametrize('invariants_only', [True, False])
@pytest.mark.parametrize('layers', [None, 1])
def test_features_are_those_of_maces_calculator(layered, invariants_only, layers):
    features = MACEFeatures(layered, layers=layers, invariants_only=invariants_only)
    reference = calculator(layered, 'float64')
    for atoms in frames_of_all_kinds():
        expected = reference.get_descriptors(atoms, invariants_only=invariants_only, num_layers=layers or -1)
        np.testing.assert_allclose(features.create(atoms), expected, rtol=1e-10, atol=1e-12)
    assert features.get_number_of_features() == expected.shape[1]


def test_single_precision_of_the_file_is_kept(file):
    rows = MACEFeatures(file).create(carbide())
    np.testing.assert_allclose(rows, calculator(file, 'float32').get_descriptors(carbide()), rtol=1e-4, atol=1e-6)
    exact = MACEFeatures(file, model_dtype='float64').create(carbide())
    assert 0 < np.abs(rows - exact).max() < 1e-5


@pytest.mark.slow
def test_layers_are_picked_by_number_or_by_index(layered):
    def rows(layers, invariants_only=True):
        return MACEFeatures(layered, layers=layers, invariants_only=invariants_only).create(carbide())

    every = rows(None)
    assert every.shape == (8, 2 * CHANNELS)
    np.testing.assert_array_equal(rows(1), every[:, :CHANNELS])
    np.testing.assert_array_equal(rows([1]), every[:, CHANNELS:])
    np.testing.assert_array_equal(rows([1, 0]), np.hstack([every[:, CHANNELS:], every[:, :CHANNELS]]))
    assert rows([0], invariants_only=False).shape == (8, 4 * CHANNELS)
    for wrong in (0, 3, [2], [0, 0], []):
        with pytest.raises(ValueError, match='the potential has 2'):
            rows(wrong)


def test_the_energy_is_linear_in_the_features_of_the_last_layer(layered):
    """Each is what its weight adds to the energy, up to the constant factors inside of the network."""
    features = MACEFeatures(layered, average='outer', of_last_layer=True)
    frames = [carbide(seed) for seed in range(6)]
    for atoms in frames:
        atoms.info['REF_energy'], atoms.arrays['REF_forces'] = 0.0, np.zeros((8, 3))
    found = responses(layered, frames, 'cpu')
    expected, rows = found.of_weights[found.kinds == 0], features.create(frames)
    assert rows.shape == expected.shape == (6, features.get_number_of_features()) == (6, CHANNELS + 4)
    factors = expected[0] / rows[0]
    np.testing.assert_allclose(rows * factors, expected, rtol=1e-8, atol=1e-12)
    for part in (factors[:CHANNELS], factors[CHANNELS:]):
        np.testing.assert_allclose(part, part[0], rtol=1e-8)
    with pytest.raises(ValueError, match='leave layers out'):
        MACEFeatures(layered, layers=1, of_last_layer=True)


@pytest.mark.parametrize('atoms', frames_of_all_kinds()[:4], ids=lambda atoms: str(atoms.symbols))
@pytest.mark.parametrize('of_last_layer', [False, True])
def test_rotation_translation_order_and_lattice_vectors_change_nothing(layered, atoms, of_last_layer):
    features = MACEFeatures(layered, of_last_layer=of_last_layer)
    rows = features.create(atoms)
    assert np.abs(rows).max() > 1e-3
    moved = atoms.copy()
    moved.rotate(37, (1, -2, 0.5), rotate_cell=True)
    moved.positions += [3.0, -20.0, 0.7]
    shifts = np.random.default_rng(0).integers(-3, 4, (len(atoms), 3)) * atoms.pbc
    moved.positions += shifts @ moved.cell.array
    order = np.random.default_rng(1).permutation(len(atoms))
    np.testing.assert_allclose(features.create(moved[order]), rows[order], rtol=1e-9, atol=1e-11)


def test_the_other_components_rotate_with_the_frame(layered):
    features = MACEFeatures(layered, layers=[0], invariants_only=False)
    atoms = carbide()
    turned = atoms.copy()
    turned.rotate(90, 'z', rotate_cell=True)
    rows, others = features.create(atoms), features.create(turned)
    np.testing.assert_allclose(others[:, :CHANNELS], rows[:, :CHANNELS], atol=1e-11)
    vectors, rotated = (some[:, CHANNELS:].reshape(8, CHANNELS, 3) for some in (rows, others))
    assert np.abs(vectors - rotated).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(rotated, axis=2), np.linalg.norm(vectors, axis=2), atol=1e-11)


def test_batches_are_the_same_as_single_frames(file):
    frames = [carbide(seed) for seed in range(7)]
    batched = MACEFeatures(file, batch_size=3)
    together = batched.create(frames)
    alone = [MACEFeatures(file).create(atoms) for atoms in frames]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(together, batched.create(frames))
    np.testing.assert_allclose(batched.create_frames(*stacked(frames), n_jobs=2), together, rtol=1e-4, atol=1e-6)
    mean = MACEFeatures(file, average='outer', batch_size=3).create(frames)
    np.testing.assert_allclose(mean, together.mean(axis=1), rtol=1e-12)


def test_some_atoms_only(file):
    rows = MACEFeatures(file).create(carbide())
    np.testing.assert_array_equal(MACEFeatures(file).create(carbide(), centers=[5, 2]), rows[[5, 2]])
    np.testing.assert_allclose(
        MACEFeatures(file, average='outer').create(carbide(), centers=[5, 2]), rows[[5, 2]].mean(axis=0), rtol=1e-12
    )
    with pytest.raises(ValueError, match='exist at atoms only'):
        MACEFeatures(file).create(carbide(), centers=[[0.0, 0.0, 0.0]])


def test_a_loaded_model_is_copied(layered):
    model = load_model(layered)
    rows = MACEFeatures(model, model_dtype='float32').create(carbide())
    assert str(next(model.parameters()).dtype) == 'torch.float64'
    np.testing.assert_allclose(rows, MACEFeatures(layered).create(carbide()), rtol=1e-3, atol=1e-5)


def test_broken_frames_are_masked_and_spoil_nothing(file):
    numbers, positions, cells, pbc = stacked([carbide(seed) for seed in range(9)])
    features = MACEFeatures(file, average='outer', batch_size=4)
    fine = features.create_frames(numbers, positions, cells, pbc)
    positions[1, 3, 2] = np.nan
    positions[2, 1] = positions[2, 0]
    positions[4, 0] = 1e12
    cells[5] *= 1e-3
    cells[6, 2] = cells[6, 1]
    cells[7, 0, 0] = np.inf
    zeros = np.zeros(9)
    chunk = FrameChunk(numbers, positions, cells, pbc, 0, {}, 0, np.arange(9), zeros, zeros, zeros, zeros)
    described = next(features.stream([chunk], on_error='mask'))
    assert sorted(described.masked) == [1, 2, 4, 5, 6, 7]
    assert len(set(described.masked.values())) >= 4
    assert np.isnan(described.rows[sorted(described.masked)]).all()
    np.testing.assert_allclose(described.rows[[0, 3, 8]], fine[[0, 3, 8]], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match='frame 1'):
        features.create_frames(numbers, positions, cells, pbc)


def test_an_unknown_element_is_named(file):
    strange = carbide()
    strange.symbols[0] = 'Ge'
    with pytest.raises(PotentialError, match='knows C, Si, but not Ge'):
        MACEFeatures(file).create_frames(*stacked([strange]))
    with pytest.raises(ValueError, match=r'frame 0: .* not Ge'):
        MACEFeatures(file).create(strange)


def test_what_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match="average='inner'"):
        MACEFeatures(file, average='inner')
    with pytest.raises(ValueError, match='batch_size=0'):
        MACEFeatures(file, batch_size=0)
    with pytest.raises(ValueError, match='model_dtype'):
        MACEFeatures(file, model_dtype='float16')
    with pytest.raises(PotentialError, match='is not a file'):
        MACEFeatures(tmp_path / 'nowhere.model')


def test_without_enough_memory_the_batch_is_halved(file):
    """A limit of three frames, raised as CUDA does it where a real model runs."""
    import torch

    class Limited(torch.nn.Module):
        def __init__(self, model, limit):
            super().__init__()
            self.model, self.limit, self.sizes = model, limit, []
            for name in ('atomic_numbers', 'r_max', 'products', 'node_embedding'):
                setattr(self, name, getattr(model, name))

        def forward(self, data, **arguments):
            self.sizes.append(len(data['ptr']) - 1)
            if self.sizes[-1] > self.limit:
                raise torch.cuda.OutOfMemoryError('CUDA out of memory')
            return self.model(data, **arguments)

    frames = [carbide(seed) for seed in range(8)]
    features = MACEFeatures(Limited(load_model(file), 3), batch_size=8)
    np.testing.assert_allclose(features.create(frames), MACEFeatures(file).create(frames), rtol=1e-4, atol=1e-6)
    assert features._potential._model.sizes == [8, 4, 2, 2, 2, 2]
    assert features._potential._max_atoms == 16
    with pytest.raises(MemoryError, match='one frame of 8 atoms does not fit'):
        MACEFeatures(Limited(load_model(file), 0)).create(frames[0])
