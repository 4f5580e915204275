"""Batch, mini-batch and single-example gradient descent: noise, epochs and seconds."""

import time

import zoo
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np, tf


def gradient(model, x, y):
    """Returns the gradient of the mean cross-entropy by all weights, as one vector."""
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
        loss = tf.reduce_mean(loss)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    return np.concatenate([np.ravel(g) for g in gradients])


def noise(model, x, y, size, draws, rng):
    """Returns the distance of a batch's gradient from that of all examples, relative to it."""
    whole = gradient(model, x, y)
    rows = [rng.integers(0, len(x), size) for _ in range(draws)]
    apart = [np.sum((gradient(model, x[r], y[r]) - whole) ** 2) for r in rows]
    return np.sqrt(np.mean(apart)) / np.linalg.norm(whole)


def draw(sizes, noises):
    """Returns a figure of the noise by batch size."""
    drawn, axes = pictures.figure()
    axes.plot(sizes, noises, "o", label="measured")
    axes.plot(sizes, noises[0] / np.sqrt(sizes), "--", color=pictures.GREY, label="1 / √batch")
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="noise / gradient")
    axes.legend()
    return drawn


@study(5, "How many examples should one step of gradient descent see?")
def run(seed: int = 0, epochs: int = 8, examples: int = 1_024, learning_rate: float = 0.1):
    """The gradient of a batch is that of all examples plus noise, which falls with the square root
    of the batch. All examples give an exact step but only one per epoch; single examples give many
    noisy ones, which computers run slowly. Mini-batches are the compromise."""
    x, y = digits(examples, seed)
    test = digits(500, seed + 10_000)
    rng, model = np.random.default_rng(seed), zoo.build("mlp", widths=(32,))
    sizes = (1, 4, 16, 64, 256)
    noises = [noise(model, x, y, size, 40, rng) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(noises), 1)[0]
    drawn_noise = draw(sizes, noises)
    drawn, (by_epoch, by_step) = pictures.figure(2, width=9, height=3.6)
    losses, seconds, wobble = {}, {}, {}
    for size in training.progress((examples, 32, 1), "batch sizes"):
        keras.utils.set_random_seed(seed)  # equal initial weights
        model, per_epoch = zoo.build("mlp", widths=(32,)), examples // size
        every = max(1, per_epoch // 8)
        optimizer = keras.optimizers.SGD(learning_rate)
        training.train(model, x[:size], y[:size], steps=1, optimizer=keras.optimizers.SGD(0.0))
        start = time.perf_counter()
        curve = training.train(model, x, y, steps=epochs * per_epoch, optimizer=optimizer,
                               batch_size=size, every=every, seed=seed, test=test)  # fmt: skip
        seconds[size] = (time.perf_counter() - start) / epochs
        losses[size] = curve.losses
        rises = np.diff(curve.losses[len(curve.losses) // 2 :])
        wobble[size] = (rises > 0).mean()
        name = "all examples" if size == examples else f"batch of {size}"
        by_epoch.plot(curve.steps / per_epoch, curve.losses, label=name)
        by_step.plot(curve.steps / per_epoch * seconds[size], curve.losses)
    by_epoch.set(xlabel="epochs", ylabel="training loss", ylim=(0, None))
    by_step.set(xlabel="seconds", ylim=(0, None))
    by_epoch.legend()
    whole, mini = losses[examples], losses[32]
    per_epoch = ", ".join(f"{size}: {1e3 * value:.0f} ms" for size, value in seconds.items())
    return Findings(
        claims=[
            # The exponent of 40 draws at five sizes has a standard error of about 0.02.
            Claim("The noise of a batch falls with the square root of its size.",
                  abs(slope + 0.5) < 0.08, f"batch ** {slope:.2f}"),
            Claim("A single example's gradient is mostly noise.", noises[0] > 1,
                  f"noise {noises[0]:.1f} times the gradient"),
            Claim("After equal epochs at one rate mini-batches have the lower loss than all "
                  "examples at once, as they take more steps.", mini[-1] < whole[-1] - 0.1,
                  f"{mini[-1]:.2f} against {whole[-1]:.2f}"),
            Claim("The loss of all examples falls in every step; that of single ones does not.",
                  wobble[examples] == 0 < wobble[1],
                  f"rises in {wobble[examples]:.0%} and {wobble[1]:.0%} of measurements"),
        ],
        pictures=[
            ("Noise", pictures.svg(drawn_noise), "Four times the batch for half the noise."),
            ("Loss", pictures.svg(drawn),
             f"Left: mini-batches take more steps per epoch than all examples; the steps of single "
             f"ones are too noisy at this rate. Right: the same by the clock. Time per epoch by "
             f"batch: {per_epoch}."),
        ],
        next_steps=["--learning-rate 0.3: which batch size suffers first?",
                    "zoo train classification --batch-size 128 --scale-learning-rate linear:"
                    " a larger batch at a larger rate"],
        references=["Robbins & Monro, 1951: A stochastic approximation method",
                    "Bottou, Curtis & Nocedal, 2018: Optimization methods for large-scale machine "
                    "learning", "tasks/data/batches.py: the batches of the kit"],
    )  # fmt: skip
