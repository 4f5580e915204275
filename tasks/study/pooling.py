"""Pooling: small shifts, and how the receptive field grows."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import keras, np, tf


def receptive_field(kernels, strides):
    """Returns the width of the input that one output depends on, by arithmetic."""
    width, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        width += (kernel - 1) * step
        step *= stride
    return width


def measured_field(kernels, strides, size=65):
    """Returns the width of the input in which one output has a gradient."""
    x = image = keras.Input((size, 1), dtype="float64")
    for kernel, stride in zip(kernels, strides, strict=True):
        x = keras.layers.Conv1D(1, kernel, stride, padding="same", dtype="float64",
                                kernel_initializer="ones")(x)  # fmt: skip
    model = keras.Model(image, x)
    pixels = tf.ones((1, size, 1), "float64")
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        middle = model(pixels)[0, model.output.shape[1] // 2, 0]
    return int(np.count_nonzero(tape.gradient(middle, pixels)))


def shift_change(kind, shift, seed, images=64):
    """Returns how much pooled features change when the input moves, relative to their size."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(images, 32, 32, 4)) - 1.5, 0)  # sparse, as after a ReLU
    pools = {"none": lambda y: y, "max": keras.layers.MaxPooling2D(4),
             "average": keras.layers.AveragePooling2D(4)}  # fmt: skip
    before, after = (np.array(pools[kind](np.roll(x, s, axis=2))) for s in (0, shift))
    return np.linalg.norm(after - before) / np.linalg.norm(before)


@study(18, "What does pooling do?")
def run(seed: int = 0, layers: int = 3):
    """Pooling keeps whether a feature is present and forgets exactly where, so outputs change less
    under small shifts; its stride also makes the receptive field of later layers grow faster."""
    shifts = range(1, 5)
    change = {
        kind: [shift_change(kind, s, seed) for s in shifts] for kind in ("none", "max", "average")
    }
    drawn, axes = pictures.figure()
    for kind, values in change.items():
        axes.plot(shifts, values, "o-", label=kind)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="shift (pixels)", ylabel="relative change of the features", ylim=(0, None))
    axes.legend()
    plans = {"convolutions of 3": ([3] * layers, [1] * layers),
             "with stride 2": ([3] * layers, [2] * layers)}  # fmt: skip
    fields = {name: (receptive_field(*plan), measured_field(*plan)) for name, plan in plans.items()}
    drawn_field, axes = pictures.figure()
    depth = range(1, 9)
    axes.plot(depth, [receptive_field([3] * d, [1] * d) for d in depth], "o-", label="stride 1")
    axes.plot(depth, [receptive_field([3] * d, [2] * d) for d in depth], "s-", label="stride 2")
    axes.set(yscale="log", xlabel="layers", ylabel="receptive field (pixels)")
    axes.legend()
    return Findings(
        claims=[
            Claim("Average pooling halves the change under a shift of one pixel, or better.",
                  change["average"][0] < 0.5 * change["none"][0],
                  f"{change['average'][0]:.2f} against {change['none'][0]:.2f}"),
            Claim("So does max pooling.", change["max"][0] < 0.5 * change["none"][0],
                  f"{change['max'][0]:.2f}"),
            Claim("The receptive field by arithmetic equals the one that gradients show.",
                  all(a == b for a, b in fields.values()),
                  ", ".join(f"{name}: {a} and {b}" for name, (a, b) in fields.items())),
        ],
        pictures=[
            ("Shifts", pictures.svg(drawn), "Without pooling any shift changes nearly everything."),
            ("Receptive field", pictures.svg(drawn_field),
             "Linear without stride, exponential with it."),
        ],
        next_steps=["--layers 5: how many pixels does one output see?",
                    "zoo show resnet50: how many pixels does stage5 see?"],
        references=["Scherer et al., 2010", "Araujo et al., 2019: Computing receptive fields"],
    )  # fmt: skip
