"""Activation functions: shape, derivative, and what a deep stack does to the gradient."""

import math

from tasks.study import Claim, Findings, pictures, study
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


@study(11, "Which activation function lets a gradient through many layers?")
def run(seed: int = 0, depth: int = 20, width: int = 128):
    """A gradient is multiplied by the activation's derivative in every layer. The sigmoid's is at
    most 1/4, so its gradient vanishes exponentially; ReLU's is 1 for half of the units."""
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
    axes.legend(ncols=2)

    exact = 0.5 * grid * (1 + np.array([math.erf(x / 2**0.5) for x in grid]))
    forms = {
        "exact": exact,
        "tanh form": 0.5 * grid * (1 + np.tanh((2 / np.pi) ** 0.5 * (grid + 0.044715 * grid**3))),
        "sigmoid form": grid / (1 + np.exp(-1.702 * grid)),
    }
    errors = {name: np.abs(form - exact).max() for name, form in forms.items()}
    keras_gelu = np.abs(values_and_slopes("gelu", grid)[0] - exact).max()
    dead = float((np.random.default_rng(seed).normal(-3, 1, 100_000) < 0).mean())
    return Findings(
        claims=[
            Claim("The derivative of the sigmoid is at most 1/4.", slopes["sigmoid"].max() <= 0.25,
                  f"{slopes['sigmoid'].max():.4f}"),
            Claim(f"After {depth} layers the sigmoid's gradient is below a millionth.",
                  ratios["sigmoid"][-1] < 1e-6, f"{ratios['sigmoid'][-1]:.1e}"),
            Claim("ReLU with He initialization keeps the gradient within a factor of 10.",
                  0.1 < ratios["relu"][-1] < 10, f"{ratios['relu'][-1]:.2f}"),
            Claim("Keras's GELU is the exact one; the tanh form is closer to it than the sigmoid "
                  "form.", keras_gelu < 1e-6 and errors["tanh form"] < errors["sigmoid form"],
                  f"{errors['tanh form']:.4f} against {errors['sigmoid form']:.4f}"),
            Claim("A ReLU unit whose inputs have a mean of -3 standard deviations is zero, without "
                  "a gradient, for nearly all examples.", dead > 0.99, f"{dead:.2%}"),
        ],
        pictures=[
            ("Shapes", pictures.svg(drawn), "ReLU's derivative is 0 or 1; the others are smooth."),
            ("Vanishing gradients", pictures.svg(drawn_depth),
             "A straight falling line is exponential decay with depth."),
        ],
        next_steps=["--depth 50", "zoo build lenet5 with activation=relu: does it train faster?"],
        references=["Hendrycks & Gimpel, 2016: GELU", "Nair & Hinton, 2010: ReLU",
                    "keras.activations"],
    )  # fmt: skip
