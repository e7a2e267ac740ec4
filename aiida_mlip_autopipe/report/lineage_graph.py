"""The lineage of a frame or a potential as a picture: boxes from left to right in time, arrows from what was used.

Plain SVG, written here: AiiDA's own graphs need Graphviz, and a whole run has a thousand nodes where a dozen boxes tell
it. The same lineage gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from aiida_mlip_autopipe.provenance.lineage import FrameLineage, PotentialLineage, SetLineage
from aiida_mlip_autopipe.science.drawing import COLOURS

__all__ = ['draw_lineage']

BLUE, RED, GREEN, YELLOW, *_ = COLOURS
JUDGED, SEEN_BEFORE = 'dashed: evaluated on it, not trained on it', 'dashed: labels used by an earlier potential'
KINDS = {'potential': BLUE, 'dynamics': RED, 'labels': GREEN, 'structure': YELLOW}
FONT_PX, LINE_PX, PADDING_PX, BAR_PX = 13, 18, 10, 6
COLUMN_GAP_PX, ROW_GAP_PX, MARGIN_PX, TITLE_PX = 56, 34, 24, 44
CHARACTER_PX, BOLD = 0.6 * FONT_PX, 1.1
"""Mean width of a character of a sans-serif font, and how much wider a bold one is; rather too wide than too narrow."""


@dataclass(frozen=True)
class Box:
    """One box: its place in the grid, what it stands for, and its lines, the first of them in bold."""

    column: int
    row: int
    kind: str
    lines: Sequence[str]

    @property
    def width(self) -> float:
        """Return the width that its lines need, in pixels."""
        longest = max(BOLD * len(self.lines[0]), *map(len, self.lines[1:]))
        return CHARACTER_PX * longest + 2 * PADDING_PX + BAR_PX

    @property
    def height(self) -> float:
        """Return the height that its lines need, in pixels."""
        return LINE_PX * len(self.lines) + 2 * PADDING_PX - 4


@dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes, by their names; a faint one for what was used before already; with words on it."""

    start: str
    end: str
    faint: bool = False
    words: str = ''


def draw_lineage(lineage: FrameLineage | PotentialLineage) -> str:
    """Return the SVG of the lineage of a frame or a potential."""
    if isinstance(lineage, FrameLineage):
        boxes, arrows = _of_frame(lineage)
        return _draw(f'Lineage of frame {lineage.frame_id}', boxes, arrows, JUDGED)
    boxes, arrows = _of_potential(lineage)
    return _draw(f'Lineage of potential <{lineage.pk}>', boxes, arrows, 'dashed: labels used by an earlier potential')


def _of_potential(potential: PotentialLineage) -> tuple[dict[str, Box], list[Arrow]]:
    """Return a box for each potential, oldest first, and left of each one what it saw first."""
    boxes: dict[str, Box] = {}
    arrows: list[Arrow] = []
    column = 0
    for one in _oldest_first(potential, {}):
        name = f'potential {one.pk}'
        new = [of_set for of_set in one.sets if f'labels {of_set.labelled_pk}' not in boxes]
        for row, of_set in enumerate(new):
            _add_set(boxes, arrows, of_set, column, 1 + 2 * row)
        column += bool(new)
        boxes[name] = Box(column, 0, 'potential', _about_potential(one))
        column += 1
        arrows += [Arrow(f'labels {of_set.labelled_pk}', name, faint=of_set not in new) for of_set in one.sets]
        if one.foundation_pk is not None:
            arrows.append(Arrow(f'potential {one.foundation_pk}', name, words='fine-tuned'))
        if one.previous_pk is not None:
            arrows.append(Arrow(f'potential {one.previous_pk}', name, words='weights'))
    return boxes, arrows


def _oldest_first(potential: PotentialLineage, seen: dict[int, PotentialLineage]) -> list[PotentialLineage]:
    """Return a potential and all before it, each once, parents in front."""
    for parent in potential.parents:
        if parent.pk not in seen:
            _oldest_first(parent, seen)
    seen[potential.pk] = potential
    return list(seen.values())


def _add_set(boxes: dict[str, Box], arrows: list[Arrow], one: SetLineage, column: int, row: int) -> None:
    """Add a labelled set and, above it, where its candidates come from."""
    source, labels = f'source {one.labelled_pk}', f'labels {one.labelled_pk}'
    if one.md_job_pks:
        jobs = f'<{one.md_job_pks[0]}>' if len(one.md_job_pks) == 1 else f'{len(one.md_job_pks)} jobs'
        lines = ['exploration', f'MD {jobs}: {one.n_explored:,} frames', f'candidates <{one.candidates_pk}>']
        boxes[source] = Box(column, row, 'dynamics', lines)
        arrows += [Arrow(f'potential {pk}', source) for pk in one.driver_pks]
    else:
        boxes[source] = Box(column, row, 'structure', [f'{one.source} structures', f'candidates <{one.candidates_pk}>'])
    lines = [one.stage or 'labels', f'{one.n_frames} frames <{one.labelled_pk}>', f'{one.n_label_jobs} labelling jobs']
    boxes[labels] = Box(column, row + 1, 'labels', lines)
    arrows.append(Arrow(source, labels))


def _about_potential(one: PotentialLineage) -> list[str]:
    lines = [f'potential <{one.pk}>']
    if one.training_pk is None:
        lines += [f'given: {one.origin}', f'sha256 {one.sha256[:12]}']
    else:
        lines.append(f'trained on {one.n_training}, validated on {one.n_validation}')
    for judged in one.judgements:
        energy, force = judged.errors['energy_rmse_meV'], judged.errors['force_rmse_meV_A']
        lines.append(f'{judged.frames}: {energy:.1f} meV/atom, {force:.0f} meV/Å')
    return lines


def _of_frame(frame: FrameLineage) -> tuple[dict[str, Box], list[Arrow]]:
    """Return the way of a frame from its seed to its label, and below one another what was made of it."""
    info = frame.info
    boxes, arrows = {}, []
    column = 0
    if frame.md_job_pk is not None:
        pressure = f', {info["pressure_GPa"]:g} GPa' if 'pressure_GPa' in info else ''
        conditions = f'{info["temperature_K"]:g} K{pressure}'
        boxes['seed'] = Box(0, 0, 'structure', ['seed structure', frame.origin])
        boxes['driver'] = Box(0, 1, 'potential', [f'potential <{frame.potential_pk}>', 'ran the dynamics'])
        lines = [f'MD job <{frame.md_job_pk}>', f'replica {info["replica"]}, step {info["step"]}', conditions]
        boxes['dynamics'] = Box(1, 0, 'dynamics', lines)
        arrows += [Arrow('seed', 'dynamics'), Arrow('driver', 'dynamics'), Arrow('dynamics', 'frame')]
        column = 2
    boxes['frame'] = Box(column, 0, 'structure', list(_about_frame(frame)))
    lines = [f'label: {frame.state.value}']
    if frame.label_job_pk is not None:
        lines.append(f'job <{frame.label_job_pk}>')
    if frame.energy_eV is not None:
        lines.append(f'{frame.energy_eV:.4f} eV')
    boxes['label'] = Box(column + 1, 0, 'labels', lines)
    arrows.append(Arrow('frame', 'label'))
    for row, (pk, lines) in enumerate(_users(frame).items()):
        boxes[f'user {pk}'] = Box(column + 2, row, 'potential', [f'potential <{pk}>', *lines])
        arrows.append(Arrow('label', f'user {pk}', faint=pk not in frame.potentials))
    return boxes, arrows


def _about_frame(frame: FrameLineage) -> Iterator[str]:
    info = frame.info
    yield f'{frame.config_type} <{frame.candidates_pk}>, number {frame.index}'
    yield frame.frame_id
    if 'cluster' in info:
        cluster = f'cluster {info["cluster"]}, rank {info["rank"]}, ' if info['cluster'] >= 0 else ''
        yield f'{cluster}selected as {info["reason"]}'
    if 'represents' in info:
        yield f'represents {info["represents"]} frames'


def _users(frame: FrameLineage) -> dict[int, list[str]]:
    """Return what each potential has to do with a frame: PK -> lines."""
    lines: dict[int, list[str]] = {}
    for one in frame.residuals:
        lines.setdefault(one.potential_pk, []).extend(
            [
                f'{one.stage or "evaluation"}, {one.split}',
                f'forces {one.force_rmse_meV_A:.1f} meV/Å RMSE',
                f'energy {one.energy_error_meV:+.2f} meV/atom',
            ]
        )
    for pk, part in frame.potentials.items():
        lines.setdefault(pk, []).insert(0, f'trained on it ({part} set)')
    return lines


def _draw(title: str, boxes: dict[str, Box], arrows: Sequence[Arrow], legend: str) -> str:
    """Return the SVG of boxes in a grid and the arrows between them."""
    n_columns, n_rows = (1 + max(getattr(box, name) for box in boxes.values()) for name in ('column', 'row'))
    widths, heights = [0.0] * n_columns, [0.0] * n_rows
    for box in boxes.values():
        widths[box.column] = max(widths[box.column], box.width)
        heights[box.row] = max(heights[box.row], box.height)
    lefts = [MARGIN_PX + sum(widths[:i]) + i * COLUMN_GAP_PX for i in range(n_columns)]
    tops = [MARGIN_PX + TITLE_PX + sum(heights[:i]) + i * ROW_GAP_PX for i in range(n_rows)]
    places = {
        name: Place(lefts[box.column], tops[box.row], widths[box.column], box.height) for name, box in boxes.items()
    }
    width = lefts[-1] + widths[-1] + MARGIN_PX
    bottom = tops[-1] + heights[-1]
    has_legend = any(arrow.faint for arrow in arrows)
    height = bottom + MARGIN_PX + LINE_PX * has_legend
    told = '; '.join(': '.join((box.lines[0], ', '.join(box.lines[1:]))) for box in boxes.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="{FONT_PX}">',
        f'<title>{escape(title)}</title>',
        f'<desc>{escape(told)}</desc>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{MARGIN_PX}" y="{MARGIN_PX + 16}" font-size="17" font-weight="bold" fill="#1a1a1a">'
        f'{escape(title)}</text>',
    ]
    for arrow in sorted(arrows, key=lambda arrow: not arrow.faint):
        parts += _arrow(places[arrow.start], places[arrow.end], arrow)
    for name, box in boxes.items():
        parts += _box(places[name], box)
    if has_legend:
        parts.append(f'<text x="{MARGIN_PX}" y="{bottom + LINE_PX + 4:.1f}" fill="#444444">{escape(legend)}</text>')
    return '\n'.join([*parts, '</svg>', ''])


@dataclass(frozen=True)
class Place:
    """Where a box is, in pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        """Return its centre."""
        return self.left + self.width / 2, self.top + self.height / 2


def _arrow(start: Place, end: Place, arrow: Arrow) -> Iterator[str]:
    """Yield an arrow: down inside a column, else from the right side of one box to the left side of the other."""
    colour, width = ('#808080', 1.2) if arrow.faint else ('#444444', 1.8)
    dashes = ' stroke-dasharray="5 4"' if arrow.faint else ''
    (x, y), (to_x, to_y) = start.middle, end.middle
    if start.left == end.left:
        down = start.top < end.top
        y, to_y = (start.top + start.height, end.top) if down else (start.top, end.top + end.height)
        path = f'M{x:.1f} {y:.1f} L{to_x:.1f} {to_y:.1f}'
    else:
        x, to_x = start.left + start.width, end.left
        bend = (to_x - x) / 2
        path = f'M{x:.1f} {y:.1f} C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}'
    yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes} marker-end="url(#tip)"/>'
    if arrow.words:
        yield (
            f'<text x="{(x + to_x) / 2:.1f}" y="{(y + to_y) / 2 - 6:.1f}" text-anchor="middle" font-size="11" '
            f'fill="#444444">{escape(arrow.words)}</text>'
        )


def _box(place: Place, box: Box) -> Iterator[str]:
    colour = KINDS[box.kind]
    frame = f'x="{place.left:.1f}" y="{place.top:.1f}" height="{place.height:.1f}"'
    yield f'<rect {frame} width="{place.width:.1f}" fill="#fafafa" stroke="{colour}" stroke-width="1.2"/>'
    yield f'<rect {frame} width="{BAR_PX}" fill="{colour}"/>'
    for number, line in enumerate(box.lines):
        weight = ' font-weight="bold"' if number == 0 else ''
        x, y = place.left + BAR_PX + PADDING_PX, place.top + PADDING_PX + FONT_PX - 2 + number * LINE_PX
        yield f'<text x="{x:.1f}" y="{y:.1f}"{weight} fill="#1a1a1a">{escape(line)}</text>'
