"""SVG elements as strings: lengths in pixels, CSS classes for the styles, text escaped.

A `hint` is a tooltip.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.report.formatting import escape

BASE_STYLE = """
text { font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  fill: #59636e }
.paper { fill: #fff } .title { fill: #1b1f24; font-weight: 600 }
"""


def inline_svg(width: float, height: float, parts: Iterable[str], label: str = "") -> str:
    """Returns an SVG of elements; one without a label is ignored by screen readers."""
    aria = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" {aria}>{"".join(parts)}</svg>'
    )


def standalone_svg(
    width: float, height: float, parts: Iterable[str], label: str, style: str
) -> str:
    """Returns the text of an SVG file, with a white background and its own style sheet.

    Args:
        width, height: The size in pixels.
        parts: The elements.
        label: The description for screen readers.
        style: CSS; by default text is gray, or dark with the class `title`.
    """
    paper = rectangle(0, 0, width, height, kind="paper")
    return inline_svg(width, height, [f"<style>{BASE_STYLE}{style}</style>", paper, *parts], label)


def text(x, y, content, *, anchor="middle", kind="label", size=12, turn=0, hint="") -> str:
    """Returns text with its `anchor` at a point, rotated clockwise about it by `turn` degrees."""
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'font-size="{size:.3g}"{turned}>{escape(content)}{_title(hint)}</text>'
    )


def rectangle(x, y, width, height, *, kind, opacity=1.0, hint="") -> str:
    """Returns a rectangle with its upper left corner at a point."""
    return (
        f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill-opacity="{opacity:.3g}">{_title(hint)}</rect>'
    )


def circle(x, y, radius, *, kind, hint="") -> str:
    """Returns a circle around a point."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{_title(hint)}</circle>'


def path(data: str, *, kind, hint="") -> str:
    """Returns a path; `data` is its SVG path data."""
    return f'<path class="{kind}" d="{data}">{_title(hint)}</path>'


def polyline(points: Iterable[tuple[float, float]], *, kind) -> str:
    """Returns a polyline through points."""
    return path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), kind=f"line {kind}")


def _title(hint):
    return f"<title>{escape(hint)}</title>" if hint else ""
