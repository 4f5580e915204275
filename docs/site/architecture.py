"""Draws the packages and their imports: python docs/site/architecture.py

Writes docs/architecture.svg, the picture of docs/architecture.md, from the import statements and
the one-line docstrings of the packages. A test compares the file with the code.
"""

from __future__ import annotations

import ast
import html
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "architecture.svg"
ABOVE = (
    ("scripts",),
    ("tasks.api", "tasks.export", "tasks.serve", "tasks.study"),
    ("tasks.deploy", "tasks.advice", "tasks.tuning", "tasks.runs"),
)
BELOW = (
    ("tasks.engine",),
    ("tasks.web",),
    ("tasks.inference", "tasks.distributed", "tasks.explain"),
    ("tasks.data", "tasks.report"),
    ("zoo",),
)
# The other packages in `tasks` are those of single tasks.
TASKS = tuple(
    name
    for path in sorted((ROOT / "tasks").glob("*/__init__.py"))
    if (name := f"tasks.{path.parent.name}") not in sum(ABOVE + BELOW, ())
)
ROWS = (*ABOVE, TASKS, *BELOW)  # from the top down; a package imports only from the rows below
WIDTH, GAP, HEIGHT, ROW = 1120, 16, 64, 112  # pixels
LINE_HEIGHT, LETTER = 13, 5.9
STRING_MODULE = re.compile(r"((?:zoo|tasks|scripts)(?:\.\w+)+)(?::\w+)?")


def imported(path):
    """Returns the dotted names that a file imports, also those in strings of lazy imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = STRING_MODULE.fullmatch(node.value)
            if match and (ROOT / f"{match[1].replace('.', '/')}.py").exists():
                yield match[1]


def package_of(name):
    """Returns the package of `ROWS` that a dotted name is in, or `None`."""
    found = [p for row in ROWS for p in row if name == p or name.startswith(f"{p}.")]
    return max(found, key=len, default=None)


def arrows():
    """Returns pairs of packages, the importing one first, without those that others imply."""
    uses = {package: set() for row in ROWS for package in row}
    for package in uses:
        for path in (ROOT / package.replace(".", "/")).rglob("*.py"):
            uses[package] |= {package_of(name) for name in imported(path)} - {None, package}

    def reachable(package):
        return {package}.union(*(reachable(other) for other in uses[package]))

    return [
        (package, other)
        for package in uses
        for other in sorted(uses[package])
        if not any(other in reachable(third) for third in uses[package] - {other})
    ]


def summary(package):
    """Returns the first sentence of a package's docstring."""
    source = (ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
    return re.split(r"[.;]\s|\.$", ast.get_docstring(ast.parse(source)).split("\n\n")[0])[
        0
    ].replace("`", "")


def draw():
    """Returns the picture, as the text of an SVG file."""
    boxes, parts = {}, []
    for number, row in enumerate(ROWS):
        width = (WIDTH - GAP * (len(row) + 1)) / max(len(row), 3)
        left = (WIDTH - len(row) * width - (len(row) - 1) * GAP) / 2
        for index, package in enumerate(row):
            x, y = left + index * (width + GAP), GAP + number * ROW
            boxes[package] = (x, y, width)
            parts.append(_box(package, x, y, width))
    lines = [_arrow(boxes[top], boxes[bottom]) for top, bottom in arrows()]
    height = len(ROWS) * ROW - (ROW - HEIGHT) + 2 * GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="system-ui, sans-serif" role="img">',
            "<title>The packages of keras-zoo; arrows are imports</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#64748b"/>'
            "</marker></defs>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *lines,
            *parts,
            "</svg>\n",
        ]
    )


def _box(package, x, y, width):
    lines = textwrap.wrap(html.unescape(summary(package)), int((width - 16) / LETTER))[:3]
    middle = x + width / 2
    name = package if width > WIDTH / 4 else package.rpartition(".")[2]
    color = "#eff6ff" if package.startswith("tasks") else "#f0fdf4"
    text = "".join(
        f'<text x="{middle:.1f}" y="{y + 31 + LINE_HEIGHT * number:.1f}" font-size="11" '
        f'fill="#334155" text-anchor="middle">{html.escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="6" '
        f'fill="{color}" stroke="#64748b"/>'
        f'<text x="{middle:.1f}" y="{y + 16:.1f}" font-size="13" font-weight="600" fill="#0f172a" '
        f'text-anchor="middle">{name}</text>{text}'
    )


def _arrow(top, bottom):
    x1, y1, x2, y2 = top[0] + top[2] / 2, top[1] + HEIGHT, bottom[0] + bottom[2] / 2, bottom[1]
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} '
        f'{x2:.1f} {y2:.1f}" fill="none" stroke="#64748b" marker-end="url(#head)"/>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
