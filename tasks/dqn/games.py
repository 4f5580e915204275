"""Two small games for agents that see pixels, as Gymnasium environments.

Importing this file imports Gymnasium and registers them there.
"""

from __future__ import annotations

import gymnasium

from zoo.lazy import np

BOARD_SIZE = 10  # of the board, in cells
BALL_GREY, BRICK_GREY = 255, 128  # grey of the ball and the paddle, and of bricks
BRICK_ROWS = slice(1, 4)  # rows
MAX_EPISODE_STEPS = 1000  # of an episode of `breakout`


class GridGame(gymnasium.Env):
    """A board of 10 x 10 cells in grey, on which one moves left, stays or moves right.

    Attributes:
        state: whole numbers that are all there is to know of a game.

    Args:
        cell: side of a cell in pixels.
        border: black pixels around the board; with those of the default it is 42 pixels wide.
        render_mode: none or `rgb_array`, as Gymnasium has it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, cell=4, border=1, render_mode=None):
        side = BOARD_SIZE * cell + 2 * border
        self.cell, self.border, self.render_mode = cell, border, render_mode
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Box(0, 255, (side, side, 1), np.uint8)
        self.state = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.initial_state()
        return self.observation(), {}

    def step(self, action):
        reward, terminated = self.transition(int(action) - 1)
        return self.observation(), reward, terminated, False, {}

    def render(self):
        return np.repeat(self.observation(), 3, axis=2)

    def observation(self):
        """Returns what the player sees, `(side, side, 1)` in uint8."""
        cells = np.kron(self.board(), np.ones((self.cell, self.cell), np.uint8))
        return np.pad(cells, self.border)[:, :, None]


class Catch(GridGame):
    """A ball falls; the paddle should be where it lands: 1 if it is, -1 if not.

    After Mnih et al., 2014 (arXiv:1406.6247, section 4.2.1) and bsuite's game of that name; the
    board is 10 x 10. A perfect player has a return of 1.
    """

    def initial_state(self):
        """Returns `(row, column)` of the ball and the column of the paddle."""
        return np.array([0, self.np_random.integers(BOARD_SIZE), BOARD_SIZE // 2])

    def transition(self, direction):
        """Moves by -1, 0 or 1; returns the reward and whether that was all."""
        row, column, paddle = self.state
        paddle = min(max(paddle + direction, 0), BOARD_SIZE - 1)
        self.state = np.array([row + 1, column, paddle])
        terminated = row + 1 == BOARD_SIZE - 1
        return (1.0 if column == paddle else -1.0) if terminated else 0.0, bool(terminated)

    def board(self):
        """Returns the cells, `(10, 10)`."""
        row, column, paddle = self.state
        cells = np.zeros((BOARD_SIZE, BOARD_SIZE), np.uint8)
        cells[-1, paddle] = cells[row, column] = BALL_GREY
        return cells


class Breakout(GridGame):
    """A ball takes bricks away and must not get past the paddle: 1 for each brick.

    By the rules of MinAtar's game of that name (Young & Tian, 2019, arXiv:1903.03176), without
    its sticky actions: the ball flies diagonally; three rows of bricks are there again when all
    are gone; and only one brick is taken before the ball turns. An episode ends after 1,000 steps.
    """

    def initial_state(self):
        """Returns ball, its direction, paddle, whether it just took a brick, and the bricks."""
        left = self.np_random.integers(2)
        bricks = np.zeros((BOARD_SIZE, BOARD_SIZE), np.int64)
        bricks[BRICK_ROWS] = 1
        ball = [3, 0 if left else BOARD_SIZE - 1, 1, 1 if left else -1]
        return np.concatenate([ball, [BOARD_SIZE // 2 - 1, 0], bricks.reshape(-1)])

    def transition(self, direction):
        """Moves by -1, 0 or 1; returns the reward and whether that was all."""
        y, x, down, right, paddle, was_hit = self.state[:6].tolist()
        bricks = self.state[6:].reshape(BOARD_SIZE, BOARD_SIZE).copy()
        paddle = min(max(paddle + direction, 0), BOARD_SIZE - 1)
        next_row, next_column = y + down, x + right
        if not 0 <= next_column < BOARD_SIZE:
            next_column, right = min(max(next_column, 0), BOARD_SIZE - 1), -right
        reward, terminated, hit = 0.0, False, False
        if next_row < 0:
            next_row, down = 0, 1
        elif bricks[next_row, next_column]:
            hit = True
            if not was_hit:
                reward, bricks[next_row, next_column] = 1.0, 0
                next_row, down = y, -down
        elif next_row == BOARD_SIZE - 1:
            if not bricks.any():
                bricks[BRICK_ROWS] = 1
            if paddle == x:
                next_row, down = y, -1
            elif paddle == next_column:
                next_row, down, right = y, -1, -right
            else:
                terminated = True
        head = [next_row, next_column, down, right, paddle, int(hit)]
        self.state = np.concatenate([head, bricks.reshape(-1)])
        return reward, terminated

    def board(self):
        """Returns the cells, `(10, 10)`."""
        y, x, _, _, paddle, _ = self.state[:6]
        cells = (BRICK_GREY * self.state[6:].reshape(BOARD_SIZE, BOARD_SIZE)).astype(np.uint8)
        cells[-1, paddle] = cells[y, x] = BALL_GREY
        return cells


gymnasium.register("zoo/Catch-v0", entry_point=Catch)
gymnasium.register("zoo/Breakout-v0", entry_point=Breakout, max_episode_steps=MAX_EPISODE_STEPS)
