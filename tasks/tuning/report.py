"""Sections of the HTML page of a search: table of trials, history, importance of flags."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

from tasks.report import axes, page, svg
from tasks.report.formatting import display_name, format_value
from tasks.report.plot_area import PlotArea

MIN_SCORED_TRIALS = 8  # scored trials that the importance of flags needs
NUM_BINS = 4  # groups of trials along a range
MAX_VALUE_LENGTH = 22  # characters of a value that are displayed

_WIDTH, _HEIGHT = 860, 320  # of a plot, in pixels, as all lengths below
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 800, 34, 280
_SIZES = {"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT}
_SIZES |= {"top": _TOP, "bottom": _BOTTOM}
_BAR_WIDTH, _ROW_HEIGHT = 420, 26  # of the bar chart of importances


def trials_table(rows: Sequence[Mapping]) -> str:
    """Returns the table of trials, sorted by descending score; those without a score come last.

    Args:
        rows: Records of the trials, with `trial`, `status`, `score` or `None`, `epochs`,
            `seconds`, `reason` and the `flags` by name.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["flags"]))
    ordered = sorted(rows, key=lambda row: -math.inf if row["score"] is None else row["score"])
    cells = [
        {**row, **row["flags"], "score": _rounded_score(row["score"])} for row in ordered[::-1]
    ]
    columns = ["trial", "status", "score", "epochs", "seconds", *names, "reason"]
    return page.table(cells, columns)


def optimization_history(rows: Sequence[Mapping]) -> str:
    """Plots the score of each trial in order, and the best score so far."""
    points, best = [], []
    for position, row in enumerate(rows, start=1):
        if _is_scored(row):
            points.append((position, row))
            best.append((position, max(row["score"], best[-1][1] if best else -math.inf)))
    if not points:
        return "<p>No trial has a score.</p>"
    x_axis = axes.integer_axis(1, max(2, len(rows)))
    y_axis = axes.nice_axis([row["score"] for _, row in points])
    area = PlotArea(x_axis, y_axis, **_SIZES)
    parts = area.grid("trial")
    corners = [area.to_pixels(*best[0])]
    for x, y in best[1:]:
        corners += [(area.x_pixel(x), corners[-1][1]), area.to_pixels(x, y)]
    parts.append(svg.polyline(corners, kind="validation"))
    parts += [
        svg.circle(*area.to_pixels(x, row["score"]), 3, kind="training", hint=_tooltip(row))
        for x, row in points
    ]
    picture = area.to_svg(parts, "score by trial")
    note = "Each circle is the score of a trial; the line is the best score so far."
    return f"<figure><figcaption>{note}</figcaption>{picture}</figure>"


def parallel_coordinates(rows: Sequence[Mapping], spans: Sequence[Mapping]) -> str:
    """Plots each trial as a line through the values of its flags to its score.

    Args:
        rows: Records of the trials, as for `trials_table`.
        spans: Searched ranges, dicts with `name` and either `values` or `low`, `high` and `log`.
    """
    scored = sorted(filter(_is_scored, rows), key=lambda row: row["score"])
    if not scored or not spans:
        return "<p>Nothing to plot: no trial has a score, or no range was searched.</p>"
    y_axis = axes.nice_axis([row["score"] for row in scored])
    step = (_RIGHT - _LEFT) / len(spans)
    parts = []
    for rank, row in enumerate(scored):
        heights = [
            (_LEFT + n * step, _relative_position(span, row)) for n, span in enumerate(spans)
        ]
        points = [(x, y) for x, y in heights if y is not None] + [(_RIGHT, y_axis.at(row["score"]))]
        data = "M" + "L".join(f"{x:.1f} {_y_pixel(y):.1f}" for x, y in points)
        best = rank == len(scored) - 1
        line = svg.path(
            data, kind=f"line {'validation' if best else 'training'}", hint=_tooltip(row)
        )
        shade = 1 if best else 0.1 + 0.7 * rank / len(scored)
        parts.append(f'<g style="opacity:{shade:.2f}">{line}</g>')
    for position, span in enumerate(spans):
        parts += _vertical_axis(_LEFT + position * step, span["name"], _ticks(span))
    ticks = [(y_axis.at(value), text) for value, text in y_axis.ticks]
    parts += _vertical_axis(_RIGHT, "score", ticks, anchor="start")
    picture = svg.inline_svg(_WIDTH, _HEIGHT, parts, "trials through their flags")
    note = "Each line is a trial. Better trials are darker; the best one is orange."
    return f"<figure><figcaption>{note}</figcaption>{picture}</figure>"


def flag_importances(rows: Sequence[Mapping], spans: Sequence[Mapping]) -> str:
    """Plots the share of the variance of scores that each flag explains, as `omega_squared`."""
    scored = [row for row in rows if _is_scored(row)]
    if len(scored) < MIN_SCORED_TRIALS or not spans:
        return f"<p>Importance needs at least {MIN_SCORED_TRIALS} trials with a score.</p>"
    shares = [(omega_squared(scored, span), span["name"]) for span in spans]
    parts, left = [], 180
    for row, (share, name) in enumerate(sorted(shares, reverse=True)):
        top = row * _ROW_HEIGHT + 4
        parts.append(svg.text(left - 8, top + 14, display_name(name), anchor="end", kind="name"))
        parts.append(svg.rectangle(left, top, max(1, _BAR_WIDTH * share), 16, kind="bar"))
        text = f"{share:.0%}"
        parts.append(svg.text(left + _BAR_WIDTH * share + 6, top + 13, text, anchor="start"))
    picture = svg.inline_svg(
        left + _BAR_WIDTH + 60, len(shares) * _ROW_HEIGHT + 8, parts, "importance of flags"
    )
    note = (
        "Share of the variance of the scores that is explained by groups of trials (omega squared, "
        f"corrected for chance). Each choice is a group; a range has {NUM_BINS} groups of equal "
        "size. Each flag is considered alone, without interactions. An engine that samples near "
        "good scores makes flags look less important than they are."
    )
    return f"<figure><figcaption>{note}</figcaption>{picture}</figure>"


def omega_squared(rows: Sequence[Mapping], span: Mapping) -> float:
    """Returns the share of the variance of scores that groups by a flag explain, in [0, 1].

    It is omega squared, `(between - (groups - 1) * within) / (total + within)`, where `within` is
    the mean square within the groups; negative values are clipped to 0.

    Args:
        rows: Records of trials with a score.
        span: The range of the flag, as in `parallel_coordinates`.
    """
    groups = _score_groups([row for row in rows if span["name"] in row["flags"]], span)
    scores = [score for group in groups for score in group]
    if len(groups) < 2 or len(scores) <= len(groups):
        return 0.0
    mean = statistics.fmean(scores)
    total = sum((score - mean) ** 2 for score in scores)
    between = sum(len(group) * (statistics.fmean(group) - mean) ** 2 for group in groups)
    within = (total - between) / (len(scores) - len(groups))
    if total + within <= 0:
        return 0.0
    return min(1.0, max(0.0, (between - (len(groups) - 1) * within) / (total + within)))


def _score_groups(rows, span):
    """Returns the scores of trials in groups: by choice, or by quantile of a range."""
    name = span["name"]
    if "values" in span:
        found = [[row["score"] for row in rows if row["flags"][name] == v] for v in span["values"]]
    else:
        ordered = [row["score"] for row in sorted(rows, key=lambda row: row["flags"][name])]
        ends = [round(len(ordered) * part / NUM_BINS) for part in range(NUM_BINS + 1)]
        found = [ordered[a:b] for a, b in itertools.pairwise(ends)]
    return [group for group in found if group]


def _is_scored(row):
    return row["score"] is not None and row["status"] in ("completed", "stopped")


def _relative_position(span, row):
    """Returns the position of a trial within a range, in [0, 1]; `None` without such a flag."""
    value = row["flags"].get(span["name"])
    if value is None:
        return None
    if "values" in span:
        last = len(span["values"]) - 1
        return span["values"].index(value) / last if last else 0.5
    low, high = span["low"], span["high"]
    if span["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _ticks(span):
    """Returns positions and labels of ticks: all choices, or both ends and three between."""
    if "values" in span:
        last = max(1, len(span["values"]) - 1)
        middle = 0.5 if len(span["values"]) == 1 else 0
        return [(middle or n / last, _truncate(value)) for n, value in enumerate(span["values"])]
    positions = [n / 4 for n in range(5)]
    low, high = span["low"], span["high"]
    if span["log"]:
        return [(position, f"{low * (high / low) ** position:.2g}") for position in positions]
    return [(position, f"{low + (high - low) * position:.3g}") for position in positions]


def _vertical_axis(x, name, ticks, anchor="end"):
    parts = [svg.path(f"M{x:.1f} {_TOP}V{_BOTTOM}", kind="frame")]
    parts.append(svg.text(x, _TOP - 16, display_name(name), kind="name", hint=name))
    aside = x + (5 if anchor == "start" else -5)
    texts = [svg.text(aside, _y_pixel(y) + 4, t, anchor=anchor, size=11) for y, t in ticks]
    return parts + texts


def _y_pixel(height):
    return _BOTTOM - (_BOTTOM - _TOP) * height


def _tooltip(row):
    flags = ", ".join(f"{name} {_truncate(value)}" for name, value in row["flags"].items())
    return f"trial {row['trial']}: {format_value('score', row['score'])} ({flags})"


def _rounded_score(score):
    return "" if score is None else round(score, 5)


def _truncate(value):
    text = str(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 1]}…"
