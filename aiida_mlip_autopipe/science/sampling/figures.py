"""How a selection looks: explained variance, the picks over the density of all frames, clusters, and the budget.

The covering radius against the budget answers how many frames are enough: where the curve is flat, more bring little.
That of the selection, of its frames the farthest first, ends at what the budget bought; on the way there it is not that
of a smaller budget, which would have its own clusters. Beside it stand random selections and a farthest-point
traversal, which comes within a factor of two of the least radius there is (T. F. Gonzalez, Theor. Comput. Sci. 38, 293
(1985)), and goes on to twice the budget.

`figure_data` returns what is drawn as plain numbers, small for any number of frames, for a report to draw in its own
way; `draw_figures` draws it with matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.science import drawing
from aiida_mlip_autopipe.science.drawing import short
from aiida_mlip_autopipe.science.sampling.clustering import Centres, k_centre
from aiida_mlip_autopipe.science.sampling.coverage import radius_by_budget
from aiida_mlip_autopipe.science.sampling.direct import DirectSampler
from aiida_mlip_autopipe.science.sampling.selection import N_BINS, bins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['draw_figures', 'figure_data', 'write_figures']

#: At most so many eigenvalues, budgets, and entries of all other lists are told; longer lists are thinned.
MAX_EIGENVALUES, MAX_BUDGETS, MAX_LISTED = 60, 100, 1500

#: Random selections whose mean is told.
N_RANDOM = 3

#: Of few frames, so many bins of each component become one: single frames would hardly be seen.
FEW_FRAMES, MERGED = 20_000, 4

#: Smaller eigenvalues are not drawn; their mean is 1.
LEAST_EIGENVALUE = 1e-3

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, _ = drawing.COLOURS
GREY = '#888888'
REASON_STYLES = {
    'centroid': ('o', BLUE),
    'stratum': ('s', SKY),
    'environment': ('P', PURPLE),
    'coverage': ('D', ORANGE),
    'fill': ('^', VERMILION),
    'random': ('v', GREEN),
    'variance': ('o', BLUE),
    'farthest': ('^', VERMILION),
}


def figure_data(sampler: DirectSampler) -> dict[str, Any]:
    """Return what the figures of a fitted sampler show, ready for JSON.

    Returns
    -------
    dict
        ``explained_variance``: the first ``eigenvalues`` and their ``ratios`` to the sum of all, ``n_components``, what
        these ``kept`` together, ``min_eigenvalue``.
        ``density``: how many usable frames are in each bin of the first two components, ``counts`` (n_x, n_y) between
        ``x_edges`` and ``y_edges``: the bins of the coverage score, fewer for few frames. Of a single component, y
        is 0.
        ``picks``: ``x``, ``y``, ``rank`` (from 0) and ``reason``, and ``n_by_reason``; ``known``: ``x`` and ``y``.
        ``cluster_populations``: ``rank`` (from 1) and ``population`` by descending population, ``n_clusters`` and the
        ``mean``.
        ``radius_by_budget``: ``budgets`` up to twice ``n_selected``, and for the first of these the covering radius of
        what was ``selected``, of ``random`` selections (their mean) and of a ``farthest``-point traversal, on
        ``n_points`` frames, the sampler's subsample. What is known is given from the start, and covers
        ``radius_of_known``; None without.
    """
    scores = sampler.scores_
    usable = np.flatnonzero(np.isfinite(scores[:, 0]))
    some = scores[usable[sampler.subsample()]]
    return {
        'explained_variance': _explained_variance(sampler),
        'density': _density(scores[usable, :2]),
        'picks': _picks(scores[sampler.selected_idx_], sampler.reasons_),
        'known': _plane(_thinned(sampler.known_scores_)),
        'cluster_populations': _cluster_populations(sampler.labels_),
        'radius_by_budget': _radius_by_budget(
            some, scores[sampler.selected_idx_], sampler.known_scores_, sampler.random_state
        ),
    }


def draw_figures(data: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Draw the four figures.

    Parameters
    ----------
    data : mapping
        Of `figure_data`, read back from JSON or not.
    folder : str or pathlib.Path
        Made where it is missing.

    Returns
    -------
    list of pathlib.Path
        ``explained_variance.svg``, ``selection_map.svg``, ``cluster_populations.svg`` and ``radius_by_budget.svg``: of
        the same data always the same bytes.
    """
    return drawing.draw_figures(dict.fromkeys(DRAWINGS, data), DRAWINGS, folder)


def write_figures(data: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Draw the four figures, and write ``figures.json``, what they show, beside them; return all paths."""
    return [*draw_figures(data, folder), drawing.write_numbers(data, folder)]


# -------------------------------------------------------------------------------------------------------------- data


def _explained_variance(sampler: DirectSampler) -> dict[str, Any]:
    return {
        'eigenvalues': short(sampler.explained_variance_[:MAX_EIGENVALUES]),
        'ratios': short(sampler.explained_variance_ratio_[:MAX_EIGENVALUES]),
        'n_components': sampler.n_components_,
        'kept': float(sampler.explained_variance_ratio_[: sampler.n_components_].sum()),
        'min_eigenvalue': float(sampler.min_eigenvalue),
    }


def _density(points: np.ndarray) -> dict[str, Any]:
    low, high = points.min(axis=0), points.max(axis=0)
    high = np.where(high > low, high, low + 1)
    n_merged = 1 if len(points) > FEW_FRAMES else MERGED
    bins, n_bins = bins_of(points, low, high) // n_merged, N_BINS // n_merged
    shape = (n_bins,) * points.shape[1]
    counts = np.bincount(np.ravel_multi_index(tuple(bins.T), shape), minlength=n_bins ** len(shape))
    edges = [np.linspace(*limits, n_bins + 1) for limits in zip(low, high, strict=True)] + [np.array([-0.5, 0.5])]
    return {'x_edges': short(edges[0]), 'y_edges': short(edges[1]), 'counts': counts.reshape(n_bins, -1).tolist()}


def _picks(points: np.ndarray, reasons: list[str]) -> dict[str, Any]:
    ranks = _thinned(np.arange(len(points)))
    return {
        **_plane(points[ranks]),
        'rank': ranks.tolist(),
        'reason': [reasons[rank] for rank in ranks],
        'n_by_reason': {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
    }


def _plane(points: np.ndarray) -> dict[str, list[float]]:
    """Return the first two scores; a single one lies on the axis."""
    return {'x': short(points[:, 0]), 'y': short(points[:, 1] if points.shape[1] > 1 else np.zeros(len(points)))}


def _cluster_populations(labels: np.ndarray) -> dict[str, Any]:
    populations = np.sort(np.bincount(labels[labels >= 0]))[::-1]
    ranks = _thinned(np.arange(len(populations)))
    return {
        'rank': (ranks + 1).tolist(),
        'population': populations[ranks].tolist(),
        'n_clusters': len(populations),
        'mean': float(populations.mean()) if len(populations) else None,
    }


def _radius_by_budget(points: np.ndarray, picks: np.ndarray, known: np.ndarray, random_state: int) -> dict[str, Any]:
    n_selected, budgets = len(picks), _budgets(len(picks))
    uncovered = Centres(known).nearest(points)[1] if len(known) else np.full(len(points), np.inf, np.float32)
    generator = np.random.default_rng((random_state, 2))
    drawn = [points[generator.permutation(len(points))[:n_selected]] for _ in range(N_RANDOM)]
    farthest = points[k_centre(points, 2 * n_selected, known)[0]]
    return {
        'n_selected': n_selected,
        'n_points': len(points),
        'budgets': budgets.tolist(),
        'selected': short(radius_by_budget(points, _farthest_first(picks, known), budgets, uncovered)),
        'random': short(np.mean([radius_by_budget(points, some, budgets, uncovered) for some in drawn], axis=0)),
        'farthest': short(radius_by_budget(points, farthest, budgets, uncovered)),
        'radius_of_known': float(uncovered.max()) if len(known) else None,
    }


def _farthest_first(picks: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the picks in the order of a farthest-point traversal; those that stand where another one does, last."""
    order = k_centre(picks, len(picks), known)[0]
    return picks[np.concatenate([order, np.setdiff1d(np.arange(len(picks)), order)])]


def _budgets(n_selected: int) -> np.ndarray:
    """Return numbers of frames, evenly spaced in their logarithm, up to twice those selected, and these."""
    if n_selected == 0:
        return np.empty(0, np.int64)
    spaced = np.geomspace(1, 2 * n_selected, MAX_BUDGETS - 1).round().astype(np.int64)
    return np.unique(np.append(spaced, n_selected))


def _thinned(values: np.ndarray) -> np.ndarray:
    """Return at most `MAX_LISTED` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= MAX_LISTED:
        return values
    return values[np.linspace(0, len(values) - 1, MAX_LISTED).round().astype(int)]


# ----------------------------------------------------------------------------------------------------------- drawing


def _draw_explained_variance(axes: Axes, data: Mapping[str, Any]) -> None:
    shown = data['explained_variance']
    eigenvalues = np.array([value for value in shown['eigenvalues'] if value > LEAST_EIGENVALUE])
    if len(eigenvalues) == 0:
        return _say(axes, 'the frames are identical')
    n_kept, numbers, bottom = shown['n_components'], np.arange(1, len(eigenvalues) + 1), 0.7 * eigenvalues.min()
    for part, colour, label in ((slice(n_kept), BLUE, 'kept'), (slice(n_kept, None), GREY, 'left out')):
        if len(numbers[part]):
            axes.bar(numbers[part], eigenvalues[part] - bottom, bottom=bottom, color=colour, label=label)
    axes.set_yscale('log')
    axes.set_ylim(bottom=bottom)
    if shown['min_eigenvalue'] > bottom:
        threshold = f'min_eigenvalue = {shown["min_eigenvalue"]:g}'
        axes.axhline(shown['min_eigenvalue'], color='black', linestyle='--', linewidth=1, label=threshold)
    axes.set(
        xlabel='principal component',
        ylabel='eigenvalue of the correlation matrix',
        title=f'{_n(n_kept, "component")}: {100 * shown["kept"]:.3g}% of the variance',
    )
    _count_along_x(axes)
    axes.legend()


def _draw_selection_map(axes: Axes, data: Mapping[str, Any]) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    density, picks, known = data['density'], data['picks'], data['known']
    counts = np.array(density['counts']).T
    n_selected = sum(picks['n_by_reason'].values())
    image = axes.imshow(
        np.ma.masked_equal(counts, 0),
        extent=(*_ends(density['x_edges']), *_ends(density['y_edges'])),
        origin='lower',
        aspect='auto',
        interpolation='nearest',
        cmap=LinearSegmentedColormap.from_list('density', ['#ececec', '#8c8c8c']),
        norm=LogNorm(1, max(2, counts.max())),
    )
    axes.figure.colorbar(image, label='frames in a bin')
    size = float(np.clip(40 / np.sqrt(n_selected + 1), 3, 6))
    if known['x']:
        axes.plot(known['x'], known['y'], 'x', color='black', markersize=size, label='known')
    x, y, reasons = np.array(picks['x']), np.array(picks['y']), np.array(picks['reason'])
    for reason, n_picks in picks['n_by_reason'].items():
        marker, colour = REASON_STYLES.get(reason, ('o', BLUE))
        these = reasons == reason
        (drawn,) = axes.plot(x[these], y[these], marker, color=colour, markersize=size, label=f'{reason} ({n_picks})')
        drawn.set(markeredgecolor='white', markeredgewidth=0.06 * size)
    axes.set(
        xlabel=_component(data, 0),
        ylabel=_component(data, 1),
        title=f'{n_selected} of {_n(int(counts.sum()), "frame")} selected',
    )
    if len(density['y_edges']) == 2:
        axes.set_yticks([])
    axes.use_sticky_edges = False
    axes.margins(0.03)
    if axes.get_legend_handles_labels()[1]:
        axes.figure.legend(loc='outside lower center', ncols=4, markerscale=max(1.0, 5 / size))


def _draw_cluster_populations(axes: Axes, data: Mapping[str, Any]) -> None:
    shown = data['cluster_populations']
    if shown['n_clusters'] == 0:
        return _say(axes, 'there are no clusters')
    edges = np.append(shown['rank'], shown['n_clusters'] + 1) - 0.5
    axes.stairs(shown['population'], edges, fill=True, color=SKY, alpha=0.5)
    axes.stairs(shown['population'], edges, color=BLUE, linewidth=1.5)
    axes.axhline(shown['mean'], color='black', linestyle='--', linewidth=1, label=f'mean: {shown["mean"]:.4g}')
    axes.set_yscale('log')
    axes.set_ylim(bottom=0.7)
    axes.set(
        xlabel='cluster, by descending population',
        ylabel='frames in the cluster',
        title=f'{_n(shown["n_clusters"], "cluster")}, of {shown["population"][-1]} to {shown["population"][0]} frames',
    )
    _count_along_x(axes)
    axes.legend()


def _draw_radius_by_budget(axes: Axes, data: Mapping[str, Any]) -> None:
    shown = data['radius_by_budget']
    if not shown['selected']:
        return _say(axes, 'no frame was selected')
    curves = (
        ('random', GREY, ':', f'random selections (mean of {N_RANDOM})'),
        ('farthest', ORANGE, '--', 'farthest-point traversal'),
        ('selected', BLUE, '-', 'this selection, farthest first'),
    )
    for name, colour, style, label in curves:
        radii = shown[name]
        axes.plot(shown['budgets'][: len(radii)], radii, style, color=colour, linewidth=2, label=label)
    n_selected, radius = shown['n_selected'], shown['selected'][-1]
    axes.plot([n_selected], [radius], 'o', color=BLUE)
    axes.axvline(n_selected, color='black', linewidth=0.8, label=f'budget: {_n(n_selected, "frame")}')
    if shown['radius_of_known'] is not None:
        axes.axhline(shown['radius_of_known'], color=GREEN, linestyle='-.', label='labelled frames only')
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter('{x:g}')
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel='selected frames',
        ylabel='covering radius: largest distance\nfrom the nearest selected frame (reduced space)',
        title=f'Covering radius against budget, {_n(n_selected, "frame")}: radius {radius:.3g}',
    )
    axes.legend()


def _component(data: Mapping[str, Any], number: int) -> str:
    shown = data['explained_variance']
    if number >= shown['n_components']:
        return ''
    return f'component {number + 1} ({100 * shown["ratios"][number]:.3g}% of the variance)'


def _count_along_x(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _ends(values: list[float]) -> tuple[float, float]:
    return values[0], values[-1]


def _n(number: int, what: str) -> str:
    """Return a number of things in words."""
    return f'{number} {what}' if number == 1 else f'{number} {what}s'


def _say(axes: Axes, text: str) -> None:
    """Write a sentence where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha='center', va='center', transform=axes.transAxes)


DRAWINGS: dict[str, drawing.Drawing] = {
    'explained_variance': _draw_explained_variance,
    'selection_map': _draw_selection_map,
    'cluster_populations': _draw_cluster_populations,
    'radius_by_budget': _draw_radius_by_budget,
}
