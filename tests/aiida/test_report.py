"""The report of a run: a page of its own, true to the graph, that works in a browser."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from playwright.sync_api import sync_playwright

from aiida_mlip_autopipe.provenance.rounds import Explored, RunRecord
from aiida_mlip_autopipe.report.page import SECTIONS, embedded, render, write_report
from aiida_mlip_autopipe.report.page.blocks import Text, encoded
from aiida_mlip_autopipe.report.page.dynamics import frames_data
from aiida_mlip_autopipe.report.page.learning import learning_points
from aiida_mlip_autopipe.report.page.methods import methods
from aiida_mlip_autopipe.report.page.structures import structures_data

MAX_BYTES = 20_000_000
GRAPHICS_ON_THE_CPU = ('--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader')
CHROMIUM_S = 240


class Page(HTMLParser):
    """What a page loads, its anchors and links, and the JSON that it holds."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.links, self.json = [], [], [], ''
        self._in_json = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes['id']] if 'id' in attributes else []
        if tag == 'a':
            self.links.append(attributes['href'])
        else:
            self.loads += [attributes[name] for name in ('src', 'href', 'srcset', 'data') if name in attributes]
        self._in_json = attributes.get('type') == 'application/json'

    def handle_data(self, text):
        self.json += text if self._in_json else ''

    @property
    def data(self):
        return json.loads(self.json)


@pytest.fixture(scope='module')
def path(finished_run, tmp_path_factory):
    return write_report(finished_run, tmp_path_factory.mktemp('report') / 'run.html')


@pytest.fixture(scope='module')
def page(path):
    return Page(path.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def record(finished_run):
    return RunRecord(finished_run)


def decoded(values):
    """Return an array as the page decodes it."""
    if isinstance(values, list):
        return np.array([np.nan if value is None else value for value in values])
    return np.frombuffer(base64.b64decode(values['bdata']), f'<{values["dtype"]}')


def test_the_page_loads_nothing(page):
    assert [load for load in page.loads if not load.startswith('data:')] == []


def test_all_sections_are_there_and_in_the_contents(page):
    anchors = [link.removeprefix('#') for link in page.links if link.startswith('#')]
    assert len(anchors) == len(SECTIONS)
    assert set(anchors) <= set(page.ids)


def test_the_errors_are_those_of_the_summary(page, finished_run):
    summary = finished_run.outputs.summary.get_dict()
    traces = {trace['name']: trace['y'] for trace in page.data['charts']['errors_forces']['data']}
    judged = [summary['surrogate'], *summary['rounds']]
    assert traces['test set'] == [one['test']['force_rmse_meV_A'] for one in judged]
    assert traces['new labels'] == [one['labels']['force_rmse_meV_A'] for one in summary['rounds']]


def test_the_learning_curve_has_the_points_of_the_summary(record, finished_run):
    curve = finished_run.outputs.summary['learning_curve']
    points = [list(point) for point in learning_points(record)]
    assert points == ([] if curve is None else curve['points'])


def test_parity_shows_the_predictions(page, record):
    shown = page.data['widgets']['parity']['sets'][0]
    last = record.evaluated[-1]
    assert shown['forces']['n_points'] == last.predictions['forces'].size
    assert shown['forces']['told'].startswith(f'all {len(last.predictions["n_atoms"])} frames: RMSE ')
    assert decoded(shown['forces']['y']) == pytest.approx(last.predictions['forces'].ravel(), abs=1e-5)
    energies = last.predictions['energy'] / last.predictions['n_atoms']
    reference = last.predictions['REF_energy'] / last.predictions['n_atoms']
    assert decoded(shown['energy']['y']) - decoded(shown['energy']['x']) == pytest.approx(
        energies - reference, abs=1e-6
    )


def test_the_map_has_all_frames_and_each_pick_its_lineage(page, record):
    widgets = page.data['widgets']
    for one in widgets['map']['explorations']:
        explored = record.explored[one['exploration']]
        frames = widgets['dynamics']['explorations'][one['exploration']]['frames']
        assert np.array_equal(decoded(frames['step']), explored.frames['step'])
        assert len(one['picks']['candidate']) == explored.report['n_selected']
    candidates = {candidate.atoms.info['frame_id']: candidate for candidate in record.candidates}
    for one in widgets['map']['candidates']:
        candidate, lineage = candidates[one['frame_id']], dict(one['lineage'])
        if candidate.energy_eV is not None:
            assert lineage['energy (DFT)'].startswith(f'{candidate.energy_eV:.6f} eV')
            assert orm.load_node(candidate.label_job_uuid).pk == candidate.label_job_pk


def test_each_structure_is_that_of_its_frame(page, record):
    widget = page.data['widgets']['map']
    for one, candidate in zip(widget['candidates'], record.candidates, strict=True):
        shown = widget['structures']['structures'][one['structure']]
        assert shown['size'] == len(candidate.atoms)
        assert shown['x'] == pytest.approx(candidate.atoms.positions[:, 0], abs=1e-4)


def test_what_identifies_a_run_is_in_the_page(path, finished_run):
    text = path.read_text(encoding='utf-8')
    potential = finished_run.outputs.potential
    for known in (finished_run.uuid, potential.sha256, potential.base.attributes.get('label_fingerprint')):
        assert known in text


def test_a_check_that_was_not_judged_is_told_first(path):
    text = path.read_text(encoding='utf-8')
    assert 'The physics check equation_of_state has no verdict: the minimum' in text.partition('id="learning"')[0]
    assert '>no verdict</td>' in text


def test_the_same_run_gives_the_same_page(path, finished_run):
    assert render(finished_run) == path.read_text(encoding='utf-8')


def test_data_cannot_end_its_element():
    assert '</script' not in embedded({'label': '</script><script>'})


def test_only_a_run_has_a_report(finished_run):
    other = next(call for call in finished_run.called if isinstance(call, orm.WorkChainNode))
    with pytest.raises(ValueError, match='not a run of the pipeline'):
        render(other)


@pytest.fixture
def begun(finished_run):
    """Return a run that has only just begun."""
    node = orm.WorkChainNode()
    node.set_process_type(finished_run.process_type)
    node.set_process_state('running')
    inputs = {name: finished_run.inputs[name] for name in ('configuration', 'structure')}
    inputs |= {f'labelling__{name}': node for name, node in finished_run.inputs.labelling.items()}
    for name, source in inputs.items():
        node.base.links.add_incoming(source, LinkType.INPUT_WORK, name)
    return node.store()


def test_a_run_at_work_is_told_as_far_as_it_has_come(begun):
    text = render(begun)
    assert 'still running' in text
    assert 'No committee has been evaluated yet.' in text
    assert {'verdict', 'failures', 'methods'} <= set(Page(text).ids)


def test_what_is_in_the_graph_cannot_write_the_page(begun):
    begun.description = '</title><script>alert(1)</script>'
    text = render(begun)
    assert '<script>alert(1)' not in text
    assert '&lt;script&gt;alert(1)&lt;/script&gt;' in text


def test_a_failed_run_says_why(begun):
    begun.set_process_state('finished')
    begun.set_exit_status(350)
    begun.set_exit_message('label_r1 failed: no label is sound')
    assert 'The run failed: label_r1 failed: no label is sound' in render(begun)


@pytest.mark.parametrize(('fraction', 'said'), [(0.25, 'Of these, 25 % were drawn at random before.'), (0.0, None)])
def test_the_methods_say_what_was_drawn_at_random(record, monkeypatch, fraction, said):
    asked = {**record.configuration['exploration'], 'random_fraction': fraction}
    monkeypatch.setitem(record.configuration, 'exploration', asked)
    texts = ' '.join(block.text for block in methods(record).blocks if isinstance(block, Text))
    assert 'selected by DIRECT' in texts
    assert (said in texts) if said else 'drawn at random before' not in texts


def test_what_is_too_large_is_left_out_from_the_oldest(record):
    frames = [candidate.atoms for candidate in record.candidates]
    data, places = structures_data(frames, max_atoms=len(frames[-1]) + len(frames[-2]))
    assert places[-2:] == [0, 1]
    assert set(places[:-2]) == {None}
    assert len(data['structures']) == 2


def test_a_short_array_keeps_what_is_not_finite():
    assert encoded([1.5, np.nan]) == [1.5, None]
    assert np.array_equal(decoded(encoded(np.arange(100))), np.arange(100))


def test_a_hundred_thousand_frames_fit(path, record):
    one = record.explored[-1]
    rows = np.random.default_rng(0).integers(0, len(one.frames['step']), 100_000)
    many = {name: values[rows] for name, values in one.frames.items()}
    size = len(embedded(frames_data(Explored(one.stage, one.jobs, frames=many))))
    assert path.stat().st_size + size < MAX_BYTES


@pytest.fixture(scope='module')
def browser_page(path):
    """Return the page in a browser, with what it said and what it asked the network for."""
    with sync_playwright() as playwright:
        chromium = shutil.which('chromium') or shutil.which('google-chrome')
        browser = playwright.chromium.launch(executable_path=chromium, args=GRAPHICS_ON_THE_CPU)
        shown = browser.new_page(viewport={'width': 1200, 'height': 900})
        shown.set_default_timeout(1000 * CHROMIUM_S)
        shown.errors, shown.requests = [], []
        shown.on('console', lambda said: shown.errors.append(said.text) if said.type == 'error' else None)
        shown.on('pageerror', lambda error: shown.errors.append(str(error)))
        shown.on('request', lambda request: shown.requests.append(request.url))
        shown.goto(path.as_uri())
        shown.wait_for_selector('body[data-ready]')
        yield shown
        browser.close()


PLACE = """([trace, point]) => {
    const plot = document.getElementById('map-plot');
    plot.scrollIntoView({ block: 'center', behavior: 'instant' });
    const { xaxis, yaxis } = plot._fullLayout;
    const { left, top } = plot.getBoundingClientRect();
    const shown = plot.data.findIndex((one) => one.meta === trace);
    const { x, y, customdata } = plot.data[shown];
    const [across, down] = [Array.from(x, (one) => xaxis.l2p(one)), Array.from(y, (one) => yaxis.l2p(one))];
    const far = (one, other) =>
        one === other ? Infinity : Math.hypot(across[one] - across[other], down[one] - down[other]);
    const apart = (one) => Math.min(...across.map((_, other) => far(one, other)));
    if (point === null) point = Array.from(x.keys()).reduce((best, one) => (apart(one) > apart(best) ? one : best));
    return [left + xaxis._offset + xaxis.l2p(x[point]), top + yaxis._offset + yaxis.l2p(y[point]),
            customdata ? customdata[point] : -1];
}"""


RING = """(candidate) => {
    const traces = document.getElementById('map-plot').data;
    const [pick, ring] = ['picks', 'shown'].map((name) => traces.find((one) => one.meta === name));
    const place = Array.from(pick.customdata).indexOf(candidate);
    return [[ring.x[0], ring.y[0]], [pick.x[place], pick.y[place]]];
}"""


def click(shown, trace, point):
    """Click a point of the map, the most solitary one if None, as a user does; return which candidate it is."""
    x, y, candidate = shown.evaluate(PLACE, [trace, point])
    shown.mouse.move(x, y, steps=3)
    shown.wait_for_selector('#map-plot .hoverlayer .hovertext')
    shown.mouse.click(x, y)
    return candidate


def test_the_browser_has_no_complaint_and_asks_for_nothing(browser_page, path):
    assert browser_page.errors == []
    assert [url for url in browser_page.requests if not url.startswith(('data:', 'blob:'))] == [path.as_uri()]


def test_each_chart_is_drawn(browser_page):
    plots = browser_page.locator('.plot')
    assert plots.count() == browser_page.locator('.plot .main-svg:first-child').count() > 5


def test_clicking_a_pick_shows_its_structure_and_where_it_comes_from(browser_page, page):
    before = browser_page.locator('#pick-structure').screenshot()
    clicked = click(browser_page, 'picks', None)
    candidate = page.data['widgets']['map']['candidates'][clicked]
    browser_page.wait_for_selector(f'#pick-structure[data-frame="{candidate["frame_id"]}"]')
    told = browser_page.locator('#map-lineage').inner_text()
    for _, value in candidate['lineage']:
        assert value in told
    ring, pick = browser_page.evaluate(RING, clicked)
    assert ring == pick
    browser_page.wait_for_timeout(1000)
    assert browser_page.locator('#pick-structure').screenshot() != before


def test_clicking_a_frame_that_was_not_picked_says_so(browser_page):
    click(browser_page, 'frames', 0)
    browser_page.wait_for_function("/It was not selected/.test(document.getElementById('map-said').textContent)")
    assert re.search(r'replica \d+, step \d+', browser_page.locator('#map-said').inner_text())


def test_colours_and_rounds_can_be_chosen(browser_page):
    browser_page.select_option('#parity-colour', 'temperature')
    browser_page.select_option('#map-colour', 'cluster')
    browser_page.select_option('#map-set', '0')
    browser_page.select_option('#dynamics-set', '0')
    assert browser_page.evaluate("document.getElementById('parity-energy').data.at(-1).marker.showscale")
    assert browser_page.errors == []


def test_a_phone_needs_no_sideways_scrolling(browser_page):
    browser_page.set_viewport_size({'width': 390, 'height': 844})
    assert browser_page.evaluate('document.documentElement.scrollWidth') == 390
