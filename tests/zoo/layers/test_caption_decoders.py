"""The recurrent layers of captioners against their formulas, written in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from zoo import UsageError, layers

pytestmark = pytest.mark.backend


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(gates, cell):
    """An LSTM with gates in the order of Keras: input, forget, candidate, output."""
    gate, forget, new, out = np.split(gates, 4, axis=-1)
    cell = sigmoid(forget) * cell + sigmoid(gate) * np.tanh(new)
    return sigmoid(out) * np.tanh(cell), cell


def dense(layer, x):
    kernel, *bias = (keras.ops.convert_to_numpy(w).astype("float64") for w in layer.weights)
    return x @ kernel + (bias[0] if bias else 0)


def random_embeddings(width=4, size=3, length=6, seed=0):
    return np.random.default_rng(seed).normal(size=(size, length, width)).astype("float32")


def test_the_image_is_the_first_input_of_the_lstm():
    layer = layers.TellingLSTM(5)
    words, image = random_embeddings(), random_embeddings()[:, 0]
    found = keras.ops.convert_to_numpy(layer(words, image))
    hidden, cell, expected = np.zeros((3, 5)), np.zeros((3, 5)), []
    for word in [image, *np.moveaxis(words, 1, 0)]:
        hidden, cell = lstm(dense(layer.gates, np.concatenate([word, hidden], -1)), cell)
        expected.append(hidden)
    np.testing.assert_allclose(found, np.stack(expected[1:], 1), rtol=1e-4, atol=1e-6)
    reference = keras.layers.LSTM(5, return_sequences=True)  # Keras's own, with the same weights
    sequence = np.concatenate([image[:, None], words], axis=1)
    reference.build(sequence.shape)
    kernel, bias = layer.gates.get_weights()
    reference.set_weights([kernel[:4], kernel[4:], bias])
    np.testing.assert_allclose(
        found, keras.ops.convert_to_numpy(reference(sequence))[:, 1:], rtol=1e-4, atol=1e-6
    )


def test_attention_follows_its_equations():
    layer = layers.AttendingLSTM(5, 3)
    words, features = random_embeddings(), random_embeddings(7, 3, 8, seed=1)
    layer(words, features)  # builds it
    outputs, attention = (keras.ops.convert_to_numpy(x) for x in layer.decode(words, features))
    mean = features.astype("float64").mean(axis=1)
    hidden, cell = (np.tanh(dense(d, mean)) for d in (layer.first_hidden, layer.first_cell))
    for step in range(words.shape[1]):
        word = words[:, step]
        query = dense(layer.query, np.concatenate([word, hidden], -1))
        scores = dense(layer.score, np.tanh(dense(layer.keys, features) + query[:, None]))[..., 0]
        weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        context = (weights[..., None] * features).sum(axis=1)
        context *= sigmoid(dense(layer.gate, hidden))
        hidden, cell = lstm(dense(layer.gates, np.concatenate([word, context, hidden], -1)), cell)
        expected = word + dense(layer.of_hidden, hidden) + dense(layer.of_context, context)
        np.testing.assert_allclose(attention[:, step], weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(outputs[:, step], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["TellingLSTM", "AttendingLSTM"])
def test_single_steps_give_the_outputs_of_whole_captions(kind):
    layer = getattr(layers, kind)(*((5,) if kind == "TellingLSTM" else (5, 3)))
    words = random_embeddings()
    features = (
        random_embeddings(seed=2)[:, 0] if kind == "TellingLSTM" else random_embeddings(7, 3, 8)
    )
    sequence = keras.ops.convert_to_numpy(layer(words, features))
    memory, state = layer.begin(features)
    for step in range(words.shape[1]):
        output, state, _ = layer.step(words[:, step], memory, state)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(output), sequence[:, step], rtol=1e-4, atol=1e-6
        )


def test_image_features_of_another_width_than_a_word_are_refused():
    with pytest.raises(UsageError, match="as wide as a word embedding; got 7, expected 4"):
        layers.TellingLSTM(5)(random_embeddings(), random_embeddings(7)[:, 0])
