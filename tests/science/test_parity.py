"""Parity plots: the numbers behind them, how many points are drawn, and that they are drawn alike each time."""

import json

import numpy as np
import pytest
from ase import units

from aiida_mlip_autopipe.science.drawing import draw_figures
from aiida_mlip_autopipe.science.evaluation import parity
from aiida_mlip_autopipe.science.evaluation.parity import parity_data, write_parity


def predictions(n_frames=6, n_atoms=4, stress=True, seed=0):
    """Return labels and predictions as an evaluation has them, of silicon and carbon, half without a temperature."""
    rng = np.random.default_rng(seed)
    total = n_frames * n_atoms
    labels = {
        'REF_energy': -100 * n_atoms + rng.normal(size=n_frames),
        'REF_forces': rng.normal(size=(total, 3)),
        'REF_stress': rng.normal(size=(n_frames, 6)) if stress else np.full((n_frames, 6), np.nan),
    }
    return {
        **labels,
        **{name.removeprefix('REF_'): values + 0.1 * rng.normal(size=values.shape) for name, values in labels.items()},
        'n_atoms': np.full(n_frames, n_atoms),
        'numbers': np.tile([14, 6], total // 2),
        'temperature_K': np.where(np.arange(n_frames) % 2, 300.0 + 100 * np.arange(n_frames), np.nan),
        'temperature_end_K': np.full(n_frames, np.nan),
        'origin': np.array([f'seed-{number}' for number in range(n_frames)]),
    }


def test_few_points_are_all_there():
    given = predictions()
    data = json.loads(json.dumps(parity_data(given), allow_nan=False))
    energy, forces, stress = (data[f'parity_{name}'] for name in ('energy', 'forces', 'stress'))
    assert energy['n_points'] == len(energy['reference']) == 6
    np.testing.assert_allclose(np.array(energy['predicted']) + energy['shift'], given['energy'] / 4, atol=1e-4)
    assert energy['temperature_K'] == [None, 400.0, None, 600.0, None, 800.0]
    np.testing.assert_allclose(forces['reference'], given['REF_forces'].ravel(), rtol=1e-4)
    assert forces['element'][:6] == ['Si'] * 3 + ['C'] * 3
    assert forces['rmse'] == pytest.approx(np.sqrt(((given['forces'] - given['REF_forces']) ** 2).mean()))
    np.testing.assert_allclose(stress['predicted'], given['stress'].ravel() / units.GPa, rtol=1e-4)
    assert stress['component'][:7] == ['xx', 'yy', 'zz', 'yz', 'xz', 'xy', 'xx']
    assert 'parity_stress' not in parity_data(predictions(stress=False))


def test_of_many_points_the_worst_are_drawn():
    given = predictions(n_frames=4000)
    given['forces'][1234, 1] += 50
    given['energy'][77] += 50
    forces, energy = (parity_data(given)[f'parity_{name}'] for name in ('forces', 'energy'))
    assert forces['n_points'] == 48_000 and len(forces['reference']) == parity.MAX_POINTS == len(forces['element'])
    assert max(np.abs(np.array(forces['predicted']) - forces['reference'])) > 49
    assert max(np.abs(np.array(energy['predicted']) - energy['reference'])) > 12


@pytest.mark.slow
@pytest.mark.parametrize('given', [predictions(), predictions(1, 2, stress=False), predictions(3000)],
                         ids=['few', 'one', 'many'])  # fmt: skip
def test_figures_are_small_and_written_alike_each_time(given, tmp_path):
    paths = write_parity(given, tmp_path / 'a')
    data = json.loads((tmp_path / 'a/figures.json').read_text())
    assert [path.name for path in paths] == [*(f'{name}.svg' for name in data), 'figures.json']
    assert sum(path.stat().st_size for path in paths) < 1_500_000
    for one, other in zip(paths, draw_figures(data, parity.DRAWINGS, tmp_path / 'b'), strict=False):
        assert one.read_bytes() == other.read_bytes()


def test_what_is_not_finite_is_left_out(tmp_path):
    given = predictions()
    given['forces'][3, 1] = np.nan
    given['energy'][:] = np.nan
    data = parity_data(given)
    assert list(data) == ['parity_forces', 'parity_stress']
    assert len(data['parity_forces']['reference']) == data['parity_forces']['n_points'] - 1
    assert data['parity_forces']['rmse'] is None
    assert [path.name for path in write_parity(given, tmp_path)] == [
        'parity_forces.svg', 'parity_stress.svg', 'figures.json',
    ]  # fmt: skip


def test_more_elements_than_colours_differ_by_their_marker(tmp_path):
    given = predictions(n_frames=8, n_atoms=16)
    given['numbers'] = np.tile(np.arange(3, 19), 8)
    (path,) = [path for path in write_parity(given, tmp_path) if path.name == 'parity_forces.svg']
    assert path.read_text().startswith('<?xml')
