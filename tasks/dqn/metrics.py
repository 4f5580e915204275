"""Metrics of the returns of episodes, their histogram, and learning curves over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.report import axes, confidence_intervals, svg
from tasks.report.baselines import compare_to_baseline
from tasks.report.formatting import escape, format_value
from tasks.report.plot_area import PlotArea
from zoo.lazy import np

_BINS = 20


def compute_metrics(
    returns: Sequence[float], lengths: Sequence[int], *, seed: int
) -> dict[str, float]:
    """Returns the metrics of some episodes by name.

    Args:
        returns: the undiscounted sum of rewards per episode.
        lengths: the number of steps per episode.
        seed: seed of the bootstrap interval of the mean.
    """
    interval = (
        confidence_intervals.mean_interval(returns, seed=seed)
        if np.ptp(returns)
        else (np.nan, np.nan)
    )
    return {
        **confidence_intervals.with_interval("mean_return", float(np.mean(returns)), interval),
        "min_return": float(np.min(returns)),
        "max_return": float(np.max(returns)),
        "mean_length": float(np.mean(lengths)),
    }


def return_warnings(figures: Mapping[str, float]) -> list[str]:
    """Returns a warning if an agent is not better than `random_return`, that of random actions."""
    baseline = figures["random_return"]
    description = f"random actions ({format_value('mean_return', baseline)})"
    return compare_to_baseline("mean_return", "mean return", figures, baseline, description)


def return_histogram(returns: Sequence[float]) -> str:
    """Returns a histogram of the returns of episodes as an HTML figure."""
    counts, edges = np.histogram(returns, bins=_BINS)
    area = PlotArea(axes.nice_axis(edges.tolist()), axes.nice_axis([0.0, float(counts.max())]))
    parts = area.grid("return per episode")
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        x, end, y = area.x_pixel(left), area.x_pixel(right), area.y_pixel(count)
        tooltip = f"{count} of {len(returns)} episodes with a return of {left:.4g} to {right:.4g}"
        if count:
            bar = svg.rectangle(
                x, y, max(1, end - x - 1), area.bottom - y, kind="bar", hint=tooltip
            )
            parts.append(bar)
    plot = area.to_svg(parts, "returns of episodes")
    caption = f"Histogram of the returns of {len(returns)} episodes."
    return f"<figure><figcaption>{escape(caption)}</figcaption>{plot}</figure>"


def learning_curves(
    histories: Sequence[Sequence[Mapping]], name: str, title: str, steps_per_epoch: int = 1
) -> str:
    """Returns the mean of a metric over several runs, with its range as a band, as HTML figure.

    Args:
        histories: the rows of `history.csv` of each run.
        name: the metric, such as `val_mean_return`, plotted for the epochs that all runs have.
        title: title of the plot.
        steps_per_epoch: scale of the horizontal axis.
    """
    rows = min(len(history) for history in histories)
    values = np.array([[float(row[name]) for row in history[:rows]] for history in histories])
    steps = steps_per_epoch * np.arange(1, rows + 1)
    area = PlotArea(
        axes.nice_axis([0.0, float(steps[-1])]),
        axes.nice_axis([float(values.min()), float(values.max())]),
    )

    def points(curve):
        return [
            area.to_pixels(*point) for point in zip(steps.tolist(), curve.tolist(), strict=True)
        ]

    low, high, mean = points(values.min(0)), points(values.max(0)), points(values.mean(0))
    outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*high, *reversed(low)])
    parts = [
        *area.grid("environment steps" if steps_per_epoch > 1 else "epoch"),
        svg.path(f"M{outline}Z", kind="band"),
        svg.polyline(mean, kind="training"),
    ]
    plot = area.to_svg(parts, title)
    caption = f"{title}: mean of {len(histories)} runs, with minimum and maximum."
    style = "<style>.band { fill: var(--bar); fill-opacity: .45 }</style>"
    return f"<figure>{style}<figcaption>{escape(caption)}</figcaption>{plot}</figure>"
