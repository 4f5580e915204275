"""A small grid world: its rules, all its transitions, and pictures of values."""

from __future__ import annotations

from tasks.study import pictures
from zoo.lazy import np

GRID = ("....G", ".#.#.", "...H.", ".#...", "S....")  # start, goal, hole, wall
START, GOAL = (4, 0), (0, 4)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
ARROWS = "↑↓←→"
DARK = "#1f2937"
SIZE = len(GRID)
CELLS = [(row, column) for row in range(SIZE) for column in range(SIZE)]


def step(cell: tuple[int, int], action: int) -> tuple[tuple[int, int], float, bool]:
    """Returns the next cell, the reward and whether the episode ends."""
    row, column = (cell[axis] + MOVES[action][axis] for axis in (0, 1))
    inside = 0 <= row < SIZE and 0 <= column < SIZE
    if not inside or GRID[row][column] == "#":
        row, column = cell
    mark = GRID[row][column]
    return (row, column), {"G": 1.0, "H": -1.0}.get(mark, -0.02), mark in "GH"


def greedy_path(values) -> list[tuple[int, int]]:
    """Returns the cells of the policy of action values `(SIZE, SIZE, 4)`, 30 at most."""
    path, cell, end = [], START, False
    while len(path) < 30 and not end:
        cell, _, end = step(cell, int(values[cell].argmax()))
        path.append(cell)
    return path


def draw(values) -> str:
    """Returns a picture of the value of each cell, with the best action."""
    drawn, axes = pictures.figure(width=4.2, height=4)
    free = np.array([[mark in ".S" for mark in row] for row in GRID])
    shown = np.ma.masked_where(~free, values.max(-1))
    colors = axes.imshow(shown, cmap="viridis")
    colors.set_cmap(colors.cmap.with_extremes(bad=DARK))  # walls, goal and hole have no values
    for row, column in CELLS:
        mark = GRID[row][column]
        text = ARROWS[np.argmax(values[row, column])] if mark in ".S" else mark
        bright = free[row, column] and colors.norm(shown[row, column]) > 0.6
        ink = DARK if bright else "white"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=14)
    drawn.colorbar(colors, label="value of the best action", shrink=0.8)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    return pictures.svg(drawn)
