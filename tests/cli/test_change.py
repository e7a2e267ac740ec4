"""What may be changed while a run is under way."""

import pytest

from aiida_mlip_autopipe.cli.commands.change import parse_settings


def test_settings_become_sections():
    change = parse_settings(['loop.max_rounds=6', 'evaluation.max_force_rmse_meV_A=80.5', 'loop.max_labels=null'])
    assert change == {'loop': {'max_rounds': 6, 'max_labels': None}, 'evaluation': {'max_force_rmse_meV_A': 80.5}}


@pytest.mark.parametrize(
    ('setting', 'words'),
    [
        ('loop.max_rounds', r'is not KEY=VALUE; write it as loop.max_rounds=5'),
        ('training.lr=0.1', r'training.lr: cannot be changed during a run; these can: loop.min_rounds'),
        ('loop.max_round=3', r'loop.max_round: cannot be changed'),
    ],
)
def test_anything_else_is_refused_with_the_way_out(setting, words):
    with pytest.raises(ValueError, match=words):
        parse_settings([setting])
