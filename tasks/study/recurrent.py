"""Recurrent networks: long memory, gradients through time, and text character by character."""

from tasks.study import Claim, Findings, pictures, study
from tasks.study.characters import write_text
from tasks.study.training import progress, train
from zoo.lazy import keras, np, tf

SYMBOLS, UNITS = 4, 32
CELLS = {  # the recurrent layer, and whether its gates start open for the whole length
    "plain": ("SimpleRNN", False),
    "GRU": ("GRU", False),
    "LSTM": ("LSTM", False),
    "GRU, open gates": ("GRU", True),
    "LSTM, open gates": ("LSTM", True),
}


def recurrent(kind, length, *, opened, rng, **options):
    """Returns a recurrent layer; its gates remember for up to `length` steps if they are opened.

    The bias of the gate that keeps the state is drawn as in Tallec & Ollivier, 2018.
    """
    layer = getattr(keras.layers, kind)(UNITS, **options)
    layer.build((None, length, SYMBOLS))
    if opened:
        keep = np.log(rng.uniform(1, length, UNITS))
        bias = layer.cell.bias.numpy()
        if kind == "LSTM":  # input gate, forget gate, candidate, output gate
            bias[:UNITS], bias[UNITS : 2 * UNITS] = -keep, keep
        else:  # update gate first, in the first row of two
            bias[0, :UNITS] = keep
        layer.cell.bias.assign(bias)
    return layer


def sequences(count, length, rng):
    """Returns noise whose first vector shows a symbol, `(count, length, SYMBOLS)`; the symbols."""
    labels = rng.integers(0, SYMBOLS, count).astype("int32")
    x = rng.normal(0, 0.3, (count, length, SYMBOLS)).astype("float32")
    x[:, 0] += np.eye(SYMBOLS)[labels]
    return x, labels


def gradient_sizes(model, x, labels):
    """Returns the norm of the gradient by the input at each time, relative to the last one."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, model(x))
    sizes = np.sqrt((tape.gradient(loss, x).numpy() ** 2).sum((0, 2)))
    return sizes / sizes[-1]


@study(22, "What does a recurrent network remember?")
def run(seed: int = 0, length: int = 30, steps: int = 200, repeats: int = 3, text_steps: int = 150):
    """The gradient of a recurrent network goes back through every step, and is multiplied in each.
    Gates can let the state pass, but only if they are open: with the usual initial values an LSTM
    or a GRU forgets within some ten steps, and takes long to learn a longer memory. With gates that
    start open for the whole length both learn it. So does the plain network here, as its recurrent
    weights are orthogonal at first: that gates remember longer does not show at this length. A GRU
    also learns to write text, one character after the other, by predicting the next one."""
    scores, gradients = {}, {}
    for name, (kind, opened) in progress(CELLS.items(), "cells"):
        scores[name] = []
        for repeat in range(repeats):
            keras.utils.set_random_seed(seed * repeats + repeat)
            rng = np.random.default_rng(seed * repeats + repeat)
            (x, y), test = sequences(2000, length, rng), sequences(400, length, rng)
            inputs = keras.Input((length, SYMBOLS))
            layer = recurrent(kind, length, opened=opened, rng=rng)
            model = keras.Model(inputs, keras.layers.Dense(SYMBOLS)(layer(inputs)))
            gradients.setdefault(name, gradient_sizes(model, *test))
            adam = keras.optimizers.Adam(1e-2, clipnorm=1.0)
            curve = train(model, x, y, steps=steps, batch_size=64, optimizer=adam,
                          seed=seed, test=test, every=max(1, steps // 8))  # fmt: skip
            scores[name].append(curve.scores)
    bits, baseline, samples = write_text(text_steps, seed)
    drawn, axes = pictures.figure()
    for name, sizes in gradients.items():
        axes.plot(range(1, length + 1), np.maximum(sizes, 1e-12), label=name)
    axes.set(yscale="log", xlabel="time of the input", ylabel="gradient, of that at the end")
    axes.legend()
    drawn_curves, axes = pictures.figure()
    for name, runs in scores.items():
        axes.plot(curve.steps, np.mean(runs, 0), "o-", label=name)
    axes.axhline(1 / SYMBOLS, linestyle="--", color=pictures.GREY)
    axes.set(xlabel="step", ylabel="test accuracy", ylim=(0, 1.05))
    axes.legend()
    first = {name: float(sizes[0]) for name, sizes in gradients.items()}
    best = {name: float(np.array(runs)[:, -3:].mean()) for name, runs in scores.items()}
    opened = [best["LSTM, open gates"], best["GRU, open gates"]]
    return Findings(
        claims=[
            Claim("At the start of training the gradient of an LSTM or a GRU by the first input is "
                  "below a tenth of that by the last one.",
                  max(first["LSTM"], first["GRU"]) < 0.1,
                  f"{first['LSTM']:.0e} and {first['GRU']:.0e}"),
            Claim("With open gates it is larger for both.",
                  all(first[f"{x}, open gates"] > first[x] for x in ("LSTM", "GRU")),
                  f"{first['LSTM, open gates']:.0e} and {first['GRU, open gates']:.0e}"),
            # Means of several trainings: one may be lucky. Chance is a quarter.
            Claim("With open gates both name the first symbol as often as the plain network or "
                  "more often, within two standard errors of 400 examples (0.03).",
                  min(opened) > best["plain"] - 0.03,
                  f"{opened[0]:.2f} and {opened[1]:.2f} against {best['plain']:.2f}"),
            Claim("With the usual initial values gates are no advantage: a GRU names it less often "
                  "than the plain network, and an LSTM less often than one with open gates.",
                  best["GRU"] < best["plain"] and best["LSTM"] < opened[0],
                  f"{best['GRU']:.2f} and {best['LSTM']:.2f}"),
            Claim("A GRU predicts the next character of unseen text better than the frequencies of "
                  "pairs of characters.", bits < baseline,
                  f"{bits:.2f} against {baseline:.2f} bits per character"),
        ],
        pictures=[
            ("Gradient through time", pictures.svg(drawn),
             "The symbol to remember is at time 1. The plain network multiplies by an orthogonal "
             "matrix at first, so its gradient shrinks slowly; what is unstable is its training."),
            ("Remembering the first symbol", pictures.svg(drawn_curves),
             "The dashed line is chance; each curve is the mean of several trainings."),
            ("Text", pictures.slider({k: pictures.text(v) for k, v in samples.items()}, "steps"),
             "What the network writes; it has read a few kilobytes of the zoo's documentation."),
        ],
        next_steps=["--length 15: do the usual gates suffice?", "--length 60 --steps 600",
                    "--text-steps 1000: does it copy whole sentences?"],
        references=["Hochreiter & Schmidhuber, 1997 (LSTM); Cho et al., 2014 (GRU)",
                    "Pascanu et al., 2013: On the difficulty of training recurrent networks",
                    "Tallec & Ollivier, 2018: Can recurrent neural networks warp time?",
                    "zoo/layers/caption_decoders.py: LSTMs that write captions"],
    )  # fmt: skip
