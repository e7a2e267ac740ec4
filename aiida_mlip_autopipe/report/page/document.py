"""The report of a run: one HTML file that needs no network.

The order is that in which a scientist reads: verdict, errors, where they come from, what was explored and chosen, what
failed, what it cost, how it can be known again, and what to write about it. Each section is a function of what the run
left in the graph; the programs that draw (Plotly, Chemiscope) are put into the page from their packages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from aiida.orm import WorkChainNode

from aiida_mlip_autopipe.provenance.rounds import RunRecord
from aiida_mlip_autopipe.report.page.account import cost, failed, identity
from aiida_mlip_autopipe.report.page.blocks import Chart, Section, Widget
from aiida_mlip_autopipe.report.page.dynamics import dynamics
from aiida_mlip_autopipe.report.page.explored_map import explored_map
from aiida_mlip_autopipe.report.page.learning import learning
from aiida_mlip_autopipe.report.page.methods import methods
from aiida_mlip_autopipe.report.page.parity import calibration, parity
from aiida_mlip_autopipe.report.page.physics import physics
from aiida_mlip_autopipe.report.page.selection import selection
from aiida_mlip_autopipe.report.page.verdict import verdict

__all__ = ['SECTIONS', 'embedded', 'render', 'write_report']

SECTIONS: tuple[Callable[[RunRecord], Section], ...] = (
    verdict,
    learning,
    parity,
    calibration,
    dynamics,
    explored_map,
    selection,
    physics,
    failed,
    cost,
    identity,
    methods,
)
#: In this order: Chemiscope has a Plotly of its own, and takes the style sheet of one that is there already.
PROGRAMS = (('chemiscope', 'sphinx/static/chemiscope.min.js'), ('plotly', 'package_data/plotly.min.js'))


def write_report(run: WorkChainNode, path: str | Path) -> Path:
    """Write the report of a run, also of one that is at work or has failed, and return its path.

    Parameters
    ----------
    run : WorkChainNode
        Of the AutoPipeWorkChain.
    path : str or pathlib.Path
        The HTML file; its folder is made where it is missing.

    Raises
    ------
    ValueError
        If the node is no run of the pipeline.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(run), encoding='utf-8')
    return path


def render(run: WorkChainNode) -> str:
    """Return the page as text: the same for the same run.

    Raises
    ------
    ValueError
        If the node is no run of the pipeline.
    """
    import jinja2

    if not (run.process_type or '').endswith('mlip_autopipe.autopipe'):
        raise ValueError(
            f'{run.pk} is a {run.process_label}, not a run of the pipeline; `mlip-autopipe status` lists the runs'
        )
    record = RunRecord(run)
    sections = [section(record) for section in SECTIONS]
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader('aiida_mlip_autopipe.report.page', 'static'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return templates.get_template('report.html.j2').render(
        title=f'{run.description or run.label or "A run"}: report of run {run.pk}',
        sections=sections,
        data=embedded(page_data(sections)),
        style=_static('report.css'),
        script=_static('report.js'),
        programs=[_program(*program) for program in PROGRAMS],
    )


def page_data(sections: list[Section]) -> dict[str, Any]:
    """Return what is drawn: ``charts`` by name, and the data of the ``widgets`` by name."""
    blocks = [block for section in sections for block in section.blocks]
    return {
        'charts': {one.name: {'data': one.data, 'layout': one.layout} for one in blocks if isinstance(one, Chart)},
        'widgets': {one.name: one.data for one in blocks if isinstance(one, Widget)},
    }


def embedded(data: Any) -> str:
    """Return JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('\u2028', '\\u2028').replace('\u2029', '\\u2029')


def _static(name: str) -> str:
    return resources.files('aiida_mlip_autopipe.report.page').joinpath('static', name).read_text(encoding='utf-8')


@cache
def _program(package: str, path: str) -> str:
    """Return the source of a program that draws, safe inside a script element."""
    source = resources.files(package).joinpath(*path.split('/')).read_text(encoding='utf-8')
    return source.replace('</script', '<\\/script').replace('<!--', '\\x3c!--')
