"""Metrics and baselines against formulas, and models whose metrics are known."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from tasks.sequence import dataset, evaluation, generation
from tasks.sequence.baselines import CharacterNGrams
from tasks.sequence.encoding import Encoding
from tasks.sequence.sources import Source

LENGTH = 6
RNG = np.random.default_rng(0)


def prepared(source):
    return dataset.prepare(source, length=LENGTH, stride=0, validation=0.2, test=0.2)


def text_data():
    return prepared(Source(["".join(RNG.choice([*"abcd"], 300, p=[0.4, 0.3, 0.2, 0.1])) + "zz"]))


def bigram_model(grams, size):
    """Returns a model whose logits are the logarithms of a bigram model."""
    steps = keras.Input((None, 1))
    tokens = keras.layers.Reshape((-1,))(steps)
    model = keras.Model(steps, keras.layers.Embedding(size, size)(tokens))
    pairs = np.indices((size, size)).reshape(2, -1)
    model.set_weights([-grams.bigram_entropy(*pairs).reshape(size, size)])
    return model


def metrics(model, data, part=None, **options):
    return evaluation.compute_metrics(
        model, data.encoding, part or data.test, batch_size=4, **options
    )


def test_n_grams_are_relative_frequencies_with_one_more_observation():
    grams = CharacterNGrams([0, 1, 0, 1, 1], 3)
    unigram = np.array([3, 4, 1]) / 8
    np.testing.assert_allclose(np.exp(-grams.unigram_entropy(np.arange(3))), unigram)
    after_zero = (np.array([0, 2, 0]) + unigram) / 3
    found = np.exp(-grams.bigram_entropy(np.zeros(3, int), np.arange(3)))
    np.testing.assert_allclose(found, after_zero)
    unseen = np.exp(-grams.bigram_entropy(np.full(3, 2), np.arange(3)))
    np.testing.assert_allclose(unseen, unigram)
    for before in range(3):
        total = np.exp(-grams.bigram_entropy(np.full(3, before), np.arange(3))).sum()
        assert total == pytest.approx(1)


def test_a_bigram_model_has_the_loss_of_the_baseline():
    data = text_data()
    size = len(data.encoding.vocabulary)
    grams = CharacterNGrams(data.train.steps[:, 0], size)
    found, _ = metrics(bigram_model(grams, size), data)
    baseline = evaluation.baseline_metrics(data.encoding, data.train, data.test)
    assert found["loss"] == pytest.approx(baseline["bigram_loss"], rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["bits_per_character"] == pytest.approx(found["loss"] / math.log(2))
    # By hand, over the steps after the first half window; z does not occur in training.
    steps = data.test.steps[:, 0]
    scored = len(data.test) * data.test.stride
    pairs = list(zip(steps[LENGTH - 3 :], steps[LENGTH - 2 :], strict=False))[:scored]
    known = [(a, b) for a, b in pairs if b != 1]
    by_hand = np.mean([grams.bigram_entropy(a, b) for a, b in known])
    assert found["loss"] == pytest.approx(by_hand, rel=1e-5)
    hits = np.mean([np.argmin(grams.bigram_entropy(a, np.arange(size))) == b for a, b in known])
    assert found["accuracy"] == pytest.approx(hits)


def test_every_scored_step_has_half_a_window_of_context_and_is_scored_once():
    """A model that counts the steps of its window so far outputs the context of each step."""
    data = prepared(Source([np.arange(100.0)[:, None]], channels=("x",)))
    before, targets = evaluation.scored_steps(data.test)
    count = len(data.test) * 3
    np.testing.assert_array_equal(targets[:, 0], 80 + 3 + 1 + np.arange(count))
    np.testing.assert_array_equal(before, targets - 1)
    x = keras.Input((None, 1))
    counted = keras.layers.SimpleRNN(1, "linear", return_sequences=True)(x)
    model = keras.Model(x, counted)
    model.set_weights([np.zeros((1, 1)), np.ones((1, 1)), np.ones(1)])
    _, context = metrics(model, data)
    assert set(context[:, 0]) == {4.0, 5.0, 6.0}


def test_persistence_has_the_errors_of_the_baseline_and_of_the_formulas():
    values = RNG.normal(size=(200, 2)).cumsum(axis=0) * (1, 100)
    data = prepared(Source([values], channels=("x", "y")))
    x = keras.Input((None, 2))
    found, forecasts = metrics(keras.Model(x, keras.layers.Identity()(x)), data)
    baseline = evaluation.baseline_metrics(data.encoding, data.train, data.test)
    for name in ("mae", "rmse", "mase"):
        assert found[name] == pytest.approx(baseline[f"persistence_{name}"], rel=1e-6)
    steps = len(data.test) * 3
    truth = values[160 + 3 + 1 :][:steps]
    error = values[160 + 3 :][:steps] - truth
    np.testing.assert_allclose(forecasts - truth, error, atol=1e-3)
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean(0)).mean(), rel=1e-5)
    naive = np.abs(np.diff(values[:120], axis=0)).mean(axis=0)
    assert found["mase"] == pytest.approx((np.abs(error).mean(0) / naive).mean(), rel=1e-5)
    scaled = (error / values[:120].std(axis=0)) ** 2
    assert found["loss"] == pytest.approx(scaled.mean(), rel=1e-4)


def test_channels_that_are_constant_in_training_have_no_scaled_error():
    values = np.stack([np.zeros(200), np.arange(200.0) % 3], axis=1)
    data = prepared(Source([values], channels=("x", "y")))
    x = keras.Input((None, 2))
    found, _ = metrics(keras.Model(x, keras.layers.Identity()(x)), data)
    assert found["mase"] == pytest.approx(1, rel=0.05)
    data = prepared(Source([values[:, :1]], channels=("x",)))
    x = keras.Input((None, 1))
    found, _ = metrics(keras.Model(x, keras.layers.Identity()(x)), data)
    assert set(found) == {"loss", "mae", "rmse"}


def test_metrics_do_not_depend_on_the_chunks(monkeypatch):
    data = text_data()
    size = len(data.encoding.vocabulary)
    model = bigram_model(CharacterNGrams(data.train.steps[:, 0], size), size)
    whole, _ = metrics(model, data)
    monkeypatch.setattr(evaluation, "MAX_OUTPUTS", 5 * LENGTH * size)
    assert metrics(model, data)[0] == pytest.approx(whole, rel=1e-6)


def test_labels_have_accuracy_with_an_interval_and_the_majority_share():
    sequences = [np.full((3, 1), float(i % 3 == 0)) for i in range(90)]
    source = Source(sequences, np.arange(90) % 3 % 2, ("a", "b"), channels=("x",))
    data = prepared(source)
    x = keras.Input((None, 1))
    last = keras.layers.Lambda(lambda x: x[:, -1], output_shape=(1,))(x)
    model = keras.Model(x, keras.layers.Dense(2)(last))
    model.set_weights([np.zeros((1, 2)), np.array([0.0, 1.0])])  # always class b
    found, logits = metrics(model, data, seed=0)
    share = (data.test.labels == 1).mean()
    assert found["accuracy"] == pytest.approx(share)
    assert found["accuracy_low"] < share < found["accuracy_high"]
    entropy = np.log(1 + np.e) - np.array([0, 1])
    assert found["loss"] == pytest.approx(entropy[data.test.labels].mean(), rel=1e-5)
    assert logits.shape == (len(data.test), 2)
    assert evaluation.baseline_metrics(data.encoding, data.train, data.test) == {
        "majority_share": pytest.approx(1 - share)
    }


# Continuation


def fixed(logits):
    """Returns a function of windows with the same logits at each step."""
    return lambda windows: np.broadcast_to(logits, (*windows.shape[:2], len(logits)))


def test_samples_have_the_probabilities_of_the_softmax_at_a_temperature():
    logits = np.array([9.0, 9.0, 0.0, 1.0, 2.0])  # padding and unknown are never sampled
    options = {"length": 4, "seed": 0}
    tokens = generation.continue_tokens(
        fixed(logits), [[2]] * 3, 4000, temperatures=(0, 1, 2), **options
    )
    assert set(tokens[0]) == {4}
    for row, temperature in zip(tokens[1:], (1, 2), strict=True):
        expected = np.exp(logits[2:] / temperature)
        found = np.bincount(row, minlength=5)
        assert not found[:2].any()
        # 5 standard deviations of the share of 4,000 samples
        np.testing.assert_allclose(found[2:] / 4000, expected / expected.sum(), atol=0.04)
    again = generation.continue_tokens(fixed(logits), [[2]], 50, temperatures=(1,), **options)
    other = generation.continue_tokens(
        fixed(logits), [[2]], 50, temperatures=(1,), length=4, seed=1
    )
    assert (again != other).any()


@pytest.mark.parametrize("start", [1, 3, 9])
def test_each_forecast_is_made_from_the_latest_steps(start):
    """The model adds up its window, as far as the last step: Fibonacci numbers of its length."""
    values = np.arange(1.0, start + 1)[:, None]
    found = generation.continue_series(
        lambda windows: windows.cumsum(axis=1), [values], 6, length=3
    )
    expected = values[:, 0].tolist()
    for _ in range(6):
        expected.append(sum(expected[-3:]))
    assert found[0, :, 0].tolist() == expected[start:]


def test_prompts_of_different_length_do_not_change_each_other():
    series = [RNG.normal(size=(steps, 2)) for steps in (1, 4, 7)]

    def model(windows):
        return 0.9 * windows.cumsum(axis=1)

    together = generation.continue_series(model, series, 5, length=4)
    for row, each in zip(together, series, strict=True):
        alone = generation.continue_series(model, [each], 5, length=4)
        np.testing.assert_allclose(row, alone[0], rtol=1e-5)


def test_the_encoding_of_a_text_has_no_channels():
    encoding = Encoding.of(Source(["abc"]), ["abc"], 2)
    assert (encoding.mean, encoding.channels, encoding.num_outputs) == (None, (), 5)
