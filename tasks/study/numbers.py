"""float32, bfloat16 and float16: range, precision, and loss scaling."""

from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import np, tf

TYPES = ("float32", "bfloat16", "float16")


def rounded(values, dtype):
    """Returns float64 values as a type stores them."""
    return tf.cast(tf.cast(tf.constant(values), dtype), "float64").numpy()


def steps_taken(dtype, update, steps):
    """Returns a weight of 1 after many small updates in one type, relative to the exact result."""
    weight = tf.constant(1.0, dtype)
    for _ in range(steps):
        weight = weight + tf.cast(update, dtype)
    return float(weight) / (1 + update * steps)


def trained(dtype, scale, steps, seed):
    """Returns the losses of a model whose gradients and activations are computed in one type.

    The weights are float32. The targets are small, and so are the gradients.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1024, 8)).astype("float32")
    y = 3e-6 * x @ rng.normal(size=8).astype("float32")
    weights, losses = tf.Variable(tf.zeros(8)), []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            errors = tf.linalg.matvec(tf.cast(x, dtype), tf.cast(weights, dtype)) - tf.cast(
                y, dtype
            )
            scaled = tf.reduce_mean(errors * errors * tf.cast(scale, dtype))
        weights.assign_sub(0.1 / scale * tape.gradient(scaled, weights))
        losses.append(float(np.mean((x @ weights.numpy() - y) ** 2) / np.mean(y**2)))
    return losses


@study(28, "What can go wrong when training in 16 bits?")
def run(seed: int = 0, steps: int = 1_000, training_steps: int = 60):
    """float16 has the precision but not the range: small gradients become zero unless the loss is
    scaled. bfloat16 has the range but not the precision: small updates of large weights are lost,
    so weights stay in float32."""
    gradients = 10.0 ** np.random.default_rng(seed).uniform(-12, 0, 20_000)
    lost = {dtype: float((rounded(gradients, dtype) == 0).mean()) for dtype in TYPES}
    scaled = float((rounded(gradients * 2**15, "float16") == 0).mean())
    grid = 10.0 ** np.linspace(-9, 5, 400)
    drawn, axes = pictures.figure()
    for dtype in TYPES:
        values = rounded(grid, dtype)
        error = np.where(np.isfinite(values), np.abs(values - grid) / grid, 1)
        axes.plot(grid, np.maximum(error, 1e-9), label=dtype)
    axes.set(xscale="log", yscale="log", xlabel="value", ylabel="relative rounding error")
    axes.legend()
    update = 1e-3
    kept = {dtype: steps_taken(dtype, update, steps) for dtype in TYPES}
    drawn_steps, axes = pictures.figure()
    axes.bar(list(kept), list(kept.values()))
    axes.axhline(1, linestyle="--", color=pictures.GREY)
    axes.set(ylabel=f"weight after {steps} updates of {update}, of exact")
    runs = {
        name: trained(dtype, scale, training_steps, seed)
        for name, dtype, scale in (
            ("float32", "float32", 1.0),
            ("bfloat16", "bfloat16", 1.0),
            ("float16", "float16", 1.0),
            ("float16, loss times 32768", "float16", 2.0**15),
        )
    }
    lines = {name: (range(1, training_steps + 1), losses) for name, losses in runs.items()}
    broken, rescued = runs["float16"][-1], runs["float16, loss times 32768"][-1]
    return Findings(
        claims=[
            Claim("float16 turns gradients below about 3e-8 into zero; bfloat16 does not.",
                  lost["float16"] > 0.2 and lost["bfloat16"] == 0,
                  f"{lost['float16']:.0%} and {lost['bfloat16']:.0%} of gradients lost"),
            Claim("Scaling the loss by 2 ** 15 saves most of them.", scaled < lost["float16"] / 2,
                  f"{scaled:.0%} lost"),
            Claim("float16 overflows above 65504.", np.isinf(rounded([65536.0], "float16")[0]),
                  f"65536 becomes {rounded([65536.0], 'float16')[0]}"),
            Claim("A bfloat16 weight of 1 does not notice updates of 0.001.",
                  kept["bfloat16"] < 0.6, f"{kept['bfloat16']:.2f} of the exact result"),
            Claim("A float32 weight follows them.", abs(kept["float32"] - 1) < 1e-3,
                  f"{kept['float32']:.5f} of it"),
            Claim("Where gradients are too small for float16, training stands still.",
                  broken > 0.5, f"{broken:.2f} of the first loss is left"),
            Claim("With a scaled loss it goes on, as it does in bfloat16 without.",
                  max(rescued, runs["bfloat16"][-1]) < 0.1,
                  f"{rescued:.0e} and {runs['bfloat16'][-1]:.0e} are left"),
        ],
        pictures=[
            ("Rounding", pictures.svg(drawn), "A flat line is precision; its ends are the range."),
            ("Updates", pictures.svg(drawn_steps),
             "This is why mixed precision keeps float32 weights."),
            ("Training", pictures.curves(lines, yscale="log", xlabel="step",
             ylabel="loss, of that at the start"), "A regression with targets below 0.00001."),
        ],
        next_steps=["--steps 100000: how far do the weights get?",
                    "zoo train classification --precision mixed_float16: it scales the loss"],
        references=["Micikevicius et al., 2018: Mixed precision training",
                    "keras.mixed_precision; tasks/inference/dtype_policies.py"],
    )  # fmt: skip
