"""Initial weights: too small, too large, and of the right variance."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import np

SCALES = {  # standard deviation of a weight, by the number of inputs
    "zero": lambda inputs: 0.0,
    "0.01": lambda inputs: 0.01,
    "1": lambda inputs: 1.0,
    "Xavier": lambda inputs: inputs**-0.5,
    "He": lambda inputs: (2 / inputs) ** 0.5,
}
ACTIVATIONS = {"tanh": lambda x: np.tanh(x), "relu": lambda x: np.maximum(x, 0)}


def activations(scale, activation, width, depth, rng):
    """Returns the activations of each layer for a batch of normally distributed inputs."""
    x, layers = rng.normal(size=(256, width)), []
    for _ in range(depth):
        x = ACTIVATIONS[activation](x @ (SCALES[scale](width) * rng.normal(size=(width, width))))
        layers.append(x)
    return layers


@study(10, "How large should initial weights be?")
def run(seed: int = 0, width: int = 256, depth: int = 20):
    """The variance of activations is multiplied in every layer. Only weights of the right variance
    keep it, and with constant weights all units of a layer stay equal forever."""
    spread, shown = {}, {}
    for activation in ACTIVATIONS:
        drawn, axes = pictures.figure()
        for scale in SCALES:
            layers = activations(scale, activation, width, depth, np.random.default_rng(seed))
            size = np.array([np.sqrt(np.mean(layer**2)) for layer in layers])
            spread[activation, scale] = size
            axes.plot(range(1, depth + 1), np.maximum(size, 1e-30), label=scale)
        axes.set(
            yscale="log",
            xlabel="layer",
            ylabel="root mean square activation",
            title=activation,
            ylim=(1e-20, 1e25),
        )
        axes.legend(ncols=5)
        shown[activation] = pictures.svg(drawn)
    he, xavier = spread["relu", "He"][-1], spread["tanh", "Xavier"]
    small = spread["relu", "0.01"][-1]
    units = constant_units(width, seed)
    return Findings(
        claims=[
            Claim("He initialization keeps the size of ReLU activations within a factor of 3 over "
                  "20 layers.", 1 / 3 < he < 3, f"{he:.2f} of an input of 1"),
            Claim("Xavier initialization keeps tanh activations above a tenth.", xavier[-1] > 0.1,
                  f"{xavier[-1]:.2f}"),
            Claim("Xavier initialization lets ReLU activations shrink by about 2 ** (depth / 2).",
                  0.2 < spread["relu", "Xavier"][-1] * 2 ** (depth / 2) < 5,
                  f"{spread['relu', 'Xavier'][-1]:.1e}"),
            Claim("A standard deviation of 0.01 extinguishes the signal.", small < 1e-3,
                  f"{small:.1e}"),
            Claim("With constant weights all hidden units stay equal after gradient steps.",
                  units == 1, f"{units} distinct units of {width}"),
        ],
        pictures=[("Activations by depth", pictures.slider(shown, "activation"),
                   "A horizontal line is the aim. Zero weights leave the plot at the bottom.")],
        next_steps=["--depth 50: which line is still flat?", "--width 32: do the lines scatter?"],
        references=["Glorot & Bengio, 2010 (Xavier)", "He et al., 2015 (arXiv:1502.01852)",
                    "keras.initializers.GlorotNormal, HeNormal"],
    )  # fmt: skip


def constant_units(width, seed):
    """Returns the number of distinct hidden units after ten steps from constant weights."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(64, 8)), rng.normal(size=(64, 1))
    w1, w2 = np.full((8, width), 0.1), np.full((width, 1), 0.1)
    for _ in range(10):
        hidden = np.tanh(x @ w1)
        error = (hidden @ w2 - y) / len(y)
        w1, w2 = (w1 - 0.1 * x.T @ ((error @ w2.T) * (1 - hidden**2)), w2 - 0.1 * hidden.T @ error)
    return len(np.unique(w1.round(12), axis=1).T)
