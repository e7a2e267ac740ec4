"""From an input to what is submitted, and every reason why it is not: told before submission, by key and value."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiida import orm
from aiida.manage import get_manager
from aiida.manage.configuration import get_config
from ase.build import bulk
from click.testing import CliRunner

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.cli.launch import expand_in_profile, needed_slots, prepare, submit
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.labelling.espresso.pseudos import install_family, read_table

SILICON = 'system: {prototype: diamond, composition: Si}\n'
pytestmark = pytest.mark.usefixtures('worker_code', 'pw_code', 'pseudo_family')


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes an input and returns its path."""

    def factory(text: str) -> Path:
        path = tmp_path / 'input.yaml'
        path.write_text(text)
        return path

    return factory


def test_a_prepared_input_has_everything(write):
    """Codes, pseudopotentials, structure and configuration are set; the cutoffs are those of the family."""
    launch = prepare(write(SILICON + 'loop: {max_rounds: 1}\n'))
    builder = launch.builder
    assert builder.structure.get_formula() == 'Si2'
    assert set(builder.labelling) == {'code', 'pseudo_Si'}
    assert builder.configuration['labelling']['ecutwfc_Ry'] == 16.0
    assert builder.configuration['loop']['max_rounds'] == 1
    assert builder.metadata.label == 'input'
    assert 'surrogate' not in builder


def test_a_surrogate_from_a_file_and_from_a_node(write, tiny_potential):
    """Both ways give the same potential."""
    first = prepare(write(f'{SILICON}surrogate: {tiny_potential}\n')).builder.surrogate
    assert isinstance(first, PotentialData) and first.elements == ['Si']
    first.store()
    second = prepare(write(f'{SILICON}surrogate: node:{first.pk}\n')).builder.surrogate
    assert second.uuid == first.uuid


def test_a_structure_from_a_node(write):
    """The node itself is the input, by PK or UUID; frames of a FramesData are sources too."""
    structure = orm.StructureData(ase=bulk('Si', 'diamond', a=5.5)).store()
    for identifier in (structure.pk, structure.uuid):
        assert prepare(write(f'system: {{node: {identifier}}}\n')).builder.structure.uuid == structure.uuid
    atoms = bulk('Si', 'diamond', a=5.4)
    atoms.info.update(frame_id='seed-0', origin='seed-0', config_type='seed')
    frames = FramesData.from_atoms([atoms]).store()
    assert prepare(write(f'system: {{node: {frames.pk}}}\n')).builder.structure.uuid == frames.uuid


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (SILICON + 'codes: {labelling: qe@nowhere}', ['codes.labelling', 'qe@nowhere', 'mlip-autopipe init']),
        (SILICON + 'codes: {worker: w@nowhere}', ['codes.worker', 'w@nowhere', 'mlip-autopipe init']),
        ('system: {prototype: fcc, composition: Al}', ['labelling.pseudo_family', 'autopipe/pbe', 'Al']),
        (SILICON + 'labelling: {pseudo_family: none/such}', ['labelling.pseudo_family', 'none/such', 'init']),
        (SILICON + 'exploration: {temprature_K: [3]}', ['temprature_K', 'exploration.temperatures_K']),
        (SILICON + 'exploration: {temperatures_K: [-3]}', ['exploration.temperatures_K[0]', '-3', '> 0']),
        (SILICON + 'exploration: {n_to_select: 0}', ['exploration.n_to_select', '0', '>= 1']),
        ('system: {prototype: diamond, composition: Xx}', ['system.composition', 'Xx']),
        ('system: {structure: nowhere.cif}', ['system.structure', 'nowhere.cif', 'does not exist']),
        (SILICON + 'surrogate: ./no.model', ['surrogate', './no.model', 'path']),
        (SILICON + 'surrogate: medum-mpa-0', ['surrogate', 'medum-mpa-0', 'medium-mpa-0']),
        (SILICON + 'surrogate: node:123456', ['surrogate', '123456']),
        ('system: {node: 123456}', ['system.node', '123456']),
        ('- a list', ['not a mapping']),
        ('system: !!python/object/apply:os.system [id]', ['would construct an object']),
    ],
)
def test_a_bad_input_is_told_in_words(write, text, words):
    """Exit code 2 and a message with the key, the value and the way out; nothing is stored."""
    before = orm.QueryBuilder().append(orm.ProcessNode).count()
    done = CliRunner().invoke(main, ['submit', str(write(text))])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert all(word in done.stderr for word in words), done.stderr
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == before


def test_a_surrogate_that_does_not_know_an_element(write, tiny_potential, tmp_path):
    """A potential for silicon is refused for germanium, by name."""
    (tmp_path / 'Ge.upf').write_bytes(Path('/usr/share/espresso/pseudo/Ge.pbe-kjpaw.UPF').read_bytes())
    (tmp_path / 'pseudos.yaml').write_text('Ge: {file: Ge.upf, ecutwfc_Ry: 20, ecutrho_Ry: 80}\n')
    install_family(tmp_path, 'test/ge')
    text = 'system: {prototype: diamond, composition: Ge}\nlabelling: {pseudo_family: test/ge}\nsurrogate: '
    with pytest.raises(ValueError, match=r'does not know Ge \(it knows Si\).*bootstrap'):
        prepare(write(f'{text}{tiny_potential}\n'))


def test_a_profile_without_a_broker_cannot_submit(write):
    """The profile of these tests has none, and the message says what to do."""
    with pytest.raises(ValueError, match=r'has no broker.*init'):
        submit(prepare(write(SILICON)), get_manager().get_profile())


def test_slots_grow_with_what_runs_side_by_side(write):
    """Run and stage, and for each sequence the sequence, its WorkChain and its calculation."""
    configuration = expand_in_profile(write(SILICON + 'labelling: {max_concurrent: 5}')).configuration
    assert needed_slots(configuration) == 2 + 3 * 5
    exploration = 'exploration: {n_jobs: 9, max_concurrent: 7}'
    assert needed_slots(expand_in_profile(write(SILICON + exploration)).configuration) == 2 + 3 * 7
    assert get_config().get_option('daemon.worker_process_slots') > needed_slots(configuration)


def test_a_family_grows_and_keeps_what_it_has(tmp_path):
    """A second element is added to a family; the first stays as it was."""
    folder = Path('/usr/share/espresso/pseudo')
    family, added = install_family(folder, 'test/grows', elements=('Si',))
    assert added == ['Si'] and family.elements == ['Si']
    silicon = family.get_pseudo('Si').uuid
    family, added = install_family(folder, 'test/grows', elements=('Si', 'C'))
    assert added == ['C']
    assert family.get_pseudo('Si').uuid == silicon
    assert set(family.get_cutoffs('standard')) == {'C', 'Si'}
    assert install_family(folder, 'test/grows', elements=('Si', 'C'))[1] == []


def test_a_table_of_pseudopotentials_is_checked(tmp_path):
    """An empty folder, a table that is none, and a table that names a missing file are told apart."""
    with pytest.raises(ValueError, match='has no UPF file'):
        read_table(tmp_path)
    table = tmp_path / 'pseudos.yaml'
    table.write_text('Si: 3\n')
    with pytest.raises(ValueError, match='not a table'):
        read_table(tmp_path)
    table.write_text('Si: {file: gone.upf, ecutwfc_Ry: 30, ecutrho_Ry: 120}\n')
    with pytest.raises(ValueError, match=r'gone\.upf'):
        read_table(tmp_path)
    with pytest.raises(ValueError, match='not a folder'):
        read_table(tmp_path / 'nowhere')
