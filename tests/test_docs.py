"""The documentation builds without a warning, and what it shows works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
RUNNABLE = re.compile(r'<!-- runnable -->\n```python\n(.*?)```', re.DOTALL)
YAML_BLOCK = re.compile(r'```yaml\n(.*?)```', re.DOTALL)
SNIPPETS = [
    pytest.param(code, id=f'{page.relative_to(ROOT)}-{number}')
    for page in PAGES
    if '_build' not in page.parts
    for number, code in enumerate(RUNNABLE.findall(page.read_text()))
]


@pytest.mark.parametrize('code', SNIPPETS)
def test_snippets_run(code: str, tmp_path: Path):
    """Each block marked as runnable runs as it is."""
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_snippets():
    """The marker is found: a change of its form does not empty the test above."""
    assert len(SNIPPETS) >= 3


def test_readme_shows_the_input_of_the_example():
    """The ten lines of the README are those of the example."""
    shown = YAML_BLOCK.search((ROOT / 'README.md').read_text())
    assert shown is not None
    assert shown.group(1) == (ROOT / 'examples/silicon/input.yaml').read_text()


def test_example_of_direct_alone(tmp_path: Path):
    """DIRECT on generated frames selects as many as asked, writes and draws them, and keeps away from known ones."""
    from aiida_mlip_autopipe.science.frames import read_extxyz

    script, output, figures = ROOT / 'examples/direct_on_extxyz.py', tmp_path / 'selected.extxyz', tmp_path / 'figures'
    command = [sys.executable, str(script), '--select', '7', '--output', str(output)]
    for further in (['--figures', str(figures)], ['--known', str(output), '--clustering', 'birch']):
        done = subprocess.run([*command, *further], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert 'coverage_random' in done.stdout
        assert len(read_extxyz(output)) == 7
    assert re.search(r'^n_known +7$', done.stdout, re.MULTILINE)
    assert len(list(figures.glob('*.svg'))) == 4


@pytest.mark.nightly
def test_docs_build(tmp_path: Path):
    """Sphinx builds all pages, as `make docs` does; a warning is an error."""
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html']
    folders = ['-d', tmp_path / 'doctrees', ROOT / 'docs', tmp_path / 'html']
    done = subprocess.run([*command, *map(str, folders)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parameters = (tmp_path / 'html/reference/parameters.html').read_text()
    assert 'n_to_select' in parameters and 'stdev_A' in parameters
