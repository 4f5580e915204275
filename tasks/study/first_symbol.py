"""Recurrent layers that learn to name the first symbol of a long sequence of noise."""

from __future__ import annotations

from tasks.study.training import train
from zoo.lazy import keras, np, tf

SYMBOLS, UNITS = 4, 32


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


def train_and_measure(kind, opened, length, steps, repeats, seed):
    """Trains a cell several times to name the first symbol.

    Args:
        kind, opened, length: as `recurrent` takes them.
        steps: of each training run.
        repeats: number of training runs, each with other weights and sequences.
        seed: of all runs.

    Returns:
        The `gradient_sizes` before the first run, the steps after which the accuracy was measured,
        and the accuracies, `(repeats, measurements)`.
    """
    sizes, scores = [], []
    for own_seed in range(seed * repeats, (seed + 1) * repeats):
        keras.utils.set_random_seed(own_seed)
        rng = np.random.default_rng(own_seed)
        (x, y), test = sequences(2000, length, rng), sequences(400, length, rng)
        inputs = keras.Input((length, SYMBOLS))
        layer = recurrent(kind, length, opened=opened, rng=rng)
        model = keras.Model(inputs, keras.layers.Dense(SYMBOLS)(layer(inputs)))
        sizes.append(gradient_sizes(model, *test))
        curve = train(model, x, y, steps=steps, batch_size=64, seed=seed,
                      optimizer=keras.optimizers.Adam(1e-2, clipnorm=1.0), test=test,
                      every=max(1, steps // 8))  # fmt: skip
        scores.append(curve.scores)
    return sizes[0], curve.steps, np.array(scores)
