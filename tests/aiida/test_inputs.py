"""From a configuration to the inputs of the pipeline, and what is refused before submission."""

from __future__ import annotations

import runpy
import shutil
from functools import partial
from pathlib import Path

import pytest
from aiida import orm
from ase.build import bulk

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'silicon'


def structure(symbol: str = 'Si') -> orm.StructureData:
    """Return two atoms in the diamond structure."""
    return orm.StructureData(ase=bulk(symbol, 'diamond', a=5.43))


def problem_of(builder) -> str | None:
    """Return what the process specification says against a builder."""
    error = AutoPipeWorkChain.spec().inputs.validate(builder._inputs(prune=True))
    return None if error is None else str(error)


def test_the_example_without_the_command_line_tool(worker_code, pw_code, pseudo_family, tmp_path, tiny_potential):
    """``examples/silicon/launch.py`` builds a pipeline that the process specification accepts."""
    shutil.copy(EXAMPLE / 'launch.py', tmp_path)
    shutil.copy(EXAMPLE / 'silicon.model', tmp_path)
    builder = runpy.run_path(str(tmp_path / 'launch.py'))['build']()
    assert problem_of(builder) is None
    assert builder.configuration['exploration']['temperatures_K'] == [600.0, 1800.0]
    assert builder.surrogate.elements == ['Si']


def test_the_cutoffs_are_those_of_the_family(worker_code, pw_code, pseudo_family):
    """Without a word from the user the cutoffs come from the pseudopotentials."""
    builder = AutoPipeWorkChain.get_builder_from_protocol(worker_code, pw_code, structure(), 'fast')
    labelling = builder.configuration['labelling']
    assert (labelling['ecutwfc_Ry'], labelling['ecutrho_Ry']) == (16.0, 64.0)
    assert problem_of(builder) is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'structure': 'Ge'}, r'no pseudopotential.*Ge|Ge.*pseudopotential'),
        ({'worker_code': 'nowhere@localhost'}, r"codes.worker: 'nowhere@localhost' is not the label.*verdi code list"),
        ({'labelling_code': 'nowhere@localhost'}, r"codes.labelling: 'nowhere@localhost' is not the label of one code"),
        ({'overrides': {'exploration': {'n_to_select': 0}}}, r'exploration.n_to_select: 0'),
        ({'overrides': {'exploration': {'n_to_selct': 5}}}, r'n_to_select'),
        ({'overrides': {'exploration': {'temperatures_K': [300, -1]}}}, r'exploration.temperatures_K\[1\]: -1'),
        ({'overrides': {'labelling': {'pseudo_family': 'none/such'}}}, r'none/such'),
        ({'protocol': 'fsat'}, r'fast'),
    ],
)
def test_bad_input_is_refused_before_submission(worker_code, pw_code, pseudo_family, arguments, message):
    """The message names the key, the value and the way out; nothing is stored or submitted."""
    given = {'worker_code': worker_code, 'labelling_code': pw_code, 'structure': 'Si', 'protocol': 'fast', **arguments}
    given['structure'] = structure(given['structure'])
    n_processes = orm.QueryBuilder().append(orm.ProcessNode).count()
    with pytest.raises(ValueError, match=message):
        AutoPipeWorkChain.get_builder_from_protocol(**given)
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == n_processes


def test_a_surrogate_that_does_not_know_an_element(worker_code, pw_code, pseudo_family, tiny_potential):
    """Refused with what it knows and what to do."""
    properties = {'sha256': '0' * 64, 'elements': ['Al'], 'r_max': 4.0, 'dtype': 'float32'}
    surrogate = PotentialData.from_file(tiny_potential, properties, origin='file')
    with pytest.raises(ValueError, match=r'surrogate: knows Al but not Si.*bootstrap'):
        AutoPipeWorkChain.get_builder_from_protocol(worker_code, pw_code, structure(), 'fast', surrogate=surrogate)


def test_a_fine_tuning_starts_from_the_surrogate(worker_code, pw_code, pseudo_family, tiny_potential):
    """The frames to replay are an input of the run; without a surrogate there is nothing to fine-tune."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    surrogate = PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()
    replay = FramesData.from_atoms([bulk('Si', 'diamond', a=5.43)]).store()
    build = partial(AutoPipeWorkChain.get_builder_from_protocol, worker_code, pw_code, structure(), 'fast')
    naive = build({'training': {'method': 'naive'}}, surrogate)
    assert problem_of(naive) is None and 'replay' not in naive._inputs(prune=True)
    multihead = build({'training': {'method': 'multihead'}}, surrogate, replay)
    assert problem_of(multihead) is None and multihead.replay.uuid == replay.uuid
    with pytest.raises(ValueError, match='naive fine-tunes the surrogate, but surrogate is bootstrap'):
        build({'training': {'method': 'naive'}})
    with pytest.raises(ValueError, match=r'replay: None, but training\.method is multihead'):
        build({'training': {'method': 'multihead'}}, surrogate)
