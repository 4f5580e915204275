"""Value iteration, Q-learning and DQN on a grid world."""

import zoo
from tasks.dqn import train_step
from tasks.study import Claim, Findings, pictures, study
from tasks.study.grid_world import CELLS, GOAL, GRID, SIZE, START, draw, greedy_path, step
from zoo.lazy import keras, np, tf

DISCOUNT = 0.95


def value_iteration(sweeps=100):
    """Returns the values of all actions in all cells, by sweeps over the known environment."""
    q = np.zeros((SIZE, SIZE, 4))
    for _ in range(sweeps):
        new = np.zeros_like(q)
        for cell in CELLS:
            for action in range(4):
                after, reward, end = step(cell, action)
                new[(*cell, action)] = reward + (0 if end else DISCOUNT * q[after].max())
        q = new
    return q


def q_learning(episodes, exploration, seed, rate=0.5):
    """Returns the values learned from experience alone, and the return of each episode."""
    q, returns, rng = np.zeros((SIZE, SIZE, 4)), [], np.random.default_rng(seed)
    for _ in range(episodes):
        cell, total, end = START, 0.0, False
        for _ in range(100):
            greedy = rng.random() > exploration
            action = int(q[cell].argmax()) if greedy else int(rng.integers(4))
            after, reward, end = step(cell, action)
            target = reward + (0 if end else DISCOUNT * q[after].max())
            q[(*cell, action)] += rate * (target - q[(*cell, action)])
            cell, total = after, total + reward
            if end:
                break
        returns.append(total)
    return q, np.array(returns)


def deep_q_learning(updates, seed, batch_size=64, period=25):
    """Returns the values of a DQN that is trained on random moves, by the targets of the kit."""
    free = [cell for cell in CELLS if GRID[cell[0]][cell[1]] in ".S"]
    moves = [(cell, action, *step(cell, action)) for cell in free for action in range(4)]
    cells, actions, nexts, rewards, ends = zip(*moves, strict=True)
    codes = np.eye(SIZE * SIZE, dtype="float32")
    observed, following = (codes[[SIZE * x + y for x, y in each]] for each in (cells, nexts))
    replay = {
        "observations": observed[:, None],  # of one frame
        "nexts": following[:, None],
        "actions": np.array(actions, "int32"),
        "returns": np.array(rewards, "float32"),
        "discounts": DISCOUNT * (1 - np.array(ends, "float32")),
    }
    online, target = (zoo.build("vector_dqn", input_shape=(SIZE * SIZE,), num_classes=4,
                                widths=(64,)) for _ in range(2))  # fmt: skip
    adam, rng = keras.optimizers.Adam(3e-3), np.random.default_rng(seed)
    adam.build(online.trainable_variables)

    @tf.function
    def update(rows):
        batch = {name: tf.gather(values, rows) for name, values in replay.items()}
        targets = train_step.td_targets(online, target, batch, double=True)
        with tf.GradientTape() as tape:
            values = online(train_step.merge_frames(batch["observations"]))
            errors = targets - tf.gather(values, batch["actions"], axis=1, batch_dims=1)
            loss = tf.reduce_mean(train_step.LOSSES["mse"](errors))
        variables = online.trainable_variables
        adam.apply(tape.gradient(loss, variables), variables)

    for number in range(updates):
        if number % period == 0:
            target.set_weights(online.get_weights())
        update(tf.constant(rng.integers(0, len(moves), batch_size)))
    return np.array(online(codes)).reshape(SIZE, SIZE, 4)


@study(25, "How does an agent learn what its actions are worth?")
def run(seed: int = 0, episodes: int = 3_000, exploration: float = 0.2, updates: int = 1_000):
    """Value iteration computes the value of each action from known rules. Q-learning finds the same
    values by acting, without the rules, as long as it keeps exploring. A DQN puts a network in
    place of the table, trained on stored moves towards the values of a copy of itself."""
    exact, stages = value_iteration(), {}
    for count in sorted({10, 100, 1_000, episodes}):
        learned, returns = q_learning(count, exploration, seed)
        stages[f"{count:,} episodes"] = draw(learned)
    learned, returns = q_learning(episodes, exploration, seed)
    stuck, _ = q_learning(episodes, 0.0, seed)
    deep, path = deep_q_learning(updates, seed), greedy_path(learned)
    start, tried, never = exact[START].max(), (learned != 0).sum(), (stuck != 0).sum()
    drawn, axes = pictures.figure()
    axes.plot(np.convolve(returns, np.ones(50) / 50, "valid"))
    axes.set(xlabel="episode", ylabel="return (mean of 50)")
    return Findings(
        claims=[
            Claim("Q-learning finds the value of the start that value iteration computes.",
                  abs(learned[START].max() - start) < 0.02,
                  f"{learned[START].max():.3f} against {start:.3f}"),
            Claim("Its greedy policy reaches the goal by a shortest path.",
                  path[-1] == GOAL and len(path) == 8, f"{len(path)} steps"),
            Claim("Without exploration it tries fewer actions.", never < tried,
                  f"{never} against {tried}"),
            Claim("The policy of the DQN, too, reaches the goal by a shortest path.",
                  greedy_path(deep)[-1] == GOAL and len(greedy_path(deep)) == 8,
                  f"{len(greedy_path(deep))} steps"),
            # A network approximates: an error here changes the values elsewhere.
            Claim("The DQN comes close to the value of the start.",
                  abs(deep[START].max() - start) < 0.1,
                  f"{deep[START].max():.3f} against {start:.3f}"),
        ],
        pictures=[
            ("Values while learning", pictures.slider(stages, "trained for"),
             "Values spread from the goal backwards, one step per visit. G is the goal, H the "
             "hole, # a wall."),
            ("Value iteration and DQN", pictures.slider(
                {"value iteration": draw(exact), "DQN": draw(deep)}, "values of"),
             "The exact values, and those of the network."),
            ("Returns", pictures.svg(drawn), "Exploration keeps the mean below the optimum."),
        ],
        next_steps=["--exploration 0.9: what happens to values and to returns?",
                    "--updates 100: a DQN needs many", "zoo train dqn: in environments"],
        references=["Watkins & Dayan, 1992", "Mnih et al., 2015 (DQN)",
                    "tasks/dqn/train_step.py; zoo/models/dqn.py"],
    )  # fmt: skip
