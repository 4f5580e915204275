"""What a network of a given depth and width can and cannot fit."""

import zoo
from tasks.study import Claim, Findings, pictures, study, training
from zoo.lazy import keras, np

CORNERS = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))  # x1, x2, XOR of both
WIDTHS = {"no hidden layer": (), "2 units": (2,), "8 units": (8,), "64 units": (64,),
          "2 layers of 32": (32, 32)}  # fmt: skip


def network(inputs, widths, **options):
    """Returns the zoo's multilayer perceptron with one output."""
    return zoo.build("mlp", input_shape=(1, inputs, 1), num_classes=1, widths=widths, **options)


def fitted(x, y, widths, steps, seed, loss="binary", activation="tanh"):
    """Returns a trained network and its score: accuracy, or mean squared error."""
    model = network(x.shape[1], widths, activation=activation)
    images = training.pixels(x).reshape(len(x), 1, -1, 1)
    curve = training.train(model, images, y.astype("float32"), steps=steps, loss=loss, seed=seed,
                           optimizer=keras.optimizers.Adam(0.02), batch_size=64)  # fmt: skip
    return model, curve.scores[-1]


def outputs(model, x):
    """Returns the outputs of a network for points `(n, inputs)`."""
    return np.array(model(training.pixels(x).reshape(len(x), 1, -1, 1)))[:, 0]


def spirals(count, seed, turns=1.5):
    """Returns points on two arms of a spiral, and the arm of each."""
    rng = np.random.default_rng(seed)
    arm, distance = rng.integers(0, 2, count), np.sqrt(rng.uniform(0.02, 1, count))
    angle = 2 * np.pi * turns * distance + np.pi * arm
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * distance[:, None]
    return x + rng.normal(0, 0.02, x.shape), arm


def sawtooth(layers):
    """Returns the number of straight pieces of a ReLU network that folds [0, 1] once per layer."""
    model = network(1, (2,) * layers, activation="relu")
    fold = [np.array([[2.0, 2.0], [-4.0, -4.0]]), np.array([0.0, -0.5])]  # of 2 a - 4 b
    first = [np.array([[1.0, 1.0]]), fold[1]]
    model.set_weights([*first, *fold * (layers - 1), np.array([[2.0], [-4.0]]), np.zeros(1)])
    y = outputs(model, np.linspace(0, 1, 64 * 2**layers + 1)[:, None])
    return 1 + int(np.sum(np.diff(np.sign(np.diff(y))) != 0)), y


@study(1, "Which functions can a network of a given depth and width fit?")
def run(seed: int = 0, steps: int = 1_000, layers: int = 5):
    """Without a hidden layer a network separates points by a straight line only. Each hidden unit
    adds one bend, and enough units fit any continuous function. Depth multiplies: each layer can
    fold what the layers before it made, so pieces double with every layer of two units."""
    corners = np.array(CORNERS)
    xor = {name: fitted(2 * corners[:, :2] - 1, corners[:, 2], widths, steps // 2, seed)[1]
           for name, widths in (("linear", ()), ("hidden", (8,)))}  # fmt: skip
    x, arm = spirals(400, seed)
    axis = np.linspace(-1.2, 1.2, 90)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    shown, accuracy = {}, {}
    for name, widths in training.progress(WIDTHS.items(), "spirals"):
        model, accuracy[name] = fitted(x, arm, widths, 2 * steps, seed)
        drawn, axes = pictures.figure(width=4.4, height=4)
        axes.contourf(axis, axis, outputs(model, grid).reshape(90, 90), [-1e9, 0, 1e9], alpha=0.3,
                      colors=pictures.COLORS[:2])  # fmt: skip
        axes.scatter(*x.T, c=[pictures.COLORS[a] for a in arm], s=7)
        axes.set(title=f"{name}: accuracy {accuracy[name]:.2f}", aspect="equal")
        shown[name] = pictures.svg(drawn)
    line = np.linspace(-1, 1, 256)[:, None]
    wave = np.sin(9 * line[:, 0]) * (1 + line[:, 0]) / 2
    drawn, axes = pictures.figure()
    axes.plot(line, wave, "--", color=pictures.GREY, label="function")
    errors = {}
    for width in (2, 6, 64):
        model, errors[width] = fitted(line, wave, (width,), 2 * steps, seed, "mse", "relu")
        axes.plot(line, outputs(model, line), label=f"{width} ReLU units")
    axes.legend()
    pieces = [sawtooth(depth)[0] for depth in range(1, layers + 1)]
    drawn_folds, axes = pictures.figure()
    for depth in sorted({1, 2, layers}):
        y = sawtooth(depth)[1]
        axes.plot(
            np.linspace(0, 1, len(y)), y, label=f"{depth} layer{'s' * (depth > 1)} of 2 units"
        )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=3)
    return Findings(
        claims=[
            Claim("Without a hidden layer no more than three corners of XOR are right.",
                  xor["linear"] <= 0.75, f"{xor['linear']:.0%}"),
            Claim("With 8 hidden units all four are.", xor["hidden"] == 1, f"{xor['hidden']:.0%}"),
            # A line through two interleaved spirals is near chance; 0.8 and 0.97 leave a margin
            # of several standard errors of 400 points (0.02).
            Claim("Two hidden units cannot separate the spirals; two layers of 32 can.",
                  accuracy["2 units"] < 0.8 < 0.97 < accuracy["2 layers of 32"],
                  f"{accuracy['2 units']:.2f} and {accuracy['2 layers of 32']:.2f}"),
            Claim("64 ReLU units fit the wiggly line with under a quarter of the error of 2.",
                  errors[64] < errors[2] / 4, f"{errors[64]:.4f} and {errors[2]:.4f}"),
            Claim("Pieces double with each layer of two units; one layer of n units has at most "
                  "n + 1.", pieces == [2**d for d in range(1, layers + 1)], f"{pieces}"),
        ],
        pictures=[
            ("Spirals", pictures.slider(shown, "network"), "The border has a bend per unit."),
            ("A wiggly line", pictures.svg(drawn), "A ReLU network is made of straight pieces."),
            ("Folds", pictures.svg(drawn_folds), "Each layer doubles the number of teeth."),
        ],
        next_steps=["--layers 8: how many units would one layer need for as many pieces?",
                    "--steps 100: a network that can fit a function must still be trained to"],
        references=["Minsky & Papert, 1969: Perceptrons",
                    "Cybenko, 1989: Approximation by superpositions of a sigmoidal function",
                    "Telgarsky, 2016: Benefits of depth in neural networks", "zoo/models/mlp.py"],
    )  # fmt: skip
