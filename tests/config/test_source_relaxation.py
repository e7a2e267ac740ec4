"""What of the source is relaxed before seeds are made of it, and when it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ase.build import bulk, graphene, molecule
from ase.io import write

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander, Expansion
from aiida_mlip_autopipe.labelling.espresso.relaxation import relaxation_namelists

CUTOFFS = {'Si': (24.0, 96.0), 'C': (40.0, 320.0), 'H': (46.0, 221.0), 'O': (47.0, 323.0)}
SILICON = {'prototype': 'diamond', 'composition': 'Si'}


def expanded(system: dict[str, Any] | None = None, base: Any = None, **sections: Any) -> Expansion:
    """Return an expansion with what a family recommends."""
    return ConfigExpander({'system': system or SILICON, **sections}, base=base).expand(CUTOFFS)


def relax_of(found: Expansion) -> tuple[str | None, str, str]:
    """Return what is relaxed, who says so, and the reason."""
    return (
        found.configuration.system.relax,
        found.origins['system.relax'],
        found.reasons.get('system.relax', ''),
    )


@pytest.mark.parametrize('system', [SILICON, {**SILICON, 'relax': 'auto'}])
def test_a_crystal_is_relaxed_with_its_cell_by_default(system):
    """The configuration says what, and that it stems from the structure; an expansion of it is itself."""
    found = expanded(system)
    what, origin, reason = relax_of(found)
    assert (what, origin) == ('cell', 'heuristic') and 'auto: bulk, relaxed' in reason
    again = ConfigExpander(yaml.safe_load(found.dump())).expand(CUTOFFS)
    assert again.configuration == found.configuration


def test_a_cell_is_not_relaxed_with_too_few_plane_waves():
    """By default the structure stays, which is said; who asks for it is told why not."""
    few = {'ecutwfc_Ry': 20.0, 'ecutrho_Ry': 96.0}
    what, origin, reason = relax_of(expanded(labelling=few))
    assert (what, origin) == ('none', 'heuristic')
    assert 'labelling.ecutwfc_Ry (20) is below the 24 that the pseudopotential of Si asks for' in reason
    with pytest.raises(ConfigError, match=r'system.relax: cell: labelling.ecutwfc_Ry \(20\) is below the 24'):
        expanded({**SILICON, 'relax': 'cell'}, labelling=few)
    with pytest.raises(ConfigError, match=r'labelling.ecutrho_Ry \(90\) is below the 96'):
        expanded({**SILICON, 'relax': 'cell'}, labelling={'ecutwfc_Ry': 24.0, 'ecutrho_Ry': 90.0})
    assert relax_of(expanded({**SILICON, 'relax': 'positions'}, labelling=few))[:2] == ('positions', 'user')


def test_what_stays_where_it_is(tmp_path):
    """Several structures, and a run that goes on from data; a user may still say otherwise."""
    write(tmp_path / 'two.extxyz', [bulk('Si'), bulk('Si', cubic=True)])
    several = {'structure': 'two.extxyz'}
    assert relax_of(expanded(several, tmp_path))[0] == 'none'
    assert relax_of(expanded({**several, 'relax': 'cell'}, tmp_path))[0] == 'cell'
    assert relax_of(expanded(base=tmp_path, data='two.extxyz'))[0] == 'none'


def test_a_layer_is_relaxed_in_its_plane(tmp_path):
    """Its vacuum is along z, or it is refused."""
    layer = graphene(vacuum=6.0)
    write(tmp_path / 'layer.extxyz', layer)
    assert relax_of(expanded({'structure': 'layer.extxyz'}, tmp_path))[0] == 'in-plane'
    with pytest.raises(ConfigError, match=r'slab or layer, vacuum of .* along c, which would close'):
        expanded({'structure': 'layer.extxyz', 'relax': 'cell'}, tmp_path)
    layer.rotate(90, 'x', rotate_cell=True)
    write(tmp_path / 'layer.extxyz', layer)
    assert relax_of(expanded({'structure': 'layer.extxyz'}, tmp_path))[0] == 'none'
    with pytest.raises(ConfigError, match='the two vectors of the plane must have no z component'):
        expanded({'structure': 'layer.extxyz', 'relax': 'in-plane'}, tmp_path)


def test_a_molecule_is_relaxed_in_its_box(tmp_path):
    """Its atoms move and the box stays."""
    water = molecule('H2O', vacuum=5.0)
    write(tmp_path / 'water.extxyz', water)
    what, _, reason = relax_of(expanded({'structure': 'water.extxyz'}, tmp_path, exploration={'temperatures_K': [300]}))
    assert what == 'positions' and 'molecule in a box' in reason


def test_a_configuration_of_before_relaxes_nothing():
    """The key was not there, and nothing was relaxed."""
    values = expanded().configuration.model_dump()
    del values['system']['relax']
    assert type(expanded().configuration)(**values).system.relax is None


@pytest.mark.parametrize(
    ('what', 'calculation', 'free'),
    [('cell', 'vc-relax', 'all'), ('in-plane', 'vc-relax', '2Dxy'), ('positions', 'relax', None)],
)
def test_namelists_of_a_relaxation_are_those_of_a_label_and_what_moves(what, calculation, free):
    """The level of theory is that of the labels."""
    single = {'CONTROL': {'calculation': 'scf'}, 'SYSTEM': {'ecutwfc': 24.0}, 'ELECTRONS': {'conv_thr': 2e-8}}
    found = relaxation_namelists(single, what)
    assert found['SYSTEM'] == single['SYSTEM'] and found['ELECTRONS'] == single['ELECTRONS']
    assert found['CONTROL']['calculation'] == calculation
    assert found.get('CELL', {}).get('cell_dofree') == free
    assert single['CONTROL'] == {'calculation': 'scf'}
