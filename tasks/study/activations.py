"""Activation functions: shape, derivative, and what a deep stack does to the gradient."""

import math

import zoo
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np, tf

NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "silu", "gelu")


def values_and_slopes(name, grid):
    """Returns Keras's activation and its derivative at each point of a grid."""
    x = tf.constant(grid)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.activations.get(name)(x)
    return y.numpy(), tape.gradient(y, x).numpy()


def gradient_ratio(name, depth, width, seed):
    """Returns the size of the gradient at the input of a deep stack, relative to its output."""
    rng = np.random.default_rng(seed)
    x = tf.constant(rng.normal(size=(64, width)))
    scale = (1 if name in ("sigmoid", "tanh") else 2) ** 0.5 / width**0.5  # Xavier, He
    with tf.GradientTape() as tape:
        tape.watch(x)
        h = x
        for _ in range(depth):
            h = keras.activations.get(name)(h @ (scale * rng.normal(size=(width, width))))
        direction = tf.constant(rng.normal(size=h.shape))
        value = tf.reduce_sum(h * direction)
    return float(tf.norm(tape.gradient(value, x)) / tf.norm(direction))


def gelu_errors(grid):
    """Returns the difference from GELU's definition of Keras's two forms and of the sigmoid's."""
    exact = 0.5 * grid * (1 + np.array([math.erf(x / 2**0.5) for x in grid]))
    x = tf.constant(grid)
    forms = {
        "Keras, exact": keras.activations.gelu(x, approximate=False),
        "Keras, tanh form": keras.activations.gelu(x, approximate=True),
        "x sigmoid(1.702 x)": x * keras.activations.sigmoid(1.702 * x),
    }
    return {name: np.array(form) - exact for name, form in forms.items()}


def dead_units(activation, data, steps, seed):
    """Returns the share of hidden units that no example gives a gradient, after large steps."""
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", widths=(64, 64), activation=activation)
    training.train(model, *data, steps=steps, optimizer=keras.optimizers.SGD(0.1), seed=seed)
    hidden = keras.Model(model.input, [model.get_layer(f"hidden{n}").output for n in (1, 2)])
    sums = np.concatenate(hidden(data[0]), axis=1)  # before the activation
    if not np.all(np.isfinite(sums)):
        return 1.0  # it diverged
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(sums))
        y = keras.activations.get(activation)(x)
    return float(np.all(tape.gradient(y, x) == 0, axis=0).mean())


@study(11, "Which activation function lets a gradient through many layers?")
def run(seed: int = 0, depth: int = 20, width: int = 128, steps: int = 100):
    """A gradient is multiplied by the activation's derivative in every layer. The sigmoid's is at
    most 1/4, so its gradient vanishes exponentially; ReLU's is 1 for half of the units. A ReLU
    unit that is negative for all examples has no gradient and stays dead."""
    grid = np.linspace(-4, 4, 161)
    drawn, (left, right) = pictures.figure(2, width=9, height=3.8)
    slopes = {}
    for name in NAMES:
        y, slopes[name] = values_and_slopes(name, grid)
        left.plot(grid, y, label=name)
        right.plot(grid, slopes[name])
    left.set(title="activation", ylim=(-1.5, 4))
    right.set(title="derivative")
    left.legend()
    depths = sorted({1, 2, 5, 10, depth})
    ratios = {name: [gradient_ratio(name, d, width, seed) for d in depths] for name in NAMES}
    drawn_depth, axes = pictures.figure()
    for name, values in ratios.items():
        axes.plot(depths, values, "o-", label=name)
    axes.set(yscale="log", xlabel="layers", ylabel="gradient at the input")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(ncols=2)

    forms = gelu_errors(grid)
    errors = {name: float(np.abs(form).max()) for name, form in forms.items()}
    drawn_gelu, axes = pictures.figure()
    for name, form in forms.items():
        axes.plot(grid, form, label=name)
    axes.set(ylabel="difference from x Φ(x)")
    axes.legend()
    data = digits(500, seed)
    dead = {name: dead_units(name, data, steps, seed) for name in ("relu", "leaky_relu", "elu")}
    return Findings(
        claims=[
            Claim("The derivative of the sigmoid is at most 1/4.", slopes["sigmoid"].max() <= 0.25,
                  f"{slopes['sigmoid'].max():.4f}"),
            Claim(f"After {depth} layers the sigmoid's gradient is below a millionth.",
                  ratios["sigmoid"][-1] < 1e-6, f"{ratios['sigmoid'][-1]:.1e}"),
            Claim("ReLU with He initialization keeps the gradient within a factor of 10.",
                  0.1 < ratios["relu"][-1] < 10, f"{ratios['relu'][-1]:.2f}"),
            Claim("Keras's GELU is the exact one; the tanh form is closer to it than that of the "
                  "sigmoid.", errors["Keras, exact"] < 1e-6
                  and errors["Keras, tanh form"] < errors["x sigmoid(1.702 x)"] / 10,
                  f"off by {errors['Keras, tanh form']:.4f} and "
                  f"{errors['x sigmoid(1.702 x)']:.4f}"),
            Claim("Large steps leave ReLU units that no example reaches any more; leaky ones all "
                  "keep a gradient.", dead["relu"] > 0.05 > 0 == dead["leaky_relu"],
                  f"{dead['relu']:.0%} and {dead['leaky_relu']:.0%} of units, ELU "
                  f"{dead['elu']:.0%}"),
        ],
        pictures=[
            ("Shapes", pictures.svg(drawn),
             "The derivatives of ReLU and LeakyReLU jump at 0; the others are continuous."),
            ("Vanishing gradients", pictures.svg(drawn_depth),
             "A straight falling line is exponential decay with depth."),
            ("Forms of GELU", pictures.svg(drawn_gelu),
             "The form with the sigmoid is the least exact."),
        ],
        next_steps=["--depth 50: which gradients are still there?",
                    "zoo show alexnet: which activation has it, and which has lenet5?"],
        references=["Hendrycks & Gimpel, 2016: GELU", "Nair & Hinton, 2010: ReLU",
                    "keras.activations"],
    )  # fmt: skip
