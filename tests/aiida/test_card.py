"""The model card: its figures are those of the graph, its limits those that were met, and its snippets run."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from aiida_mlip_autopipe.provenance.rounds import RunRecord
from aiida_mlip_autopipe.report.bundle.write import write_bundle
from aiida_mlip_autopipe.report.card import model_card
from aiida_mlip_autopipe.report.card.contents import _errors
from aiida_mlip_autopipe.report.card.limits import limits_of
from aiida_mlip_autopipe.report.card.text import card_markdown, exported, licence_text
from aiida_mlip_autopipe.report.reached import what_it_reached
from aiida_mlip_autopipe.science.potential import snippets

BIN = Path(sys.executable).parent


@pytest.fixture(scope='module')
def made(finished_run):
    """Return the card of the finished run; not to be changed."""
    return model_card(finished_run, what_it_reached(finished_run))


@pytest.fixture
def card(made):
    """Return a copy of it."""
    return copy.deepcopy(made)


@pytest.fixture(scope='module')
def bundle(finished_run, fast_folder):
    """Return the folder of a bundle."""
    folder = fast_folder / 'to_load/bundle'
    write_bundle(finished_run, folder, provenance=False)
    return folder


def limits(card):
    """Return what a changed card says of limits that the first did not say."""
    return '\n'.join(one['text'] for one in limits_of(card) if one not in card['limits'])


def test_the_figures_are_those_of_the_graph(made, finished_run):
    """Errors of the last round, numbers of frames, level of theory, checksums; and no PK of this profile."""
    summary, outputs = finished_run.outputs.summary.get_dict(), finished_run.outputs
    judged = summary['rounds'][-1]
    assert made['errors']['test'] == judged['test']
    assert made['errors']['hot'] == judged['hot']
    assert made['errors']['calibration'] == judged['calibration']
    assert made['errors']['by_element'] == judged['breakdown']['by_element']
    assert made['errors']['test_of_the_first'] == summary['surrogate']['test']
    assert made['errors']['newly_found']['force_rmse_meV_A'] == judged['labels']['force_rmse_meV_A']
    data = made['data']
    assert data['training']['n_frames'] + data['validation']['n_frames'] == outputs.dataset.n_frames
    assert sum(data[name]['n_frames'] for name in ('test', 'hot') if name in data) == outputs.test_set.n_frames
    assert all(sum(part['by_kind'].values()) == part['n_frames'] for part in data.values())
    assert made['potential']['sha256'] == outputs.potential.sha256
    assert made['level_of_theory']['label_fingerprint'] == outputs.dataset.label_fingerprint
    labelling = finished_run.inputs.configuration['labelling']
    assert made['level_of_theory']['ecutwfc_Ry'] == labelling['ecutwfc_Ry']
    assert made['explored']['temperatures_K'] == sorted(
        finished_run.inputs.configuration['exploration']['temperatures_K']
    )
    assert {'mace-torch', 'torch', 'aiida-core'} <= set(made['versions'])
    assert made['cost']['core_hours'] == pytest.approx(sum(made['cost']['core_hours_by_stage'].values()), abs=0.01)
    assert not re.search(r'<\d+>', json.dumps(made, allow_nan=False))


def test_the_text_has_every_part(made):
    """The same figures in words, and a table has as many cells in each row as in its head."""
    text = card_markdown(made)
    for title in ('Limits and known failures', 'Training data', 'Level of theory', 'Explored conditions',
                  'Errors', 'Error estimates from the committee', 'Physics', 'Licence', 'How to load it', 'Cost',
                  'Versions'):  # fmt: skip
        assert f'\n## {title}\n' in text
    assert f'{made["errors"]["test"]["force_rmse_meV_A"]:.1f}' in text
    assert made['potential']['sha256'] in text and made['level_of_theory']['label_fingerprint'] in text
    assert all(f'- **{one["kind"]}**: {one["text"]}\n' in text for one in made['limits'])
    for table in re.findall(r'(?:^\|.*\n)+', text, re.MULTILINE):
        assert len({line.count('|') for line in table.splitlines()}) == 1, table
    for name in set(snippets.__all__) - {'Exported'}:
        assert getattr(snippets, name)(exported(made)) in text


def test_limits_are_those_that_were_met(card):
    """Each is drawn from the figures: change one, and it is there or not."""
    card['explored']['guards'] = [{'stage': 'explore_r1', 'guard': 'min_distance', 'temperature_K': 1800.0,
                                   'pressure_GPa': 2.0, 'n_stopped': 3, 'n_replicas': 8}]  # fmt: skip
    assert 'explore_r1: the guard min_distance stopped 3 of 8 replicas at 1800 K, 2 GPa.' in limits(card)
    card['rejected_labels'] = {'label_r7': {'the SCF cycle did not converge': 2}}
    assert 'label_r7: 2 without a usable label: the SCF cycle did not converge.' in limits(card)
    card['potential']['elements'] = [*card['potential']['elements'], 'Xe']
    assert 'It accepts elements that are absent from the training set: Xe.' in limits(card)
    card['explored'] |= {'ensemble': 'npt', 'pressures_GPa': [0.0, 5.0], 'temperatures_K': [111.0, 5000.0]}
    assert 'No exploration outside 0 to 5 GPa' in limits(card)
    assert 'No exploration above 5000 K or below 111 K.' in limits(card)
    card['run'] |= {'exit_status': 350, 'exit_message': 'train_r2 failed'}
    assert 'The run did not finish: train_r2 failed.' in limits(card)


def test_limits_of_errors_are_those_that_were_met(card):
    errors = card['errors']
    errors['test'] |= {'force_rmse_meV_A': 100.0, 'force_rmse_standard_error_meV_A': 5.0, 'force_slope': 0.9}
    assert 'Forces are too small by 10 %' in limits(card)
    assert not any('uncertain' in one['text'] or 'hotter' in one['text'] for one in limits_of(card | {'errors': {
        **errors, 'hot': None}}))  # fmt: skip
    errors['test']['force_rmse_standard_error_meV_A'] = 50.0
    errors['hot'] = errors['test'] | {'force_rmse_meV_A': 250.0}
    assert 'a relative uncertainty of 50 %' in limits(card) and 'the force error is 2.5 times' in limits(card)
    errors['tolerances'] = {'max_force_rmse_meV_A': 150.0, 'max_energy_rmse_meV': None}
    errors['above_tolerance'] = {'hot': {'force_rmse_meV_A': {'is': 140.0, 'standard_error': 20.0, 'wanted': 150.0}}}
    assert 'Not clearly below the tolerance: forces (meV/Å) 140.0 ± 20.0 of 150 (hotter test set).' in limits(card)
    assert 'No tolerance was set' not in limits(card)
    rise = {'before': 2.0, 'now': 3.0, 'standard_error': 0.5}
    errors['risen'] = [{'round': 2, 'errors': {'test': {'energy_rmse_meV': rise}}, 'reasons': ['a reason']}]
    assert 'In round 2 errors rose: energy from 2.00 to 3.00 ± 0.50 meV/atom: a reason.' in limits(card)
    errors['calibration'] = {'n_frames': 9, 'factor': 2.0, 'rank_correlation': 0.123}
    assert 'rank correlation 0.12' in limits(card)
    errors['calibration'] = None
    assert 'No committee was evaluated' in limits(card)
    errors['test'] = None
    assert 'It was never evaluated on a test set.' in limits(card)
    assert '## Errors\n' in card_markdown(card)


def test_the_card_holds_an_error_with_its_uncertainty_against_the_tolerance(finished_run, monkeypatch):
    """As the run does: an error within its standard error of the tolerance is told."""
    test = finished_run.outputs.summary['rounds'][-1]['test']
    spread = test['force_rmse_standard_error_meV_A']
    bound = test['force_rmse_meV_A'] + spread / 2
    changed = finished_run.inputs.configuration['evaluation'] | {'max_force_rmse_meV_A': bound}
    errors = _errors(RunRecord(finished_run).evaluated, finished_run.outputs.potential, changed)
    assert errors['above_tolerance']['test'] == {
        'force_rmse_meV_A': {'is': test['force_rmse_meV_A'], 'standard_error': spread, 'wanted': bound}
    }


def test_nothing_new_is_no_convergence_where_a_tolerance_is_missed(card):
    missed = {'test': {'force_rmse_meV_A': {'is': 9.0, 'standard_error': 1.0, 'wanted': 5.0}}}
    card['summary']['stopped'] |= {'why': 'nothing_new', 'above_tolerance': {}}
    assert 'not because it had converged' not in '\n'.join(one['text'] for one in limits_of(card))
    card['summary']['stopped']['above_tolerance'] = missed
    assert 'ended because no new frames were found, not because it had converged' in limits(card)


def test_limits_of_physics_are_those_that_were_met(card):
    row = {'name': 'bulk modulus', 'value': 1.0, 'reference': 2.0, 'difference': -1.0, 'tolerance': 0.1, 'unit': 'GPa',
           'passed': False}  # fmt: skip
    card['physics'] = {'passed': False, 'checks': {'eos': {'passed': False, 'rows': [row], 'note': ''}}}
    assert 'The check eos failed: bulk modulus.' in limits(card)
    assert '| eos | bulk modulus | 1 | 2 | -1 | 0.1 | GPa | **failed** |' in card_markdown(card)
    card['physics']['checks']['eos'] |= {'passed': None, 'rows': [row | {'passed': None}], 'note': 'no label'}
    assert 'The check eos has no verdict: no label.' in limits(card)
    card['physics'] = None
    assert any('No physics checks were made' in one['text'] for one in limits_of(card))


def test_the_licence_follows_the_weights(card):
    """Fine-tuned: that of the foundation. From scratch: its maker's, whatever explored for it."""
    surrogate = {'name': 'off-small', 'origin': 'off-small', 'sha256': '0', 'licence': 'ASL'}
    card['licence'] |= {'potential': 'ASL', 'method': 'naive', 'surrogate': surrogate}
    tuned = ' '.join(licence_text(card))
    assert 'fine-tuned from off-small' in tuned and 'does not permit commercial use' in tuned
    card['licence'] |= {'potential': 'of its maker', 'method': 'scratch'}
    scratch = ' '.join(licence_text(card))
    assert 'contains none of its weights' in scratch and 'does not permit commercial use' in scratch
    card['licence']['surrogate'] = None
    alone = ' '.join(licence_text(card))
    assert 'off-small' not in alone and 'commercial' not in alone
    for text in (tuned, scratch, alone):
        assert 'MIT licence of aiida-mlip-autopipe covers the program' in text


def run_snippet(code):
    """Run a snippet as it stands, and return its names."""
    names = {}
    exec(compile(code, 'snippet', 'exec'), names)
    return names


def test_snippets_load_it_in_ase_and_torch_sim(bundle, made, monkeypatch, capsys):
    """Both give the energies and forces of the test frames with the errors that the card tells."""
    monkeypatch.chdir(bundle)
    atoms = run_snippet(snippets.ase(exported(made)))['atoms']
    frames = read('test.extxyz', index=':')
    predicted = {'energy': [], 'forces': []}
    for frame in frames:
        frame.calc = atoms.calc
        predicted['energy'].append(frame.get_potential_energy())
        predicted['forces'].append(frame.get_forces())
    forces = np.concatenate(predicted['forces'])
    errors = forces - np.concatenate([frame.arrays['REF_forces'] for frame in frames])
    told = made['errors']['test']['force_rmse_meV_A']
    assert 1e3 * np.sqrt((errors**2).mean()) == pytest.approx(told, rel=1e-6)
    assert f'{atoms.get_potential_energy()} eV' in capsys.readouterr().out
    if sys.version_info >= (3, 12):  # torch-sim needs it
        result = run_snippet(snippets.torch_sim(exported(made)))['result']
        assert result['energy'].numpy() == pytest.approx(np.array(predicted['energy']), abs=1e-6)
        assert result['forces'].numpy() == pytest.approx(forces, abs=1e-6)


def test_snippet_tells_the_expected_error(bundle, made, monkeypatch, capsys):
    """The disagreement of the snippet is the one that was calibrated."""
    monkeypatch.chdir(bundle)
    names = run_snippet(snippets.committee(exported(made)))
    assert names['forces'][0] != pytest.approx(names['forces'][1])
    factor = made['errors']['calibration']['factor']
    printed = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines() if 'eV/Å' in line]
    assert printed == pytest.approx([names['disagreement'], factor * names['disagreement']], rel=1e-3)


def test_snippets_prepare_lammps(bundle, made, tmp_path, monkeypatch):
    """The frame is written, its types in the order in which the input names the elements; the converted potential
    gives the energy and forces of the first, which is what LAMMPS will ask it for.
    """
    import torch
    from mace.calculators import MACECalculator

    for name in ('potential.model', 'test.extxyz'):
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    program, *arguments = shlex.split(snippets.lammps_convert(exported(made)))
    done = subprocess.run([str(BIN / program), *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    atoms = run_snippet(snippets.lammps_data(exported(made)))['atoms']

    given = dict(line.split(maxsplit=1) for line in snippets.lammps_input(exported(made)).splitlines())
    _, _, model, *elements = given['pair_coeff'].split()
    written = read(given['read_data'], format='lammps-data', atom_style='atomic')
    assert [elements[kind - 1] for kind in written.arrays['type']] == list(atoms.symbols)

    # A data file holds the structure turned: energies stay as they are.
    converted = torch.jit.load(model)
    atoms.calc = MACECalculator(model_paths='potential.model', device='cpu', default_dtype='float64')
    batch = atoms.calc._atoms_to_batch(written).to_dict()
    result = converted(
        {name: one for name, one in batch.items() if torch.is_tensor(one)}, torch.ones(len(atoms)), False
    )
    assert float(result['total_energy_local']) == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    written.calc = atoms.calc
    assert result['forces'].detach().numpy() == pytest.approx(written.get_forces(), abs=1e-6)
