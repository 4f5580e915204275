"""Two small games with pixel observations, as Gymnasium environments.

Importing this module imports Gymnasium and registers the games.
"""

from __future__ import annotations

import gymnasium

from zoo.lazy import np

BOARD_SIZE = 10  # cells per side
BALL_GREY, BRICK_GREY = 255, 128  # the former also of the paddle
BRICK_ROWS = slice(1, 4)
MAX_EPISODE_STEPS = 1000  # of breakout


class GridGame(gymnasium.Env):
    """A board of 10 x 10 cells in gray; the actions are left, stay and right.

    Attributes:
        state: an integer array, the complete state of the game.

    Args:
        cell: side of a cell in pixels.
        border: black pixels around the board; observations are 42 pixels wide by default.
        render_mode: `None` or `rgb_array`, as in Gymnasium.
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
        """Returns the observation, uint8 `(side, side, 1)`."""
        cells = np.kron(self.board(), np.ones((self.cell, self.cell), np.uint8))
        return np.pad(cells, self.border)[:, :, None]


class Catch(GridGame):
    """A ball falls; the reward at the end is 1 if the paddle catches it, and -1 if not.

    After Mnih et al., 2014 (arXiv:1406.6247, section 4.2.1) and the game of that name in bsuite;
    the board is 10 x 10. The optimal policy has a return of 1.
    """

    def initial_state(self):
        """Returns the row and column of the ball, and the column of the paddle."""
        return np.array([0, self.np_random.integers(BOARD_SIZE), BOARD_SIZE // 2])

    def transition(self, direction):
        """Moves the paddle by -1, 0 or 1; returns the reward and whether the game is over."""
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
    """A ball removes bricks, for a reward of 1 each, and must not get past the paddle.

    After the game of that name in MinAtar (Young & Tian, 2019, arXiv:1903.03176), without its
    sticky actions: the ball moves diagonally; three rows of bricks are replaced when all are gone;
    and the ball removes only one brick before it turns. Episodes are truncated after 1,000 steps.
    """

    def initial_state(self):
        """Returns position and direction of the ball, paddle, whether it just hit, and bricks."""
        left = self.np_random.integers(2)
        bricks = np.zeros((BOARD_SIZE, BOARD_SIZE), np.int64)
        bricks[BRICK_ROWS] = 1
        ball = [3, 0 if left else BOARD_SIZE - 1, 1, 1 if left else -1]
        return np.concatenate([ball, [BOARD_SIZE // 2 - 1, 0], bricks.reshape(-1)])

    def transition(self, direction):
        """Moves the paddle by -1, 0 or 1; returns the reward and whether the game is over."""
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
