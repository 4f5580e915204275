"""Inception: parallel branches of several kernel sizes against one, at equal FLOPs."""

from tasks.data import sources
from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress, train
from zoo.flops import count_params_and_flops
from zoo.lazy import keras, np, tf
from zoo.models.googlenet import inception
from zoo.parts import blocks

SIDE, CHANNELS = 14, 16  # pixels: half of those of Fashion-MNIST; channels of the stem
WIDTHS = (8, 12, 16, 4, 8, 8)  # of a module, as in the table of GoogLeNet


def images(name, count):
    """Returns small images of a split of the Fashion-MNIST sample, and their labels."""
    split = sources.load("fashion_sample").splits[name]
    x = np.asarray(split.items[:count], "float32").reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4))
    return x[..., None], split.labels[:count].astype("int32")


def modules(x, count, kernel=None, width=0):
    """Applies some modules in a row: of parallel branches, or of one convolution."""
    for index in range(1, count + 1):
        if kernel:
            x = blocks.conv_bn(x, width, kernel, name=f"module{index}")
        else:
            x = inception(x, WIDTHS, 5, True, name=f"module{index}")
    return x


def network(count, kernel=None, width=0):
    """Returns a classifier of a stem, some modules and a head."""
    image = keras.Input((SIDE, SIDE, 1))
    x = blocks.conv_bn(blocks.normalise_pixels(image, 127.5, 127.5), CHANNELS, 3, name="stem")
    return keras.Model(image, blocks.pooled_head(modules(x, count, kernel, width), 10))


def width_of_equal_flops(count, kernel, flops):
    """Returns the width of convolutions with which a network has closest to a number of FLOPs."""
    widths = np.arange(1, 1_000)
    inputs = CHANNELS * widths + (count - 1) * widths**2
    found = 2 * SIDE**2 * (kernel**2 * inputs + 9 * CHANNELS)
    return int(widths[np.abs(found - flops).argmin()])


def module_flops(reduced):
    """Returns the FLOPs of one module with or without the 1 x 1 convolutions that reduce it."""
    x = image = keras.Input((SIDE, SIDE, sum(WIDTHS[i] for i in (0, 2, 4, 5))))
    if reduced:
        x = modules(x, 1)
    else:
        _, _, three, _, wide, _ = WIDTHS
        x = [blocks.conv_bn(x, three, 3, name="a"), blocks.conv_bn(x, wide, 5, name="b")]
    return count_params_and_flops(keras.Model(image, x))[1]


def influence(count, kernel=None, width=8):
    """Returns the size of the gradient by each pixel of the middle output, 1 at the largest."""
    image = keras.Input((SIDE, SIDE, CHANNELS))
    model = keras.Model(image, modules(image, count, kernel, width))
    pixels = tf.random.stateless_normal((64, SIDE, SIDE, CHANNELS), (0, 0))
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        middle = tf.reduce_sum(model(pixels)[:, SIDE // 2, SIDE // 2])
    size = np.abs(tape.gradient(middle, pixels)).mean((0, 3))
    return size / size.max()


@study(20, "What do parallel branches of several kernel sizes bring?")
def run(seed: int = 0, steps: int = 150, count: int = 2, images_used: int = 2_000):
    """An inception module convolves with kernels of 1, 3 and 5 pixels side by side and lets the
    next layer choose. Convolutions of 1 x 1 before the larger ones reduce the channels and so the
    cost. The single convolutions that are compared here are as wide as equal FLOPs allow."""
    (x, y), test = images("train", images_used), images("test", 500)
    target = count_params_and_flops(network(count))[1]
    plans = {"parallel": {}}
    for k in (1, 3, 5):
        plans[f"{k} x {k}"] = {"kernel": k, "width": width_of_equal_flops(count, k, target)}
    cost, curves, fields, every = {}, {}, {}, max(1, steps // 6)
    for name, plan in progress(plans.items(), "networks"):
        keras.utils.set_random_seed(seed)
        model = network(count, **plan)
        cost[name] = count_params_and_flops(model)
        adam = keras.optimizers.Adam(3e-3)
        curves[name] = train(
            model, x, y, steps=steps, optimizer=adam, seed=seed, test=test, every=every
        )
        fields[name] = influence(count, **plan)
    shown = {name: pictures.images({"gradient": 255 * np.sqrt(field)}, columns=1, side=3)
             for name, field in fields.items()}  # fmt: skip
    lines = {f"{name}, {cost[name][0]:,} parameters": (curve.steps, curve.scores)
             for name, curve in curves.items()}  # fmt: skip
    end = {name: float(curve.scores[-3:].mean()) for name, curve in curves.items()}
    off = max(abs(flops / target - 1) for _, flops in cost.values())
    middle = (SIDE // 2, SIDE // 2)
    focus = {name: float(field[middle] / field.sum()) for name, field in fields.items()}
    full, reduced = module_flops(reduced=False), module_flops(reduced=True)
    return Findings(
        claims=[
            Claim("All networks have equal FLOPs, within a twentieth.", off < 0.05, f"{off:.1%}"),
            Claim("The 1 x 1 reductions make a module cost less than half of the 3 x 3 and 5 x 5 "
                  "convolutions without them.", reduced < full / 2,
                  f"{reduced / 1e6:.1f} against {full / 1e6:.1f} million FLOPs"),
            Claim("Parallel branches look at the middle pixel more than a 5 x 5 convolution, and "
                  "as far.", focus["parallel"] > focus["5 x 5"]
                  and (fields["parallel"] > 0).sum() == (fields["5 x 5"] > 0).sum(),
                  f"{focus['parallel']:.2f} against {focus['5 x 5']:.2f} of the gradient"),
            Claim("They are more accurate than 1 x 1 convolutions, which see no neighbors.",
                  end["parallel"] > end["1 x 1"],
                  f"{end['parallel']:.2f} against {end['1 x 1']:.2f}"),
            # The standard error of a difference of accuracies on 500 images is 0.03.
            Claim("At equal FLOPs they are not worse than 3 x 3 alone by more than a tenth.",
                  end["parallel"] > end["3 x 3"] - 0.1,
                  f"{end['parallel']:.2f} against {end['3 x 3']:.2f}"),
        ],
        pictures=[
            ("Training", pictures.curves(lines, xlabel="step", ylabel="test accuracy"),
             "All networks have the same FLOPs."),
            ("What one output looks at", pictures.slider(shown, "kernels"),
             "The gradient of the middle output by each pixel (square root)."),
        ],
        next_steps=["--count 4 --steps 400: do they still agree?",
                    "zoo show googlenet: nine such modules",
                    "zoo train classification --model googlenet: all of them"],
        references=["Szegedy et al., 2014: Going deeper with convolutions (figure 2)",
                    "Lin et al., 2013: Network in network (1 x 1 convolutions)",
                    "zoo/models/googlenet.py"],
    )  # fmt: skip
