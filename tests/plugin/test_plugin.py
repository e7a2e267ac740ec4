"""A package of another author brings a labelling code and a method of making seeds; nothing of ours is changed for it.

It is installed as its author would install it, and the commands are those of docs/howto/extend.md, in their order:
through the daemon, from the input to the report.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.io import read

PLUGIN, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PAGE = ROOT / 'docs/howto/extend.md'
COMMAND = re.compile(r'^\$ (.+)$', re.MULTILINE)
INSTALL = 'pip install tests/plugin'
CONFORMANCE = 'pytest tests/aiida/test_labellers.py tests/science/test_generators.py'


class Terminal:
    """A terminal with the package installed: commands run from the root of the project, jobs by a warm worker."""

    def __init__(self, folder: Path, worker: Path) -> None:
        self.folder, self.worker = folder, worker
        self.said: dict[str, str] = {}
        paths = [str(Path(sys.executable).parent), os.environ['PATH']]
        packages = [str(folder / 'packages'), str(ROOT)]
        self.environment = {
            **os.environ,
            'PATH': os.pathsep.join(paths),
            'PYTHONPATH': os.pathsep.join(packages),
            'AIIDA_PATH': str(folder),
            'OMP_NUM_THREADS': '1',
        }

    def run(self, command: str) -> str:
        """Run a command of the page; what it writes goes into the folder of the test."""
        words = command.split()
        if words[0] == 'pip':
            target = ['--no-deps', '--no-build-isolation', '--quiet', '--target', str(self.folder / 'packages')]
            words = [sys.executable, '-m', *words, *target]
        words = [str(self.folder / word) if word in ('results', 'report.html') else word for word in words]
        if words[1] == 'init':
            words += ['--worker', str(self.worker)]
        if 'PK' in words:
            words[words.index('PK')] = self.pk
        done = subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
        self.said[command] = done.stdout
        return done.stdout

    @property
    def pk(self) -> str:
        """Return the PK of the run."""
        text = next(said for command, said in self.said.items() if ' run ' in command)
        match = re.search(r'run (\d+)', text)
        assert match, text
        return match[1]


@pytest.fixture(scope='module')
def terminal(fast_folder: Path, warm_worker: Path) -> Iterator[Terminal]:
    """Return a terminal in which all commands of the page but the last have been run."""
    folder = fast_folder / 'plugin'
    (folder / 'packages').mkdir(parents=True)
    opened = Terminal(folder, warm_worker)
    try:
        for command in COMMAND.findall(PAGE.read_text()):
            if command != CONFORMANCE:
                opened.run(command)
        yield opened
    finally:
        subprocess.run(['verdi', 'daemon', 'stop'], env=opened.environment, capture_output=True, timeout=120)


def test_the_page_shows_all_that_a_user_types():
    """The commands that are run here are those of the page, the installation first and the contract last."""
    commands = COMMAND.findall(PAGE.read_text())
    assert commands[0] == INSTALL and commands[-1] == CONFORMANCE
    assert [command.split()[1] for command in commands[1:-1]] == ['init', 'expand', 'plan', 'run', 'report']


def test_its_parameters_are_in_the_configuration(terminal: Terminal):
    """Its sections stand beside ours, with their defaults and where each value is from."""
    shown = terminal.said['mlip-autopipe expand tests/plugin/input.yaml']
    assert re.search(r'kind: emt +# user', shown)
    assert re.search(r'compressed:\n +n: 2 +# user\n +largest: 0.03 +# default', shown)


def test_labels_are_those_of_its_code(terminal: Terminal):
    """Energies, forces and stresses of the data set are those of EMT, and name one level of theory."""
    frames = read(terminal.folder / 'results/dataset.extxyz', ':')
    assert len(frames) == 1 + 4 + 2
    for atoms in frames:
        told = [atoms.info['REF_energy'], atoms.arrays['REF_forces']]
        stress = atoms.info.get('REF_stress')
        atoms.calc = EMT()
        found = [atoms.get_potential_energy(), atoms.get_forces()]
        assert (stress is None) == (len(atoms) == 1)  # an atom alone in a box has none
        if stress is not None:
            told, found = [*told, stress], [*found, atoms.get_stress()]
        for one, other in zip(told, found, strict=True):
            assert np.allclose(one, other, atol=1e-6)
    assert len({atoms.info['label_fingerprint'] for atoms in frames}) == 1


def test_its_seeds_are_explored_and_labelled(terminal: Terminal):
    """Two of the seeds are compressed, the second by the largest amount that was asked for."""
    frames = read(terminal.folder / 'results/dataset.extxyz', ':')
    volumes = {method: [] for method in ('pristine', 'compressed')}
    for atoms in frames:
        volumes.get(atoms.info.get('method'), []).append(atoms.cell.volume)
    ratios = sorted(np.cbrt(np.array(volumes['compressed']) / volumes['pristine'][0]))
    assert np.allclose(ratios, [0.97, 0.985])


def test_the_methods_text_speaks_of_both(terminal: Terminal):
    """What a paper would say, with the publication of the theory."""
    page = (terminal.folder / 'report.html').read_text()
    assert 'are those of the effective medium theory of ASE' in page
    assert '2 are compressed, by up to 3 % of each length' in page
    assert 'Surf. Sci. 366, 394 (1996)' in page


def test_plan_counts_its_seeds_and_labels(terminal: Terminal):
    """The plan said beforehand what ran: five initial labels, two of the test set, two of the round."""
    planned = json.loads(terminal.run('mlip-autopipe plan tests/plugin/input.yaml --json'))
    labels = {stage['name']: stage['labels'] for stage in planned['plan']['stages'] if stage['labels']}
    assert labels == {'label_initial': 5, 'label_test': 2, 'label_r1': 2}


def test_an_element_that_its_code_does_not_know_is_told_before_anything_runs(terminal: Terminal, tmp_path: Path):
    """The labelling code itself says what is wrong, in the command that only looks."""
    path = tmp_path / 'input.yaml'
    path.write_text((PLUGIN / 'input.yaml').read_text().replace('composition: Cu', 'composition: Fe'))
    with pytest.raises(AssertionError, match=r'emt knows .* but not Fe'):
        terminal.run(f'mlip-autopipe plan {path}')


def test_it_keeps_the_contract(terminal: Terminal):
    """The conformance tests run over all that is registered, and so over both."""
    output = terminal.run(f'{CONFORMANCE} -p no:cacheprovider -v')
    assert 'emt' in output and 'compressed' in output
    assert re.search(r'\d+ passed', output) and 'failed' not in output
