"""Optimisers, schedules, losses: against the formulas of their papers, step by step in NumPy."""

import keras
import numpy as np
import pytest

import tasks
import zoo
from tasks.classification import losses
from tasks.engine import hardware, optimize, regularizers, schedule_shapes, schedules
from tasks.inference import dtype_policies
from zoo.errors import UsageError

RATE, GRADIENTS = 0.1, [0.5, -1.0, 2.0, 0.25]


def sgd(w, gradients):
    for g in gradients:
        w -= RATE * g
    return w


def momentum(w, gradients, nesterov=False):
    v = 0.0
    for g in gradients:
        v = 0.9 * v - RATE * g
        w += 0.9 * v - RATE * g if nesterov else v
    return w


def adagrad(w, gradients):
    total = 0.1  # where Keras starts
    for g in gradients:
        total += g**2
        w -= RATE * g / np.sqrt(total + 1e-7)
    return w


def rmsprop(w, gradients):
    mean, v = 0.0, 0.0
    for g in gradients:
        mean = 0.9 * mean + 0.1 * g**2
        v = 0.9 * v + RATE * g / np.sqrt(mean + 1e-7)
        w -= v
    return w


def adam(w, gradients, decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        w -= RATE * decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w -= RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
    return w


def lion(w, gradients):
    m = 0.0
    for g in gradients:
        w -= RATE * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    return w


FORMULAS = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": lambda w, gradients: momentum(w, gradients, nesterov=True),
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": lambda w, gradients: adam(w, gradients, decay=0.05),
    "lion": lion,
}
DECAYED = {"adamw": 0.05}


def stepped(optimizer, gradients=GRADIENTS, start=1.0, name="kernel"):
    """Where a weight ends that starts at 1 and is given some gradients."""
    weight = keras.Variable(start, dtype="float32", name=name)
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weight])
    return float(weight.numpy())


@pytest.mark.parametrize("name", FORMULAS)
def test_an_optimizer_follows_the_formula_of_its_paper(name):
    made = optimize.create_optimizer(name, RATE, weight_decay=DECAYED.get(name, 0.0))
    assert stepped(made) == pytest.approx(FORMULAS[name](1.0, GRADIENTS), rel=1e-4)


def test_weight_decay_is_decoupled_and_excludes_biases_and_normalisation():
    def ended(name):
        return stepped(optimize.create_optimizer("sgd", RATE, weight_decay=0.5), [0.0], name=name)

    assert ended("kernel") == pytest.approx(1 - RATE * 0.5)
    assert ended("bias") == ended("gamma") == ended("beta") == 1.0


def test_weight_decay_of_a_vit_applies_to_kernels_only():
    options = {"depth": 1, "width": 8, "heads": 2}
    model = zoo.build("vit_tiny", input_shape=(32, 32, 3), num_classes=3, **options)
    made = optimize.create_optimizer("adamw", RATE, weight_decay=0.5)
    weights = model.trainable_variables
    optimize.exclude_embeddings_from_weight_decay(made, weights)
    for weight in weights:
        weight.assign(keras.ops.ones(weight.shape))
    made.build(weights)
    made.apply([keras.ops.zeros(weight.shape) for weight in weights], weights)
    kernels = {weight.path for weight in weights if weight.name == "kernel"}
    embeddings = {"class_token/kernel", "positions/kernel"}
    assert embeddings < kernels
    decayed = {weight.path for weight in weights if np.min(weight.numpy()) < 1}
    assert decayed == kernels - embeddings


def test_the_default_weight_decay_depends_on_the_optimizer():
    make = tasks.get("classification")
    decays = [
        make(**flags).make_optimizer(RATE).weight_decay
        for flags in ({}, {"optimizer": "momentum", "learning_rate": 0.1}, {"weight_decay": 0.3})
    ]
    assert decays == [0.05, 1e-4, 0.3]


def test_gradients_are_clipped_by_their_global_norm():
    weights = [keras.Variable(0.0, dtype="float32", name=name) for name in "ab"]
    made = optimize.create_optimizer("sgd", 1.0, clip_norm=1.0)
    made.build(weights)
    made.apply([keras.ops.convert_to_tensor(x, "float32") for x in (3.0, 4.0)], weights)
    assert [float(w.numpy()) for w in weights] == pytest.approx([-0.6, -0.8])


def test_accumulated_gradients_are_averaged_into_one_update():
    made = optimize.create_optimizer("adam", RATE, gradient_accumulation_steps=2)
    assert stepped(made) == pytest.approx(adam(1.0, [-0.25, 1.125]), rel=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_averaged_weights_are_swapped_in_and_out(accumulate):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.layers[-1].kernel.assign([[0.0]])
    model.compile(
        optimize.create_optimizer(
            "sgd", 1.0, ema_decay=0.8, gradient_accumulation_steps=accumulate
        ),
        "mse",
        jit_compile=False,
    )
    x, y = np.ones((4, 1)), np.full((4, 1), 10.0)
    seen = []
    for _ in range(6):
        model.fit(x, y, batch_size=4, verbose=0)
        seen.append(float(model.layers[-1].kernel.numpy()[0, 0]))
    average = 0.0
    for step, value in enumerate(seen):
        shares = 0.8 ** (1 / accumulate) if step >= accumulate else 0.0
        average = shares * average + (1 - shares) * value
    with optimize.ema_weights(model.optimizer):
        assert float(model.layers[-1].kernel.numpy()[0, 0]) == pytest.approx(average, rel=1e-5)
    assert float(model.layers[-1].kernel.numpy()[0, 0]) == seen[-1]


def test_unknown_optimizers_are_refused():
    with pytest.raises(UsageError, match=r"no optimizer named 'nesterof'.*nesterov"):
        optimize.create_optimizer("nesterof", RATE)


PROGRESS = {  # name: the rate at the first, the 51st and the 100th of 100 steps, of a peak of 1
    "constant": (1.0, 1.0, 1.0),
    "step": (1.0, 0.1, 0.01),
    "exponential": (1.0, 0.1**0.5, 0.1**0.99),
    "polynomial": (1.0, 0.55, 0.1 + 0.9 * 0.01),
    "cosine": (1.0, 0.5, (1 + np.cos(np.pi * 0.99)) / 2),
    "plateau": (1.0, 1.0, 1.0),
    "one_cycle": (
        0.04,
        1e-4 + 0.9999 * (1 + np.cos(np.pi * 20 / 70)) / 2,
        1e-4 + 0.9999 * (1 + np.cos(np.pi * 69 / 70)) / 2,
    ),
}


@pytest.mark.parametrize("name", PROGRESS)
def test_schedules_follow_their_formulas(name):
    rates = optimize.create_schedule(name, 1.0, steps=100)
    found = [float(rates(step)) for step in (0, 50, 99)]
    assert found == pytest.approx(PROGRESS[name], rel=1e-4)
    again = schedules.Schedule.from_config(rates.get_config())
    assert float(again(37)) == float(rates(37))


def test_every_schedule_has_a_formula():
    assert tuple(PROGRESS) == optimize.SCHEDULES == schedule_shapes.SCHEDULE_NAMES


@pytest.mark.parametrize("name", FORMULAS)
def test_the_plateau_schedule_works_with_every_optimizer(name):
    def ended(rate):
        return stepped(optimize.create_optimizer(name, rate, weight_decay=DECAYED.get(name, 0.0)))

    schedule = optimize.create_schedule("plateau", RATE, steps=10)
    later = schedule.then(optimize.create_schedule("plateau", RATE, steps=10))
    made = optimize.create_optimizer(name, later, weight_decay=DECAYED.get(name, 0.0))
    optimize.set_rate_factor(made, 0.5)
    assert stepped(made) == pytest.approx(ended(RATE / 2), rel=1e-6)
    assert schedule.scale in optimize.optimizer_variables(made)


@pytest.mark.parametrize(
    ("figures", "factor"),
    [
        ([], 1.0),
        ([0.5, 0.6, 0.7, 0.8], 1.0),
        ([0.5, 0.5, 0.4], 0.2),  # two epochs without a better one than the first
        ([0.5, 0.4, 0.6, 0.5], 1.0),
        ([0.5, 0.4, 0.6, 0.5, 0.6], 0.2),
        ([0.5, 0.4, 0.4, 0.4, 0.4], 0.2**2),
    ],
)
@pytest.mark.parametrize("validated", [True, False])
def test_the_plateau_schedule_reduces_the_rate_without_improvement(figures, factor, validated):
    task = tasks.get("classification")(schedule="plateau", decay_factor=0.2, plateau_patience=2)
    row = (lambda x: {"loss": 9.0, "val_accuracy": x}) if validated else (lambda x: {"loss": -x})
    found = optimize.plateau_factor(task, [row(figure) for figure in figures])
    assert found == pytest.approx(factor)


@pytest.mark.parametrize("name", ["cosine", "step"])
def test_warmup_is_linear(name):
    rates = optimize.create_schedule(name, 2.0, steps=100, warmup_steps=10)
    assert [float(rates(step)) for step in (0, 5, 10)] == pytest.approx([0.0, 1.0, 2.0])


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(UsageError, match="is as long as the run, which has 10"):
        optimize.create_schedule("cosine", 1.0, steps=10, warmup_steps=10)


@pytest.mark.parametrize("text", ["", "0.5,0.2", "0.5,x", "1.5", "0,0.5", "nan"])
def test_malformed_milestones_are_refused(text):
    with pytest.raises(UsageError, match=r"such as 0\.5,0\.75"):
        optimize.parse_milestones(text)


LABELS = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], "float32")
LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [0.0, 4.0, 1.0]], "float32")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


P = softmax(LOGITS)
S = 1 / (1 + np.exp(-LOGITS))
BINARY = LABELS * S + (1 - LABELS) * (1 - S)
SINGLE = {
    "cross_entropy": -np.log((P * LABELS).sum(-1)),
    "focal": -((1 - (P * LABELS).sum(-1)) ** 2) * np.log((P * LABELS).sum(-1)),
    "squared_error": ((P - LABELS) ** 2).mean(-1),
}
MULTI = {
    "cross_entropy": -np.log(BINARY).mean(-1),
    "focal": -((1 - BINARY) ** 2 * np.log(BINARY)).mean(-1),
    "squared_error": ((S - LABELS) ** 2).mean(-1),
}


@pytest.mark.parametrize("name", losses.LOSS_NAMES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_losses_follow_their_formulas(name, multi_label):
    loss = losses.classification_loss(name, multi_label=multi_label)
    expected = (MULTI if multi_label else SINGLE)[name]
    np.testing.assert_allclose(np.asarray(loss(LABELS, LOGITS)), expected, rtol=1e-5)


def test_label_smoothing_is_that_of_keras():
    ours = losses.classification_loss("cross_entropy", smoothing=0.1)(LABELS, LOGITS)
    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )(LABELS, LOGITS)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5)
    ours = losses.classification_loss("cross_entropy", smoothing=0.1, multi_label=True)(
        LABELS, LOGITS
    )
    theirs = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1, reduction=None)(
        LABELS, LOGITS
    )
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5)


def test_class_weights_multiply_the_losses_of_examples():
    weights = [3.0, 1.0, 0.5]
    ours = losses.classification_loss("cross_entropy", class_weights=weights)(LABELS, LOGITS)
    np.testing.assert_allclose(
        np.asarray(ours), SINGLE["cross_entropy"] * [3.0, 0.5, 1.0], rtol=1e-5
    )
    ours = losses.classification_loss("cross_entropy", class_weights=weights, multi_label=True)
    scale = np.where(LABELS == 1, weights, 1.0)
    expected = (scale * -np.log(BINARY)).mean(-1)
    np.testing.assert_allclose(np.asarray(ours(LABELS, LOGITS)), expected, rtol=1e-5)


def test_balanced_class_weights_are_those_of_scikit_learn():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    np.testing.assert_allclose(
        losses.balanced_class_weights(labels, 3), [10 / 18, 10 / 9, 10 / 3], rtol=1e-6
    )
    assert losses.balanced_class_weights(labels, 3)[labels].mean() == pytest.approx(1.0)
    several = np.array([[1, 0], [1, 1], [1, 0], [0, 0]])
    np.testing.assert_allclose(losses.balanced_class_weights(several, 2), [1 / 3, 3.0], rtol=1e-6)


def test_regularisation_applies_to_kernels_only():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, bias_initializer="ones")(inputs))
    model.layers[-1].kernel.assign([[3.0], [-4.0]])
    regularizers.add_kernel_regularization(model, 0.1, 0.01)
    assert float(sum(model.losses)) == pytest.approx(0.1 * 7 + 0.01 * 25)


def test_small_models_use_float32_and_many_steps_per_execution(monkeypatch):
    monkeypatch.setattr(dtype_policies, "has_bfloat16", lambda: True)
    assert dtype_policies.resolve_dtype_policy("auto", 1e6) == "float32"
    assert (
        dtype_policies.resolve_dtype_policy("auto", 1e10)
        == dtype_policies.resolve_dtype_policy("auto")
        == "mixed_bfloat16"
    )
    assert dtype_policies.resolve_dtype_policy("mixed_bfloat16", 1e6) == "mixed_bfloat16"
    assert hardware.steps_per_execution(3e7) == 32
    assert hardware.steps_per_execution(0) == hardware.steps_per_execution(1e13) == 1
