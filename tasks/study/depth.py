"""Depth: plain and residual networks, and the landscape of their loss."""

import zoo
from tasks.data import sources
from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress, train
from zoo import graphs
from zoo.lazy import keras, np

SIDE = 7  # pixels of an image: a fourth of those of Fashion-MNIST
RADII = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)


def images(count):
    """Returns small images of the Fashion-MNIST sample, and their labels."""
    split = sources.load("fashion_sample").splits["train"]
    x = np.asarray(split.items[:count], "float32").reshape(-1, SIDE, 4, SIDE, 4).mean((2, 4))
    return x[..., None], split.labels[:count].astype("int32")


def network(layers, shortcuts, width):
    """Returns a ResNet for small images, or the same network without its shortcuts."""
    blocks = (layers - 2) // 6
    model = zoo.build("resnet20", depths=(blocks,) * 3, width=width, input_shape=(SIDE, SIDE, 1),
                      num_classes=10)  # fmt: skip
    if shortcuts:
        return model

    def without_shortcut(node, inputs, *args, **kwargs):
        if isinstance(node.operation, keras.layers.Add):
            return inputs[1]  # the residual
        return node.operation(inputs, *args, **kwargs)

    return graphs.rebuild(graphs.flatten(model), without_shortcut)


def slice_of_loss(model, x, y, seed):
    """Returns the loss along a random direction of the weights, `(len(RADII),)`.

    The direction has the norm of the weights in each filter (Li et al., 2018, section 4).
    """
    rng, start, losses = np.random.default_rng(seed), model.get_weights(), []
    kernels = {id(w) for w in model.trainable_weights if len(w.shape) > 1}
    moves = []
    for variable, value in zip(model.weights, start, strict=True):
        axes, move = tuple(range(value.ndim - 1)), rng.normal(size=value.shape)
        norms = [np.sqrt((each**2).sum(axes)) for each in (value, move)]
        moves.append(move * norms[0] / norms[1] if id(variable) in kernels else 0 * value)
    for radius in RADII:
        model.set_weights([w + radius * move for w, move in zip(start, moves, strict=True)])
        loss = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
        losses.append(float(keras.ops.mean(loss)))
    model.set_weights(start)
    return np.array(losses)


@study(19, "Why are very deep networks residual?")
def run(seed: int = 0, shallow: int = 20, deep: int = 56, steps: int = 80, width: int = 4):
    """Without shortcuts a deeper network has the larger training loss, although it could copy the
    shallower one: it is harder to optimize, not overfitted. A shortcut lets every block start near
    the identity and gives the gradient a way around it. The networks are the ResNets of the zoo for
    CIFAR, narrow and on images of 7 x 7, and the same without their additions."""
    x, y = images(1000)
    names = {f"{kind}, {layers} layers": (layers, kind == "residual")
             for kind in ("plain", "residual") for layers in sorted({shallow, deep})}  # fmt: skip
    curves, slices = {}, {}
    for name, (layers, shortcuts) in progress(names.items(), "networks"):
        keras.utils.set_random_seed(seed)
        model = network(layers, shortcuts, width)
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        curves[name] = train(model, x, y, steps=steps, optimizer=optimizer, batch_size=32,
                             seed=seed, every=max(1, steps // 8))  # fmt: skip
        if layers == deep:
            slices[name] = slice_of_loss(model, x[:256], y[:256], seed)
    ends = {name: curve.losses[-2:].mean() for name, curve in curves.items()}
    plain, plain_deep, residual, residual_deep = ends.values()
    lines = {name: (curve.steps, curve.losses) for name, curve in curves.items()}
    drawn_slices = pictures.curves({name: (RADII, values) for name, values in slices.items()},
                                   yscale="log", xlabel="distance, in norms of the filters",
                                   ylabel="loss")  # fmt: skip
    return Findings(
        claims=[
            # The mean of the last quarter of the steps: single values are noisy.
            Claim("Without shortcuts the deeper network has the larger training loss.",
                  plain_deep > plain, f"{plain_deep:.2f} against {plain:.2f}"),
            Claim("Shortcuts make the training loss of the deep network smaller.",
                  residual_deep < plain_deep, f"{residual_deep:.2f} against {plain_deep:.2f}"),
            Claim("Depth costs the residual network less than the plain one.",
                  residual_deep - residual < plain_deep - plain,
                  f"{residual_deep - residual:+.2f} against {plain_deep - plain:+.2f}"),
            Claim("In a random direction the loss of both deep networks rises on both sides.",
                  all(min(x[0], x[-1]) > x[len(x) // 2] for x in slices.values()),
                  ", ".join(f"{name}: {x[0]:.1f}, {x[len(x) // 2]:.1f}, {x[-1]:.1f}"
                            for name, x in slices.items())),
        ],
        pictures=[
            ("Training", pictures.curves(lines, xlabel="step", ylabel="training loss"),
             "Compare the two depths of each kind."),
            ("A slice of the loss", drawn_slices,
             "Around the trained weights, in one random direction, as in inference: the moving "
             "statistics of BatchNorm lag behind, so the losses are above those of training. The "
             "jagged landscape of the paper needs more layers and steps than these."),
        ],
        next_steps=["--deep 110 --steps 40: does the plain network still learn?",
                    "zoo train classification --model resnet56 --dataset fashion_sample:"
                    " longer"],
        references=["He et al., 2015: Deep residual learning (figures 1 and 6)",
                    "Li et al., 2018: Visualizing the loss landscape of neural nets",
                    "zoo/models/resnet.py"],
    )  # fmt: skip
