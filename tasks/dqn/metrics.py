"""Returns of episodes: figures, how they are spread, and curves over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.report import axes, confidence_intervals, svg
from tasks.report.formatting import escape
from zoo.lazy import np

_WIDTH, _HEIGHT = 430, 230  # of a picture, in pixels, as the lengths below
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 418, 10, 188  # its axes
_BINS = 20


def compute_metrics(
    returns: Sequence[float], lengths: Sequence[int], *, seed: int
) -> dict[str, float]:
    """Returns what is said of some episodes.

    Args:
        returns: The sum of rewards of each.
        lengths: The steps of each.
        seed: Of the resamples that the interval of the mean comes from.
    """
    ends = (
        confidence_intervals.mean_interval(returns, seed=seed)
        if np.ptp(returns)
        else (np.nan, np.nan)
    )
    return {
        **confidence_intervals.with_interval("mean_return", float(np.mean(returns)), ends),
        "min_return": float(np.min(returns)),
        "max_return": float(np.max(returns)),
        "mean_length": float(np.mean(lengths)),
    }


def return_histogram(returns: Sequence[float]) -> str:
    """Draws how many episodes had which return, as an HTML figure."""
    counts, edges = np.histogram(returns, bins=_BINS)
    x_axis, y_axis = axes.nice_axis(edges.tolist()), axes.nice_axis([0.0, float(counts.max())])
    parts = _axes_and_grid(x_axis, y_axis, "return of an episode")
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        x, end = (_LEFT + (_RIGHT - _LEFT) * x_axis.at(edge) for edge in (left, right))
        y = _BOTTOM - (_BOTTOM - _TOP) * y_axis.at(count)
        hint = f"{count} of {len(returns)} episodes from {left:.4g} to {right:.4g}"
        if count:
            bar = svg.rectangle(x, y, max(1, end - x - 1), _BOTTOM - y, kind="bar", hint=hint)
            parts.append(bar)
    picture = svg.inline_svg(_WIDTH, _HEIGHT, parts, "returns of episodes")
    caption = f"Episodes by their return, {len(returns)} in all."
    return f"<figure><figcaption>{escape(caption)}</figcaption>{picture}</figure>"


def learning_curves(
    histories: Sequence[Sequence[Mapping]], name: str, title: str, steps_per_epoch: int = 1
) -> str:
    """Draws one figure of several runs: their mean, between the least and the largest of them.

    Args:
        histories: Of each run the rows of its epochs, as `history.csv` holds them.
        name: Of the figure, such as `val_mean_return`. It is drawn as far as all runs have it.
        title: Says what is seen.
        steps_per_epoch: What an epoch counts on the axis.
    """
    rows = min(len(history) for history in histories)
    values = np.array([[float(row[name]) for row in history[:rows]] for history in histories])
    steps = steps_per_epoch * np.arange(1, rows + 1)
    x_axis = axes.nice_axis([0.0, float(steps[-1])])
    y_axis = axes.nice_axis([float(values.min()), float(values.max())])

    def places(heights):
        return [
            (_LEFT + (_RIGHT - _LEFT) * x_axis.at(x), _BOTTOM - (_BOTTOM - _TOP) * y_axis.at(y))
            for x, y in zip(steps.tolist(), heights.tolist(), strict=True)
        ]

    low, high, mean = places(values.min(0)), places(values.max(0)), places(values.mean(0))
    outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*high, *reversed(low)])
    parts = [
        *_axes_and_grid(
            x_axis, y_axis, "steps in the environment" if steps_per_epoch > 1 else "epoch"
        ),
        svg.path(f"M{outline}Z", kind="band"),
        svg.polyline(mean, kind="training"),
    ]
    picture = svg.inline_svg(_WIDTH, _HEIGHT, parts, title)
    caption = f"{title}: the mean of {len(histories)} runs, between the least and the largest."
    style = "<style>.band { fill: var(--bar); fill-opacity: .45 }</style>"
    return f"<figure>{style}<figcaption>{escape(caption)}</figcaption>{picture}</figure>"


def _axes_and_grid(x_axis, y_axis, label):
    """Returns the grid and the texts around it."""
    parts = [svg.text((_LEFT + _RIGHT) / 2, _HEIGHT - 4, label)]
    for value, text in y_axis.ticks:
        y = _BOTTOM - (_BOTTOM - _TOP) * y_axis.at(value)
        parts.append(svg.path(f"M{_LEFT} {y:.1f}H{_RIGHT}", kind="grid"))
        parts.append(svg.text(_LEFT - 8, y + 4, text, anchor="end"))
    for value, text in x_axis.ticks:
        x = _LEFT + (_RIGHT - _LEFT) * x_axis.at(value)
        parts.append(svg.text(x, _BOTTOM + 18, text))
    return parts
