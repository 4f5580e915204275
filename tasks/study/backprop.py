"""Gradients of a two-layer network, three ways."""

import time

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import keras, np, tf


def loss(w1, w2, x, y):
    """Returns the mean squared error of `tanh(x w1) w2`."""
    return 0.5 * np.mean((np.tanh(x @ w1) @ w2 - y) ** 2)


def by_hand(w1, w2, x, y):
    """Returns the gradients by the chain rule, in matrices."""
    hidden = np.tanh(x @ w1)
    error = (hidden @ w2 - y) / y.size  # d loss / d output
    to_hidden = (error @ w2.T) * (1 - hidden**2)  # tanh' = 1 - tanh^2
    return x.T @ to_hidden, hidden.T @ error


def by_differences(w1, w2, x, y, step=1e-6):
    """Returns the gradients by central differences: two losses per weight."""
    gradients = []
    for weight in (w1, w2):
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            old = weight[index]
            weight[index] = old + step
            up = loss(w1, w2, x, y)
            weight[index] = old - step
            gradient[index] = (up - loss(w1, w2, x, y)) / (2 * step)
            weight[index] = old
        gradients.append(gradient)
    return gradients


def by_keras(w1, w2, x, y):
    """Returns the gradients of two layers of Keras by automatic differentiation."""
    layers = [keras.layers.Dense(w1.shape[1], "tanh", use_bias=False, dtype="float64"),
              keras.layers.Dense(1, use_bias=False, dtype="float64")]  # fmt: skip
    model = keras.Sequential([keras.Input(x.shape[1:], dtype="float64"), *layers])
    model.set_weights([w1, w2])
    with tf.GradientTape() as tape:
        value = 0.5 * tf.reduce_mean((model(x) - y) ** 2)
    return [g.numpy() for g in tape.gradient(value, [v.value for v in model.trainable_weights])]


@study(6, "What does back-propagation compute, and why not differences?")
def run(seed: int = 0, largest: int = 64):
    """Back-propagation is the chain rule from the loss backwards. It gives the gradients of all
    weights for about the cost of two forward passes; differences need two per weight."""
    rng = np.random.default_rng(seed)
    widths = [width for width in (2, 4, 8, 16, 32, 64, 128) if width <= largest]
    times, apart = {"by hand": [], "differences": [], "Keras": []}, [0.0, 0.0]
    for width in widths:
        x, y = rng.normal(size=(32, width)), rng.normal(size=(32, 1))
        w1, w2 = rng.normal(size=(width, width)) / width**0.5, rng.normal(size=(width, 1))
        found = {}
        for name, way in zip(times, (by_hand, by_differences, by_keras), strict=True):
            start = time.perf_counter()
            found[name] = np.concatenate([g.ravel() for g in way(w1, w2, x, y)])
            times[name].append(time.perf_counter() - start)
        size = np.abs(found["by hand"]).max()
        apart[0] = max(apart[0], np.abs(found["by hand"] - found["Keras"]).max() / size)
        apart[1] = max(apart[1], np.abs(found["by hand"] - found["differences"]).max() / size)
    drawn, axes = pictures.figure()
    counts = [width * width + width for width in widths]
    for name, seconds in times.items():
        axes.plot(counts, np.array(seconds) * 1e3, "o-", label=name)
    axes.set(xscale="log", yscale="log", xlabel="weights", ylabel="milliseconds")
    axes.legend()
    passes = 2 * counts[-1]
    return Findings(
        claims=[
            Claim("The chain rule by hand and Keras's gradients agree to rounding.",
                  apart[0] < 1e-12, f"relative difference {apart[0]:.1e}"),
            Claim("Central differences agree to their own error.", apart[1] < 1e-6,
                  f"relative difference {apart[1]:.1e}"),
            Claim("Differences take two forward passes per weight; back-propagation takes one "
                  "forward and one backward pass.", passes > 100, f"{passes:,} passes against 2"),
        ],
        pictures=[("Time by number of weights", pictures.svg(drawn),
                   "Differences grow with the number of weights times the cost of a pass.")],
        next_steps=["zoo gradcheck lenet5: the same comparison for a network of the zoo",
                    "Change `tanh` to a ReLU in by_hand; which weights have no gradient?"],
        references=["Rumelhart, Hinton & Williams, 1986", "tasks/advice/gradcheck.py"],
    )  # fmt: skip
