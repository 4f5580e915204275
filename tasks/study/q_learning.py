"""Value iteration and Q-learning on a grid world."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import np

GRID = ("....G", ".#.#.", "...H.", ".#...", "S....")  # start, goal, hole, wall
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
ARROWS = "↑↓←→"
SIZE = len(GRID)


def step(cell, action):
    """Returns the next cell, the reward and whether the episode ends."""
    row, column = (cell[axis] + MOVES[action][axis] for axis in (0, 1))
    inside = 0 <= row < SIZE and 0 <= column < SIZE
    if not inside or GRID[row][column] == "#":
        row, column = cell
    mark = GRID[row][column]
    return (row, column), {"G": 1.0, "H": -1.0}.get(mark, -0.02), mark in "GH"


def value_iteration(discount, sweeps=100):
    """Returns the values of all actions in all cells, by sweeps over the known environment."""
    q = np.zeros((SIZE, SIZE, 4))
    for _ in range(sweeps):
        new = np.zeros_like(q)
        for row in range(SIZE):
            for column in range(SIZE):
                for action in range(4):
                    cell, reward, end = step((row, column), action)
                    new[row, column, action] = reward + (0 if end else discount * q[cell].max())
        q = new
    return q


def q_learning(episodes, discount, rate, exploration, rng):
    """Returns the values learned from experience alone, and the return of each episode."""
    q, returns = np.zeros((SIZE, SIZE, 4)), []
    for _ in range(episodes):
        cell, total, end = (4, 0), 0.0, False
        for _ in range(100):
            greedy = rng.random() > exploration
            action = int(q[cell].argmax()) if greedy else int(rng.integers(4))
            after, reward, end = step(cell, action)
            target = reward + (0 if end else discount * q[after].max())
            q[(*cell, action)] += rate * (target - q[(*cell, action)])
            cell, total = after, total + reward
            if end:
                break
        returns.append(total)
    return q, np.array(returns)


def draw(q):
    """Returns a picture of the value of each cell, with the best action."""
    drawn, axes = pictures.figure(width=4.2, height=4)
    axes.imshow(q.max(-1), cmap="viridis")
    for row in range(SIZE):
        for column in range(SIZE):
            mark = GRID[row][column]
            text = ARROWS[q[row, column].argmax()] if mark in ".S" else mark
            axes.text(column, row, text, ha="center", va="center", color="white", fontsize=14)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    return pictures.svg(drawn)


@study(25, "How does an agent learn what its actions are worth?")
def run(seed: int = 0, episodes: int = 3_000, exploration: float = 0.2):
    """Value iteration computes the value of each action from known rules. Q-learning finds the same
    values by acting, without the rules, as long as it keeps exploring."""
    discount, rng = 0.95, np.random.default_rng(seed)
    exact = value_iteration(discount)
    stages = {}
    for count in sorted({10, 100, 1_000, episodes}):
        q, _ = q_learning(count, discount, 0.5, exploration, np.random.default_rng(seed))
        stages[f"{count:,} episodes"] = draw(q)
    learned, returns = q_learning(episodes, discount, 0.5, exploration, rng)
    stuck, _ = q_learning(episodes, discount, 0.5, 0.0, np.random.default_rng(seed))
    path, cell = [], (4, 0)
    while len(path) < 30:
        cell, _, end = step(cell, int(learned[cell].argmax()))
        path.append(cell)
        if end:
            break
    start_error = abs(learned[4, 0].max() - exact[4, 0].max())
    visited = {True: (learned != 0).mean(), False: (stuck != 0).mean()}
    drawn, axes = pictures.figure()
    axes.plot(np.convolve(returns, np.ones(50) / 50, "valid"))
    axes.set(xlabel="episode", ylabel="return (mean of 50)")
    return Findings(
        claims=[
            Claim("Q-learning finds the value of the start that value iteration computes.",
                  start_error < 0.02, f"{learned[4, 0].max():.3f} against {exact[4, 0].max():.3f}"),
            Claim("Its greedy policy reaches the goal by a shortest path.",
                  path[-1] == (0, 4) and len(path) == 8, f"{len(path)} steps"),
            Claim("Without exploration it tries fewer actions.", visited[False] < visited[True],
                  f"{visited[False]:.0%} against {visited[True]:.0%} of all"),
        ],
        pictures=[
            ("Values while learning", pictures.slider(stages, "trained for"),
             "Values spread from the goal backwards, one step per visit."),
            ("Value iteration", draw(exact), "The exact values."),
            ("Returns", pictures.svg(drawn), "Exploration keeps the mean below the optimum."),
        ],
        next_steps=["--exploration 0.9: what happens to values and to returns?",
                    "zoo train dqn: a network in place of the table"],
        references=["Watkins & Dayan, 1992", "Mnih et al., 2015 (DQN)", "tasks/dqn"],
    )  # fmt: skip
