"""The area of a plot: the mapping to pixels, and ticks at their values."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tasks.report.axes import Axis, integer_axis
from tasks.report.plot_area import PlotArea

AREA = PlotArea(integer_axis(1, 5), Axis(0.0, 2.0, [(0.0, "0"), (1.0, "one"), (2.0, "2")]))


def test_corners_are_mapped_to_the_edges():
    assert AREA.to_pixels(1, 0) == (AREA.left, AREA.bottom)
    assert AREA.to_pixels(5, 2) == (AREA.right, AREA.top)
    assert AREA.to_pixels(3, 1) == (
        (AREA.left + AREA.right) / 2,
        (AREA.top + AREA.bottom) / 2,
    )


def test_grid_lines_and_ticks_are_at_their_values():
    svg = AREA.to_svg(AREA.grid("epoch"), "a plot").replace(
        ' xmlns="http://www.w3.org/2000/svg"', ""
    )
    tree = ElementTree.fromstring(svg)
    texts = {text.text: text for text in tree.iter("text")}
    assert set(texts) == {"epoch", "0", "one", "2", "1", "3", "4", "5"}
    assert float(texts["3"].get("x")) == pytest.approx(AREA.x_pixel(3), abs=0.1)
    assert float(texts["one"].get("y")) == pytest.approx(AREA.y_pixel(1) + 4, abs=0.1)
    lines = [path.get("d") for path in tree.iter("path")]
    assert f"M{AREA.left} {AREA.y_pixel(1):.1f}H{AREA.right}" in lines
    assert len(lines) == 3
