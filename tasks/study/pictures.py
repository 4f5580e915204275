"""Pictures of studies: matplotlib figures as SVG in the page, readable on light and dark pages."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Mapping

from tasks.report.formatting import escape
from zoo.errors import UsageError
from zoo.lazy import np

COLORS = ("#3b82f6", "#f97316", "#16a37b", "#a855f7", "#e11d48", "#9a7b00", "#7d8590", "#0ea5b7")
GREY = "#7d8590"  # text and axes: readable on white and on black
SIZE = (6.4, 3.4)  # inches of one panel
_numbers = [0]  # of ids that have been given in a page


def figure(columns: int = 1, rows: int = 1, *, width: float = SIZE[0], height: float = SIZE[1]):
    """Returns a matplotlib figure and its axes, flat: one, or a list of `rows * columns`.

    Args:
        columns, rows: of panels.
        width, height: of the figure, in inches.

    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = drawn.subplots(rows, columns, squeeze=False).ravel().tolist()
    return drawn, axes[0] if len(axes) == 1 else axes


def style():
    """Returns a context in which the figures of a page are drawn in its style.

    Numbers in ids start from 0, so that a picture is the same whichever studies ran before.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise UsageError(
            "zoo study draws with matplotlib: pip install 'keras-zoo[plots]'"
        ) from error
    _numbers[0] = 0
    return rc_context(_style())


def _style():
    from cycler import cycler

    grey = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(grey, GREY),
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.prop_cycle": cycler(linestyle=("-", "--")) * cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "figure.facecolor": "none",
        "font.size": 10,
        "grid.alpha": 0.3,
        "grid.color": GREY,
        "legend.frameon": False,
        "legend.labelcolor": GREY,
    }


def svg(drawn) -> str:
    """Returns a figure as inline SVG."""
    from matplotlib import rc_context

    text = io.StringIO()
    name = f"study{_number()}"
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    found = text.getvalue()
    return re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}", found[found.index("<svg") :])


def animated_paths(drawn, axes, paths: Mapping, seconds: float = 8.0) -> str:
    """Returns a figure with paths that dots follow, again and again, without scripts.

    Readers who prefer reduced motion see each dot at the end of its path.

    Args:
        drawn, axes: a figure and its axes, with their limits; the paths are added, with a legend.
        paths: points `(steps, 2)` by name, one of each per step; all start together.
        seconds: of one run.
    """
    colors = dict(zip(paths, itertools.cycle(COLORS)))
    marks = dict(zip(paths, itertools.cycle(("-",) * len(COLORS) + ("--",) * len(COLORS))))
    for name, path in paths.items():
        axes.plot(*path.T, marks[name], color=colors[name], alpha=0.6, linewidth=1, label=name)
    for line in drawn.legend(loc="outside lower center", ncols=5).get_lines():
        line.set(alpha=1, linewidth=2)
    text, own = svg(drawn), f"race{_number()}"
    style, dots = [], []
    for number, (name, path) in enumerate(paths.items()):
        inside = np.clip(path, *np.transpose([axes.get_xlim(), axes.get_ylim()]))
        inside = axes.transData.transform(inside) * 72 / drawn.dpi
        places = [f"translate({x:.1f}px,{72 * drawn.get_figheight() - y:.1f}px)" for x, y in inside]
        frames = "".join(
            f"{100 * step / (len(places) - 1):.1f}%{{transform:{place}}}"
            for step, place in enumerate(places)
            if step % max(1, len(places) // 60) == 0 or step == len(places) - 1
        )
        style.append(f"@keyframes {own}-{number}{{{frames}}}")
        dots.append(
            f'<circle r="4" fill="{colors[name]}" style="transform:{places[-1]};animation:'
            f'{own}-{number} {seconds:g}s linear infinite"><title>{escape(name)}</title></circle>'
        )
    still = f"@media (prefers-reduced-motion:reduce){{.{own} circle{{animation:none!important}}}}"
    clip = f'<g class="{own}">{"".join(dots)}</g></svg><style>{"".join(style)}{still}</style>'
    return clip.join(text.rsplit("</svg>", 1))


def panels(shown: Iterable[str]) -> str:
    """Returns pictures side by side, or below each other where the page is narrow."""
    return f'<div class="panels">{"".join(f"<div>{picture}</div>" for picture in shown)}</div>'


def text(words: str) -> str:
    """Returns text as a block of the page."""
    return f"<pre>{escape(words)}</pre>"


def slider(pictures: Mapping[str, str], label: str) -> str:
    """Returns pictures of which one is shown at a time, chosen by a row of radio buttons.

    It works without scripts; the arrow keys move along the row.

    Args:
        pictures: HTML by the text of its button, in order; the middle one is shown first.
        label: what the buttons choose, such as `learning rate`.
    """
    name = f"slider{_number()}"
    start = (len(pictures) - 1) // 2
    buttons = "".join(
        f'<input type="radio" name="{name}" id="{name}-{number}"{" checked" * (number == start)}>'
        f'<label for="{name}-{number}">{escape(text)}</label>'
        for number, text in enumerate(pictures)
    )
    panels = "".join(
        f'<div class="panel-{number}">{picture}</div>'
        for number, picture in enumerate(pictures.values())
    )
    shown = ",".join(
        f"#{name}-{number}:checked~div>.panel-{number}" for number in range(len(pictures))
    )
    style = f".{name}>div>div{{display:none}}{shown}{{display:block!important}}{SLIDER_STYLE}"
    return (
        f'<style>{style}</style><div class="slider {name}" role="radiogroup" '
        f'aria-label="{escape(label)}"><span>{escape(label)}</span>{buttons}'
        f"<div>{panels}</div></div>"
    )


def _number():
    _numbers[0] += 1
    return _numbers[0]


def curves(lines: Mapping[str, tuple], **options) -> str:
    """Returns a plot of lines with a legend.

    Args:
        lines: x and y of each line, by name.
        **options: of `matplotlib.axes.Axes.set`, such as `xlabel` and `yscale`.
    """
    drawn, axes = figure()
    for name, (x, y) in lines.items():
        axes.plot(x, y, "o-", label=name)
    axes.set(**options)
    axes.legend()
    return svg(drawn)


def bars(values: Mapping[str, float], **options) -> str:
    """Returns horizontal bars, the first one above.

    Args:
        values: the length of each bar, by name.
        **options: of `matplotlib.axes.Axes.set`, such as `xlabel` and `xscale`.
    """
    drawn, axes = figure(height=1 + 0.4 * len(values))
    axes.barh(list(values), list(values.values()), height=0.6)
    axes.invert_yaxis()
    axes.set(**options)
    axes.xaxis.set_minor_formatter("")
    return svg(drawn)


def images(shown: Mapping[str, object], columns: int = 4, side: float = 2.2) -> str:
    """Returns small images in rows, each with its name above, as one SVG.

    Args:
        shown: by name, uint8 `(height, width)`, gray, or `(height, width, 3)`.
        columns: images per row.
        side: width of an image, in inches.
    """
    rows = -(-len(shown) // columns)
    drawn, axes = figure(columns, rows, width=columns * side, height=rows * (side + 0.3))
    axes = axes if isinstance(axes, list) else [axes]
    for ax in axes:
        ax.axis("off")
    for ax, (name, image) in zip(axes, shown.items(), strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(name)
    return svg(drawn)


SLIDER_STYLE = """
.slider>span{margin-right:.6rem;color:var(--muted);font-size:.875rem}
.slider>input{position:absolute;opacity:0}
.slider>label{display:inline-block;padding:.2rem .7rem;border:1px solid var(--hair);cursor:pointer;
font-size:.875rem;font-variant-numeric:tabular-nums}
.slider>input:checked+label{background:var(--first);color:var(--page)}
.slider>input:focus-visible+label{outline:2px solid var(--second)}
.slider>div{margin-top:.8rem}
"""
