"""The queries in the documentation do what they say, on a recorded run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / 'docs/howto/ask_the_graph.md'
RECIPE = re.compile(r'^## (?P<title>.+?)$(?:(?!^## ).)*?^```python\n(?P<code>.*?)^```', re.DOTALL | re.MULTILINE)
RECIPES = [pytest.param(match['code'], id=match['title']) for match in RECIPE.finditer(PAGE.read_text())]


@pytest.mark.parametrize('code', RECIPES)
def test_recipe(code, finished_run, tmp_path, monkeypatch, capsys):
    """Each block runs as it is, with the PK of a run, and finds something."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, 'exec'), {'PK': finished_run.pk})
    assert capsys.readouterr().out.strip()


def test_every_block_of_the_page_is_a_recipe():
    """One block below each heading, and none that the test above leaves out."""
    text = PAGE.read_text()
    assert len(RECIPES) == text.count('```python') == text.count('\n## ') >= 8
