"""Segmentation losses against slow formulas in NumPy, on one replica and on two."""

import keras
import numpy as np
import pytest

from tasks.distributed import strategies
from tasks.segmentation import losses
from zoo.errors import UsageError

CLASSES = 4
WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def batch(images=3, seed=0, ignored=0.3):
    """Returns logits and labels; class 3 is in the last image only, all of the first is ignored."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (images, 5, 6, CLASSES)).astype("float32")
    labels = random.integers(0, CLASSES - 1, (images, 5, 6)).astype("uint8")
    labels[-1, 2:] = CLASSES - 1
    labels[random.random(labels.shape) < ignored] = losses.IGNORE_LABEL
    labels[0] = losses.IGNORE_LABEL
    return logits, labels


def slow(name, logits, labels, weights=None, gamma=2.0, smooth=1.0):
    """Returns the loss of a batch, computed pixel by pixel in float64."""
    weights = np.ones(CLASSES) if weights is None else np.asarray(weights)
    p = np.exp(logits.astype("float64"))
    p /= p.sum(axis=-1, keepdims=True)
    if name == "dice":
        return np.mean([slow_dice(*pair, weights, smooth) for pair in zip(p, labels, strict=True)])
    total = weight = 0.0
    for index in np.argwhere(labels != losses.IGNORE_LABEL):
        label = labels[tuple(index)]
        probability = p[tuple(index)][label]
        factor = (1 - probability) ** gamma if name == "focal" else 1.0
        total -= weights[label] * factor * np.log(probability)
        weight += weights[label]
    return total / weight


def slow_dice(p, labels, weights, smooth):
    valid = labels != losses.IGNORE_LABEL
    loss, total = 0.0, 0.0
    for label in np.unique(labels[valid]):
        predicted, true = p[..., label][valid], labels[valid] == label
        dice = (2 * predicted[true].sum() + smooth) / (predicted.sum() + true.sum() + smooth)
        loss += weights[label] * (1 - dice)
        total += weights[label]
    return loss / total if total else 0.0


def value(text, logits, labels, **options):
    loss = losses.segmentation_loss(text, num_classes=CLASSES, **options)
    return float(keras.ops.mean(loss(labels, keras.ops.convert_to_tensor(logits))))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_agree_with_slow_formulas(name, weights):
    logits, labels = batch()
    found = value(name, logits, labels, class_weights=weights)
    assert found == pytest.approx(slow(name, logits, labels, weights), rel=1e-5)


def test_a_sum_is_the_sum_of_its_parts():
    logits, labels = batch()
    found = value("cross_entropy+dice", logits, labels, class_weights=WEIGHTS)
    parts = [slow(name, logits, labels, WEIGHTS) for name in ("cross_entropy", "dice")]
    assert found == pytest.approx(sum(parts), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_the_focal_loss_agrees_with_its_formula_for_every_gamma(gamma):
    logits, labels = batch()
    wanted = slow("focal", logits, labels, gamma=gamma)
    assert value("focal", logits, labels, gamma=gamma) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_ignored_pixels_do_not_change_the_loss(name):
    logits, labels = batch()
    other = logits.copy()
    other[labels == losses.IGNORE_LABEL] = 50 * np.random.default_rng(1).normal(size=CLASSES)
    assert value(name, other, labels) == pytest.approx(value(name, logits, labels), rel=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_batch_without_labels_has_a_loss_of_zero(name):
    logits, labels = batch()
    assert value(name, logits, np.full_like(labels, losses.IGNORE_LABEL)) == 0


@pytest.mark.parametrize("text", ["cross_entropy", "focal", "dice", "focal+dice"])
def test_gradients_agree_with_central_differences(text):
    """Differences of the slow formula in float64; gradients of ignored pixels are zero."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs a gradient tape")
    import tensorflow as tf

    logits, labels = batch(images=2)
    loss = losses.segmentation_loss(text, num_classes=CLASSES, class_weights=WEIGHTS)
    x = tf.Variable(logits.astype("float64"))
    with tf.GradientTape() as tape:
        found = keras.ops.mean(loss(labels, x))
    gradient = tape.gradient(found, x).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[labels == losses.IGNORE_LABEL].any()
    for index in [(1, 0, 1, 0), (1, 3, 3, 3), (1, 4, 5, 2)]:
        up, down = logits.astype("float64"), logits.astype("float64")
        up[index] += 1e-5
        down[index] -= 1e-5
        wanted = sum(
            slow(name, up, labels, WEIGHTS) - slow(name, down, labels, WEIGHTS)
            for name in text.split("+")
        )
        assert gradient[index] == pytest.approx(wanted / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("text", ["cross_entropy", "focal", "dice"])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradients_of_saturated_logits_are_finite(text, gamma):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs a gradient tape")
    import tensorflow as tf

    labels = np.zeros((1, 2, 2), "uint8")
    x = tf.Variable(np.full((1, 2, 2, CLASSES), [500.0, -500, -500, -500], "float32"))
    loss = losses.segmentation_loss(text, num_classes=CLASSES, gamma=gamma)
    with tf.GradientTape() as tape:
        found = loss(labels, x)
    assert np.isfinite(tape.gradient(found, x).numpy()).all()


def test_losses_of_half_precision_logits_are_float32():
    logits, labels = batch()
    loss = losses.segmentation_loss("cross_entropy+dice", num_classes=CLASSES)
    rounded = keras.ops.cast(logits, "bfloat16")
    found = loss(labels, rounded)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    exact = np.asarray(keras.ops.cast(rounded, "float32"))
    assert float(keras.ops.mean(found)) == pytest.approx(
        slow("cross_entropy", exact, labels) + slow("dice", exact, labels), rel=1e-5
    )


@pytest.mark.parametrize(
    "text", [pytest.param("cross_entropy", marks=pytest.mark.check), "focal+dice"]
)
@pytest.mark.check
def test_two_replicas_take_the_step_of_one_replica(text, two_devices):
    """One half of the batch has fewer labels than the other.

    So the mean over the batch is not the mean of the means of its halves.
    """
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs tf.distribute")
    images = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype("float32")
    _, labels = batch(images=4)

    def train(name):
        with strategies.create_strategy(name).scope():
            keras.utils.set_random_seed(0)
            net = keras.Sequential([keras.Input((5, 6, 3)), keras.layers.Conv2D(CLASSES, 1)])
            loss = losses.segmentation_loss(text, num_classes=CLASSES, class_weights=WEIGHTS)
            net.compile(keras.optimizers.SGD(1.0), loss, jit_compile=False)
        record = net.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        return record.history["loss"], net.get_weights()

    (one, weights), (two, others) = train("one"), train("mirrored")
    np.testing.assert_allclose(two, one, rtol=1e-6)
    for first, second in zip(weights, others, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-7)


def test_balanced_weights_are_inverse_frequencies():
    counts = np.array([[60, 20, 0], [10, 10, 0]])
    found = losses.class_weights("balanced", counts)
    np.testing.assert_allclose(found, [100 / (2 * 70), 100 / (2 * 30), 0])
    assert found @ counts.sum(axis=0) == pytest.approx(100)
    assert losses.class_weights("none", counts) is None


def test_median_weights_are_median_frequency_balancing():
    # Class 1 is in the first image only: its frequency is 20 of 80, not 20 of 100.
    counts = np.array([[60, 20, 0], [20, 0, 0]])
    frequency = np.array([80 / 100, 20 / 80])
    wanted = [*(np.median(frequency) / frequency), 0]
    np.testing.assert_allclose(losses.class_weights("median", counts), wanted)


def test_pixels_are_counted_per_image():
    _, labels = batch()
    found = losses.pixel_counts(labels, CLASSES)
    assert found.tolist() == [[int((m == c).sum()) for c in range(CLASSES)] for m in labels]


@pytest.mark.parametrize("text", ["dise", "cross_entropy+", "dice+dice"])
def test_an_invalid_loss_is_refused(text):
    with pytest.raises(UsageError, match="loss"):
        losses.segmentation_loss(text, num_classes=2)
