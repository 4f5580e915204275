"""Initial weights: too small, too large, and of the right variance."""

import zoo
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np

SCALES = {  # standard deviation of a weight, by the number of inputs
    "zero": lambda inputs: 0.0,
    "0.01": lambda inputs: 0.01,
    "1": lambda inputs: 1.0,
    "Xavier": lambda inputs: inputs**-0.5,
    "He": lambda inputs: (2 / inputs) ** 0.5,
}
ACTIVATIONS = {"tanh": lambda x: np.tanh(x), "relu": lambda x: np.maximum(x, 0)}
LIMITS = {"tanh": (1e-2, 2), "relu": (1e-5, 1e5)}  # of the plot of activations


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
    spread, shown, shapes = {}, {}, {}
    for activation in ACTIVATIONS:
        drawn, axes = pictures.figure()
        for scale in SCALES:
            layers = activations(scale, activation, width, depth, np.random.default_rng(seed))
            size = np.array([np.sqrt(np.mean(layer**2)) for layer in layers])
            spread[activation, scale] = size
            shapes[f"{activation}, {scale}"] = histograms(layers, activation)
            axes.plot(range(1, depth + 1), np.maximum(size, 1e-30), label=scale)
        axes.set(
            yscale="log",
            xlabel="layer",
            ylabel="root mean square activation",
            title=activation,
            ylim=LIMITS[activation],
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(ncols=5)
        shown[activation] = pictures.svg(drawn)
    he, xavier = spread["relu", "He"][-1], spread["tanh", "Xavier"]
    small = spread["relu", "0.01"][-1]
    units = [distinct_units(constant, 32, seed) for constant in (0.0, 0.1, None)]
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
            Claim("From zero or constant weights all hidden units stay equal; random ones differ.",
                  units == [1, 1, 32],
                  f"{units[0]}, {units[1]} and {units[2]} different units of 32 after 20 steps"),
        ],
        pictures=[
            ("Activations by depth", pictures.slider(shown, "activation"),
             "A horizontal line is the aim. The lines of too small weights leave the plot at the "
             "bottom, those of too large ones at the top; tanh never exceeds 1."),
            ("Histograms", pictures.slider(shapes, "activation and weights"),
             "Too small weights pile up at 0, too large ones at -1 and 1 of tanh. Values beyond "
             "the axis are in its last bar."),
        ],
        next_steps=["--depth 50: which line is still flat?", "--width 32: do the lines scatter?"],
        references=["Glorot & Bengio, 2010 (Xavier)", "He et al., 2015 (arXiv:1502.01852)",
                    "keras.initializers.GlorotNormal, HeNormal"],
    )  # fmt: skip


def histograms(layers, activation):
    """Returns histograms of the activations of a few layers, from the first to the last."""
    places = sorted({0, len(layers) // 4, len(layers) // 2, len(layers) - 1})
    drawn, axes = pictures.figure(len(places), width=9.4, height=2.4)
    for panel, place in zip(axes, places, strict=True):
        values = layers[place].ravel()
        low = -1.05 if activation == "tanh" else 0
        high = 1.05 if activation == "tanh" else 3
        panel.hist(values.clip(low, high), 40, range=(low, high), histtype="stepfilled")
        panel.set(title=f"layer {place + 1}", yticks=[])
    return pictures.svg(drawn)


def distinct_units(constant, width, seed):
    """Returns 1 plus the number of hidden units that differ from the first after training from
    constant weights, or from random ones."""
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", widths=(width,))
    if constant is not None:
        model.set_weights([np.full(weight.shape, constant) for weight in model.weights])
    training.train(model, *digits(256, seed), steps=20, seed=seed)
    kernel = model.get_layer("hidden1").get_weights()[0]
    return 1 + int(np.sum(np.abs(kernel - kernel[:, :1]).max(0) > 1e-4))
