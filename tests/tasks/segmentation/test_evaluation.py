"""Evaluation of a segmenter: pixel counts and losses for any batch size and number of replicas."""

import gc

import keras
import numpy as np
import pytest

import zoo
from tasks.data import decoding
from tasks.data.geometry import IGNORE_LABEL
from tasks.distributed import strategies
from tasks.segmentation import evaluation, metrics

CLASSES = 5


def random_examples(count, side=16, seed=0):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, side, side, 3), dtype="uint8")
    labels = random.choice([*range(CLASSES), IGNORE_LABEL], (count, side, side)).astype("uint8")
    return decoding.Examples("test", pixels, labels)


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    return zoo.build("unet", input_shape=(16, 16, 3), num_classes=CLASSES, widths=[4, 8])


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.mark.parametrize(
    "batch_size",
    [pytest.param(2, marks=pytest.mark.check), 3, pytest.param(7, marks=pytest.mark.check), 10],
)
def test_counts_and_loss_agree_with_a_slow_loop(batch_size, model):
    examples = random_examples(7)
    counter, loss = evaluation.evaluate(model, examples, batch_size=batch_size)
    logits = np.asarray(model(examples.pixels, training=False), "float64")
    expected, entropies = np.zeros((7, CLASSES, CLASSES), "int64"), []
    for index in np.argwhere(examples.labels != IGNORE_LABEL):
        scores, label = logits[tuple(index)], examples.labels[tuple(index)]
        expected[index[0], label, scores.argmax()] += 1
        entropies.append(np.log(np.exp(scores).sum()) - scores[label])
    assert (counter.matrix == expected.sum(axis=0)).all()
    assert (counter.counts_per_image == metrics.iou_counts(expected)).all()
    assert loss == pytest.approx(np.mean(entropies), rel=1e-5)


def test_matrices_per_image_are_kept_for_a_few_batches_only(monkeypatch, model):
    examples, sizes = random_examples(7), []
    whole, loss = evaluation.evaluate(model, examples, batch_size=2)
    add = metrics.ConfusionCounter.add_matrices
    monkeypatch.setattr(
        metrics.ConfusionCounter, "add_matrices", lambda s, m: sizes.append(m.nbytes) or add(s, m)
    )
    matrix = 4 * CLASSES**2  # bytes per image
    monkeypatch.setattr(evaluation, "MAX_MATRIX_BYTES", 4 * matrix)
    parts, same_loss = evaluation.evaluate(model, examples, batch_size=2)
    assert sizes == [4 * matrix, 3 * matrix]
    assert (parts.matrix == whole.matrix).all()
    assert (parts.counts_per_image == whole.counts_per_image).all()
    assert same_loss == loss


def test_predicted_masks_are_the_argmax_of_the_logits(model):
    examples = random_examples(7)
    expected = np.asarray(model(examples.pixels, training=False)).argmax(axis=-1)
    masks = evaluation.predict(model, examples, [6, 0, 3], batch_size=2)
    assert masks.dtype == "uint8"
    assert (masks == expected[[6, 0, 3]]).all()


@pytest.mark.check
def test_two_replicas_give_the_metrics_of_one_on_an_uneven_last_batch(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs tf.distribute")
    examples = random_examples(11)  # batches of 4, 4 and 3: the last one has 2 and 1 per replica

    def evaluate(strategy):
        with strategies.create_strategy(strategy).scope():
            model = small_network()
        counter, loss = evaluation.evaluate(model, examples, batch_size=4)
        assert evaluation._evaluation_models[model].distribute_strategy.num_replicas_in_sync == (
            1 if strategy == "one" else 2
        )
        figures = {**metrics.segmentation_metrics(counter.matrix), "loss": loss}
        return figures, int(counter.matrix.sum())

    (one, pixels), (two, others) = evaluate("one"), evaluate("mirrored")
    assert pixels == others == int((examples.labels != IGNORE_LABEL).sum())
    assert two == pytest.approx(one, abs=1e-6)


def test_evaluation_does_not_keep_models_alive():
    gc.collect()
    before = len(evaluation._evaluation_models)
    model = small_network()
    evaluation.evaluate(model, random_examples(2), batch_size=2)
    assert len(evaluation._evaluation_models) == before + 1
    del model
    gc.collect()
    assert len(evaluation._evaluation_models) <= before
