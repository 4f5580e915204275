"""Local connections and shared weights: dense, locally connected and convolutional layers."""

from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np
from zoo.parts import blocks

SIZE, KERNEL, STRIDE, FILTERS = 16, 9, 1, 24
PLACES = (SIZE - KERNEL) // STRIDE + 1  # of the kernel, in each direction


def dense(image):
    """Connects every output to every pixel."""
    found = keras.layers.Dense(PLACES**2 * FILTERS)(keras.layers.Flatten()(image))
    return keras.layers.Reshape((PLACES, PLACES, FILTERS))(found)


def local(image):
    """Connects every output to the pixels near it, with weights of its own at each place."""
    patches = keras.ops.image.extract_patches(image, KERNEL, STRIDE)
    patches = keras.layers.Reshape((PLACES**2, KERNEL**2))(patches)
    layer = keras.layers.EinsumDense("bpk,pkf->bpf", (PLACES**2, FILTERS), bias_axes="pf")
    return keras.layers.Reshape((PLACES, PLACES, FILTERS))(layer(patches))


def convolutional(image):
    """Connects every output to the pixels near it, with the same weights at each place."""
    return keras.layers.Conv2D(FILTERS, KERNEL, STRIDE)(image)


LAYERS = {"dense": dense, "locally connected": local, "convolutional": convolutional}
NETWORKS = {name: (name, False) for name in LAYERS} | {"with a maximum": ("convolutional", True)}


def network(kind, pooled):
    """Returns a classifier whose first layer is of one kind, all with equally many outputs."""
    image = keras.Input((SIZE, SIZE, 1))
    hidden = keras.layers.ReLU()(LAYERS[kind](blocks.preprocess(image, "tf")))
    head = keras.layers.GlobalMaxPooling2D if pooled else keras.layers.Flatten
    return keras.Model(image, keras.layers.Dense(10)(head()(hidden)))


def view(kind, kernel, number):
    """Returns weights of a layer as an image: of an output, a place or a filter."""
    if kind == "dense":
        return kernel[:, 37 * number % kernel.shape[1]].reshape(SIZE, SIZE)
    if kind == "locally connected":
        return kernel[5 * number % PLACES**2, :, 0].reshape(KERNEL, KERNEL)
    return kernel[:, :, 0, number]


@study(16, "Why are images seen through small shared filters?")
def run(seed: int = 0, steps: int = 600, examples: int = 1_000, shift: float = 3.0):
    """A dense layer must learn a digit anew at every place. Local connections save weights; shared
    weights save more and let every place learn from all others. That pays when the next layer need
    not learn each place anew either: with the maximum over places a digit may move freely."""
    data = digits(examples, seed, shift=shift)
    shifts = np.linspace(0, shift + 1, 5)
    accuracy, sizes, kernels = {}, {}, {}
    for kind in training.progress(NETWORKS, "networks"):
        keras.utils.set_random_seed(seed)
        model = network(*NETWORKS[kind])
        sizes[kind] = next(x for x in model.layers if x.weights).count_params()
        optimizer = keras.optimizers.Adam(0.003)
        training.train(model, *data, steps=steps, seed=seed, optimizer=optimizer)
        accuracy[kind] = [
            training.score(model, *digits(1_000, seed + 10_000, shift=s)) for s in shifts
        ]
        kernels[kind] = next(x for x in model.layers if x.weights).get_weights()[0]
    drawn, axes = pictures.figure()
    for kind, values in accuracy.items():
        axes.plot(shifts, values, "o-", label=f"{kind}, {sizes[kind]:,} weights")
    axes.axvline(shift, linestyle="--", color=pictures.GREY)
    axes.set(xlabel="largest shift of test digits (pixels)", ylabel="accuracy", ylim=(0, 1.05))
    drawn.legend(loc="outside upper center", ncols=2)
    shown = {}
    for kind, kernel in kernels.items():
        drawn_kernels, panels = pictures.figure(8, width=9, height=1.5)
        for number, panel in enumerate(panels):
            panel.imshow(view(kind, kernel, number), cmap="gray")
            panel.axis("off")
        shown[kind] = pictures.svg(drawn_kernels)
    last = {kind: values[-2] for kind, values in accuracy.items()}  # at about the trained shift
    shared = (KERNEL**2 + 1) * FILTERS
    expected = {
        "dense": (SIZE**2 + 1) * PLACES**2 * FILTERS,
        "locally connected": shared * PLACES**2,
        "convolutional": shared,
        "with a maximum": shared,
    }
    return Findings(
        claims=[
            Claim("With equally many outputs, local connections divide the number of weights by "
                  f"about {expected['dense'] / expected['locally connected']:.0f} and sharing by "
                  f"{PLACES**2} more.", sizes == expected,
                  ", ".join(f"{kind} {count:,}" for kind, count in sizes.items())),
            # Two standard errors of the difference of two accuracies on 1,000 digits: 0.04.
            Claim("On shifted digits shared weights with a maximum over all places are more "
                  "accurate than the dense layer.", last["with a maximum"] > last["dense"] + 0.04,
                  ", ".join(f"{kind} {value:.1%}" for kind, value in last.items())),
        ],
        pictures=[
            ("Accuracy", pictures.svg(drawn),
             "The dashed line is the largest shift of the training digits."),
            ("First weights", pictures.slider(shown, "layer"),
             "Dense: all pixels of eight outputs. Locally connected: one filter at eight places. "
             "Convolutional: all eight filters, each used at every place."),
        ],
        next_steps=["--examples 10000: does the dense layer catch up?",
                    "--shift 0: which layer is best on digits that do not move?",
                    "zoo train classification --model lenet5: the first such network"],
        references=["LeCun et al., 1989: Generalization and network design strategies",
                    "zoo/models/lenet.py"],
    )  # fmt: skip
