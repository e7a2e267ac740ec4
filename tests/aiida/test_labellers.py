"""What each labelling code keeps that is registered, whoever wrote it: the contract of `Labeller`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal, get_origin

import pytest
from aiida import orm
from aiida.plugins import CalculationFactory
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling import LABELLERS, Labeller, LabellingParameters
from aiida_mlip_autopipe.labelling.base import labeller_of
from aiida_mlip_autopipe.labelling.kinds import job_types, validate_labelling
from aiida_mlip_autopipe.science.parameters.labelling import DEFAULT_LABELLER

OPTIONS = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False}
COMMON = set(LabellingParameters.model_fields)


@pytest.fixture(params=list(LABELLERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of each labelling code that is registered."""
    return request.param


@pytest.fixture
def labeller(kind: str, pseudo_family: orm.Group, localhost: orm.Computer) -> Labeller:
    """Return a labelling code with its defaults, and what it needs for one element."""
    found = LABELLERS[kind]
    nodes: dict[str, Any] = found.find_nodes(found.parameters_class(), [element_of(kind)])
    if found.default_code is not None:
        nodes['code'] = orm.InstalledCode(
            label=f'labels-{kind}', computer=localhost, filepath_executable='/bin/true'
        ).store()
    return labeller_of({'kind': kind}, nodes)


def element_of(kind: str) -> str:
    """Return an element that a labelling code knows."""
    return next(symbol for symbol in ('Si', 'Cu', 'H') if not LABELLERS[kind].problems([symbol], {}, None))


def input_of(kind: str) -> dict[str, Any]:
    """Return an input that names a labelling code."""
    system = {'prototype': 'fcc', 'composition': element_of(kind), 'lattice_constant_A': 4.0}
    return {'system': system, 'labelling': {'kind': kind}}


def crystal(labeller: Labeller, shift: float = 0.0) -> Atoms:
    """Return four atoms, the second displaced by ``shift`` Å along x, y and z."""
    atoms = bulk(element_of(labeller.kind), 'fcc', a=4.0, cubic=True)
    atoms.positions[1] += shift
    atoms.info.update(frame_id='candidate', origin='candidate', config_type='candidate')
    return atoms


def with_other(labeller: Labeller, name: str) -> Labeller:
    """Return the same code with another value of one parameter."""
    value = getattr(labeller.parameters, name)
    field = type(labeller.parameters).model_fields[name]
    annotation = field.annotation
    other: Any = value
    if field.examples:
        other = field.examples[0]
    elif get_origin(annotation) is Literal:
        other = next(one for one in annotation.__args__ if one != value)
    elif isinstance(value, bool):
        other = not value
    elif isinstance(value, int | float):
        other = value + 1
    elif isinstance(value, str):
        other = f'{value}2'
    elif isinstance(value, dict):
        other = {**value, 'Si': 1}
    elif value is None:
        other = 1
    return type(labeller)(labeller.parameters.model_copy(update={name: other}), labeller.nodes)


def test_it_is_named(kind):
    """Its name is that of its entry point; every parameter has a default and a meaning."""
    labeller = LABELLERS[kind]
    assert issubclass(labeller, Labeller) and labeller.kind == kind and labeller.name and labeller.program
    model = labeller.parameters_class
    assert issubclass(model, LabellingParameters) and model().kind == kind
    assert model.model_fields['kind'].annotation == Literal[kind]
    assert all(field.description for field in model.model_fields.values()) and model.__doc__
    assert set(labeller.level_fields) <= set(model.model_fields) - COMMON
    assert set(labeller.unsuggested) <= set(model.model_fields)
    for values in labeller.protocols.values():
        model(**values)
        assert not set(values) & COMMON
    assert labeller.job_type in job_types()


def test_an_input_names_it(kind):
    """Its kind alone is an input; the full configuration has its parameters and its code, and expands to itself."""
    full = ConfigExpander(input_of(kind)).expand().configuration
    assert full.labelling.kind == kind and isinstance(full.labelling, LABELLERS[kind].parameters_class)
    assert full.codes.labelling == LABELLERS[kind].default_code
    assert ConfigExpander(full.model_dump()).expand().configuration == full
    assert validate_labelling(orm.Dict(full.labelling.model_dump(mode='json')), None) is None
    assert 'no_such_key' in str(validate_labelling(orm.Dict({'kind': kind, 'no_such_key': 1}), None))


def test_the_level_of_theory_is_what_decides_the_energies(labeller):
    """Each field that it names changes the fingerprint; what is common to all codes, and the code, does not."""
    level = labeller.fingerprint()
    names = set(type(labeller.parameters).model_fields) - {'kind'}
    for name in names:
        changed = with_other(labeller, name).fingerprint() != level
        assert changed is (name in labeller.level_fields), name
    without_code = {name: node for name, node in labeller.nodes.items() if name != 'code'}
    assert type(labeller)(labeller.parameters, without_code).fingerprint() == level


def test_the_key_is_what_is_asked(labeller):
    """The same for the same calculation, whatever the frame is called; another one for another candidate or theory."""
    key = labeller.key(crystal(labeller))
    renamed, atom, strained = (crystal(labeller) for _ in range(3))
    renamed.info['frame_id'] = 'another'
    atom.info['config_type'] = 'IsolatedAtom'
    strained.set_cell(1.01 * strained.cell.array)
    assert labeller.key(renamed) == key and len(key) <= 255
    assert all(with_other(labeller, name).key(crystal(labeller)) == key for name in COMMON - {'kind'})
    others = [labeller.key(atoms) for atoms in (crystal(labeller, 1e-4), strained)]
    others += [
        with_other(labeller, name).key(crystal(labeller)) for name in labeller.level_fields if name != 'functional'
    ]
    assert key not in others
    without_code = {name: node for name, node in labeller.nodes.items() if name != 'code'}
    assert type(labeller)(labeller.parameters, without_code).key(crystal(labeller)) == key


def test_the_processes_take_what_it_gives_them(labeller):
    """The inputs of the process for one candidate, and of the job for several, are valid; its outputs are there."""
    parameters = orm.Dict(labeller.parameters.model_dump(mode='json'))
    picked = labeller.pick(crystal(labeller))
    assert picked and all(isinstance(node, orm.Data) and not node.is_stored for node in picked.values())
    task = labeller.single(picked, parameters, labeller.key(crystal(labeller)), OPTIONS)
    assert task.process.spec().inputs.validate(task.inputs) is None
    assert labeller.results and set(labeller.results) <= set(task.process.spec().outputs)
    if labeller.batch_type is not None:
        batch = labeller.batch(FramesData.from_atoms([crystal(labeller)]), [0], parameters, OPTIONS)
        assert batch.process.spec().inputs.validate(batch.inputs) is None
        assert 'indices' in batch.process.spec().inputs and 'labels' in batch.process.spec().outputs
        assert batch.process is CalculationFactory(labeller.batch_type.removeprefix('aiida.calculations:'))


def test_a_missing_element_is_told(labeller):
    """With the key to change; where all is there, or all elements are alike to it, there is nothing to tell."""
    assert labeller.problem([element_of(labeller.kind)]) is None
    told = type(labeller)(labeller.parameters, {}).problem(['Po'])
    assert told is None or ('Po' in told and 'labelling' in told and ';' in told)


def test_it_speaks(labeller):
    """Sentences for a paper, the table, the card and the reasons of failures."""
    sentence = labeller.sentence()
    assert sentence.endswith('.') and '\n' not in sentence and sentence[0].isupper()
    assert all(text and url.startswith('https://') for text, url in labeller.references())
    assert all(isinstance(what, str) and isinstance(value, str) for what, value in labeller.rows())
    assert orm.Dict(labeller.record()).store().get_dict() == labeller.record()
    assert labeller.effort(crystal(labeller)) > 0
    node = orm.WorkChainNode()
    node.set_process_label('Labels')
    node.set_process_state('finished')
    node.set_exit_status(410)
    node.set_exit_message('it did not converge')
    reason = labeller.reason(node.store())
    assert 'it did not converge' in reason and '[410]' in reason and f'<{node.pk}>' in reason


def test_what_is_registered_is_named():
    """An unknown kind, in an input or in a node, is answered with those that there are."""
    with pytest.raises(ConfigError, match=r"labelling\.kind: 'espreso' is not .*espresso"):
        ConfigExpander({**input_of(DEFAULT_LABELLER), 'labelling': {'kind': 'espreso'}}).expand()
    assert 'espresso' in str(validate_labelling(orm.Dict({'kind': 'espreso'}), None))
    assert DEFAULT_LABELLER in LABELLERS


def test_an_input_is_read_without_aiida():
    """The parameters of each code, the suggestions that need no profile, and the words: AiiDA costs seconds."""
    code = (
        'import sys; from aiida_mlip_autopipe.config import ConfigExpander; '
        f'ConfigExpander({input_of(DEFAULT_LABELLER)!r}).expand(); '
        'assert not [name for name in sys.modules if name.split(".")[0] in ("aiida", "torch")]'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_it_relaxes_what_it_says(labeller):
    """Cell, plane and positions, each with a reason where it cannot; what it can is a process that takes its inputs."""
    atoms = bulk('Cu', 'fcc', a=4.0) if element_of(labeller.kind) == 'Cu' else bulk('Si', a=5.43)
    atoms.info['frame_id'] = 'source-0'
    parameters = orm.Dict(labeller.parameters.model_dump(mode='json'))
    for what in ('cell', 'in-plane', 'positions'):
        problem = labeller.relaxation_problem(what, atoms, parameters.get_dict(), None)
        if problem is not None:
            assert problem and problem[0].islower()
            continue
        task = labeller.relaxation(labeller.pick_relaxation(atoms, what), what, parameters, OPTIONS)
        builder = task.process.get_builder()
        builder._update(task.inputs)
        assert labeller.relaxation_results and set(labeller.relaxation_results) <= set(task.process.spec().outputs)
