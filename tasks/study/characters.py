"""A GRU that writes text character by character, and the text that it learns from."""

from __future__ import annotations

import ast
import inspect
import string

from tasks.study.training import train
from zoo.lazy import keras, np, tf
from zoo.models import convnet, googlenet, lenet, resnet, vgg


def text():
    """Returns a few kilobytes of text: the documentation of some networks of the zoo."""
    found = []
    for module in (resnet, vgg, googlenet, convnet, lenet):
        nodes = ast.walk(ast.parse(inspect.getsource(module)))
        found += [ast.get_docstring(x) for x in nodes if isinstance(x, ast.FunctionDef)]
    words = " ".join(" ".join(filter(None, found)).lower().split())
    return "".join(x for x in words if x in string.ascii_lowercase + string.digits + " .,")


def bigram_bits(codes, held, count):
    """Returns the bits per character of held-out text by the frequencies of pairs."""
    pairs = np.full((count, count), 0.1)
    np.add.at(pairs, (codes[:-1], codes[1:]), 1)
    pairs /= pairs.sum(1, keepdims=True)
    return -np.log2(pairs[held[:-1], held[1:]]).mean()


def sample_text(model, letters, rng, length=120, temperature=0.7):
    """Returns text that a model of the next character writes, one character after the other."""
    cell, dense = model.get_layer("recurrent").cell, model.layers[-1]
    state, code, found = tf.zeros((1, cell.units)), 0, []
    for _ in range(length):
        _, [state] = cell(tf.one_hot([code], len(letters)), [state])
        chances = np.array(keras.ops.softmax(dense(state) / temperature), "float64")[0]
        code = int(rng.choice(len(letters), p=chances / chances.sum()))
        found.append(letters[code])
    return "".join(found)


def write_text(steps, seed, window=25, units=64):
    """Trains a GRU on text; returns its bits per character on held-out text and samples."""
    rng, letters = np.random.default_rng(seed), sorted(set(text()))
    codes = np.array([letters.index(x) for x in text()])
    codes, held = np.split(codes, [len(codes) * 9 // 10])
    x = inputs = keras.Input((None, len(letters)))
    x = keras.layers.GRU(units, return_sequences=True, name="recurrent")(x)
    model = keras.Model(inputs, keras.layers.Dense(len(letters))(x))
    rows = np.lib.stride_tricks.sliding_window_view(codes, window + 1)
    inputs = np.eye(len(letters), dtype="float32")
    rng.shuffle(rows := rows.copy())
    samples = {"0": sample_text(model, letters, rng)}
    test, adam = (inputs[rows[:9, :-1]], rows[:9, 1:]), keras.optimizers.Adam(1e-2)
    rows = rows[: 32 * steps]
    train(model, inputs[rows[:, :-1]], rows[:, 1:], steps=steps, optimizer=adam, test=test)
    samples[str(steps)] = sample_text(model, letters, rng)
    logits = model(inputs[held[None, :-1]])
    loss = keras.losses.sparse_categorical_crossentropy(held[None, 1:], logits, from_logits=True)
    bits = float(tf.reduce_mean(loss)) / np.log(2)
    return bits, bigram_bits(codes, held, len(letters)), samples
