"""Batch normalization: learning rates, initial weights, noise, small batches, fine-tuning."""

import zoo
from tasks.engine import finetune
from tasks.study import Claim, Findings, pictures, study, training
from tasks.study.digits import digits
from zoo.lazy import keras, np

WIDTHS = (32,) * 4
NAMES = {True: "batch normalization", False: "without"}


def network(norm, scale=1.0, seed=0):
    """Returns a perceptron whose initial hidden kernels are scaled."""
    keras.utils.set_random_seed(seed)
    model = zoo.build("mlp", widths=WIDTHS, batch_norm=norm)
    for layer in model.layers:
        if layer.name.startswith("hidden") and hasattr(layer, "kernel"):
            layer.kernel.assign(scale * layer.kernel)
    return model


def trained(model, data, test, rate, steps, seed, batch_size=32):
    """Returns the final test accuracy after training by SGD."""
    optimizer = keras.optimizers.SGD(rate)
    return training.train(model, *data, steps=steps, optimizer=optimizer, seed=seed, test=test,
                          batch_size=batch_size).scores[-1]  # fmt: skip


def output_noise(model, x, size, rng, draws=30):
    """Returns how much the logits of one image vary with the rest of its training batch."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    logits = [np.array(copy(x[[0, *rng.integers(1, len(x), size - 1)]], training=True))[0]
              for _ in range(draws)]  # fmt: skip
    return np.std(logits, 0).mean() / np.std(np.array(model(x)), 0).mean()


def draw(grid, rate_scores, scales, start_scores):
    """Returns a figure of accuracies by learning rate and by scale of the initial weights."""
    drawn, (left, right) = pictures.figure(2, width=9, height=3.6)
    for norm, name in NAMES.items():
        left.plot(grid, rate_scores[norm], "o-", label=name)
        right.plot(scales, start_scores[norm], "o-")
    left.set(xscale="log", xlabel="learning rate", ylabel="test accuracy", ylim=(0, 1))
    right.set(xscale="log", xlabel="initial weights, of those by He", ylim=(0, 1))
    left.legend()
    return drawn


def fine_tuned(model, test, steps, seed):
    """Returns the accuracy on images of less contrast, before and after training on 64 of them."""
    few, labels = digits(64, seed + 1)
    few, shifted = (training.MIDDLE + 0.3 * (x - training.MIDDLE) for x in (few, test[0]))
    shifted, source = (shifted, test[1]), model.get_weights()
    found = {"before": training.score(model, *shifted)}
    for frozen, size in ((True, 2), (False, 2), (False, 32)):
        model.set_weights(source)
        for layer in finetune.batch_norm_layers(model):
            layer.trainable = not frozen
        name = f"{'frozen' if frozen else 'updated'}, batches of {size}"
        found[name] = trained(model, (few, labels), shifted, 0.01, steps, seed, size)
    return found


@study(12, "What does batch normalization do, and when does it harm?")
def run(seed: int = 0, steps: int = 200, rates: int = 4):
    """Normalized layers do not depend on the size of their weights, which forgives large learning
    rates and small initial weights. The price is noise from the other images of a batch, too
    much of it in batches of 2, and statistics of the training data that may not fit other data."""
    data, test = digits(1_500, seed), digits(1_000, seed + 10_000)
    grid, scales, sizes = np.geomspace(0.01, 1, rates), (0.1, 1.0, 10.0), (2, 4, 16, 64)
    rate_scores, start_scores = {}, {}
    for norm in training.progress((True, False), "networks"):
        rate_scores[norm] = [trained(network(norm, seed=seed), data, test, rate, steps, seed)
                             for rate in grid]  # fmt: skip
        start_scores[norm] = [
            trained(network(norm, scale, seed), data, test, 0.05, steps, seed) for scale in scales
        ]
    drawn = draw(grid, rate_scores, scales, start_scores)
    model, rng = network(True, seed=seed), np.random.default_rng(seed)
    trained(model, data, test, 0.3, steps, seed)
    noises = [output_noise(model, data[0], size, rng) for size in sizes]
    small = {size: trained(network(True, seed=seed), data, test, 0.03, steps * 32 // size, seed,
                           size) for size in (2, 32)}  # fmt: skip
    drawn_noise, axes = pictures.figure()
    axes.plot(sizes, noises, "o-")
    axes.set(xscale="log", yscale="log", xlabel="batch size", xticks=sizes, xticklabels=sizes,
             ylabel="noise of a logit / its spread")  # fmt: skip
    axes.xaxis.set_minor_formatter("")

    tuned = fine_tuned(model, test, steps, seed)
    drawn_tuned, axes = pictures.figure()
    axes.barh(list(tuned)[::-1], list(tuned.values())[::-1])
    axes.set(xlabel="test accuracy at less contrast", xlim=(0, 1))
    top, low = ({norm: scores[at] for norm, scores in found.items()}
                for found, at in ((rate_scores, -1), (start_scores, 0)))  # fmt: skip
    return Findings(
        claims=[
            # Two standard errors of a difference of accuracies on 1,000 digits: 0.04.
            Claim(f"At a learning rate of {grid[-1]:g} the network trains only with it.",
                  top[True] > top[False] + 0.2, f"{top[True]:.1%} against {top[False]:.1%}"),
            Claim(f"So it does from initial weights of {scales[0]:g} of the right size.",
                  low[True] > low[False] + 0.2, f"{low[True]:.1%} against {low[False]:.1%}"),
            Claim("The noise that a batch adds to an output falls with its size.",
                  noises[0] > 2 * noises[-1],
                  f"{noises[0]:.2f} of the spread with {sizes[0]}, {noises[-1]:.2f} with 64"),
            Claim("From equally many images, batches of 2 train a less accurate network than "
                  "batches of 32.", small[2] < small[32] - 0.04,
                  f"{small[2]:.1%} against {small[32]:.1%}"),
            Claim("On images of less contrast frozen statistics do not fit: with updated ones "
                  "fine-tuning ends more accurate, if batches are large.",
                  tuned["updated, batches of 32"] > tuned["frozen, batches of 2"] + 0.04,
                  ", ".join(f"{name} {value:.1%}" for name, value in tuned.items())),
        ],
        pictures=[
            ("Rates and initial weights", pictures.svg(drawn),
             "With it larger rates and smaller initial weights work. From large ones it trains "
             "slowly: the gradient of a normalized layer shrinks as its weights grow."),
            ("Noise", pictures.svg(drawn_noise), "In a batch of two a unit has one of two values."),
            ("Fine-tuning on images of less contrast", pictures.svg(drawn_tuned),
             "64 digits of less contrast. Before: statistics of the digits at full contrast."),
        ],
        next_steps=["--rates 7: which is the best rate with it, and which without?",
                    "zoo train classification --batch-norm update: as in the last claim"],
        references=["Ioffe & Szegedy, 2015: Batch normalization",
                    "Santurkar et al., 2018: How does batch normalization help optimization?",
                    "tasks/engine/finetune.py: frozen statistics in the kit; docs/fine-tuning.md"],
    )  # fmt: skip
