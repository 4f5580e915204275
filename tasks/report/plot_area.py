"""The area of a plot: two axes, the mapping from values to pixels, and the grid with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.report import svg
from tasks.report.axes import Axis


@dataclass(frozen=True)
class PlotArea:
    """An SVG plot with a horizontal and a vertical axis; all lengths are in pixels.

    Attributes:
        x_axis, y_axis: The axes.
        width, height: The size of the SVG.
        left, right, top, bottom: The rectangle between the axes.
    """

    x_axis: Axis
    y_axis: Axis
    width: int = 430
    height: int = 230
    left: int = 56
    right: int = 418
    top: int = 10
    bottom: int = 188

    def x_pixel(self, value: float) -> float:
        """Returns the horizontal position of a value of the x axis."""
        return self.left + (self.right - self.left) * self.x_axis.at(value)

    def y_pixel(self, value: float) -> float:
        """Returns the vertical position of a value of the y axis."""
        return self.bottom - (self.bottom - self.top) * self.y_axis.at(value)

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Returns the position of a point."""
        return self.x_pixel(x), self.y_pixel(y)

    def grid(self, x_label: str) -> list[str]:
        """Returns horizontal grid lines, the ticks of both axes, and the label of the x axis."""
        parts = [svg.text((self.left + self.right) / 2, self.height - 4, x_label)]
        for value, label in self.y_axis.ticks:
            y = self.y_pixel(value)
            parts.append(svg.path(f"M{self.left} {y:.1f}H{self.right}", kind="grid"))
            parts.append(svg.text(self.left - 8, y + 4, label, anchor="end"))
        for value, label in self.x_axis.ticks:
            parts.append(svg.text(self.x_pixel(value), self.bottom + 18, label))
        return parts

    def to_svg(self, parts: Sequence[str], label: str) -> str:
        """Returns the SVG of some elements, to be put into a page."""
        return svg.inline_svg(self.width, self.height, parts, label)
