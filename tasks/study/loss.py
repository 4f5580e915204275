"""Cross-entropy against squared error behind softmax."""

from tasks.classification import losses
from tasks.study import Claim, Findings, pictures, study
from zoo.lazy import keras, np


def gradient(name, logit):
    """Returns the loss and its gradient by the logit of the true class of two, the other 0."""
    import tensorflow as tf

    logits = tf.Variable([[logit, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.classification_loss(name)(tf.constant([[1.0, 0.0]]), logits)
    return float(loss[0]), float(tape.gradient(loss, logits)[0, 0])


@study(4, "Why is a classifier trained with cross-entropy, not with squared error?")
def run(seed: int = 0, steps: int = 60, learning_rate: float = 0.5):
    """Behind softmax the squared error is flat where the model is confidently wrong, so its
    gradient vanishes exactly where it should be largest."""
    grid = np.linspace(-8, 8, 65)
    curves = {
        name: np.array([gradient(name, x) for x in grid])
        for name in ("cross_entropy", "squared_error")
    }
    drawn, (left, right) = pictures.figure(2, width=8.5)
    for name, values in curves.items():
        left.plot(grid, values[:, 0], label=name.replace("_", " "))
        right.plot(grid, -values[:, 1], label=name.replace("_", " "))
    left.set(xlabel="logit of the true class", ylabel="loss")
    right.set(xlabel="logit of the true class", ylabel="- gradient")
    left.legend()

    accuracy = {name: trained(name, seed, steps, learning_rate) for name in curves}
    drawn_training, axes = pictures.figure()
    for name, values in accuracy.items():
        axes.plot(range(1, steps + 1), values, label=name.replace("_", " "))
    axes.set(xlabel="step", ylabel="training accuracy", ylim=(0, 1))
    axes.legend()
    wrong = {name: -values[0, 1] for name, values in curves.items()}  # at a logit of -8
    final = {name: values[-1] for name, values in accuracy.items()}
    return Findings(
        claims=[
            Claim("Where the model is confidently wrong, cross-entropy has a gradient near 1.",
                  wrong["cross_entropy"] > 0.99, f"{wrong['cross_entropy']:.4f}"),
            Claim("There the gradient of squared error vanishes.",
                  wrong["squared_error"] < 0.01, f"{wrong['squared_error']:.1e}"),
            Claim("From a confidently wrong start, cross-entropy reaches the higher accuracy after "
                  "equally many steps.", final["cross_entropy"] > final["squared_error"] + 0.1,
                  f"{final['cross_entropy']:.2f} against {final['squared_error']:.2f}"),
        ],
        pictures=[
            ("Loss and gradient", pictures.svg(drawn),
             "At the left the model is confidently wrong."),
            ("Training", pictures.svg(drawn_training), "Both start from the same weights."),
        ],
        next_steps=["--learning-rate 5: does a larger rate rescue the squared error?",
                    "zoo train classification --loss squared_error: the same on real images"],
        references=["Golik et al., 2013: Cross-entropy vs. squared error training",
                    "tasks/classification/losses.py: both losses of the kit"],
    )  # fmt: skip


def trained(name, seed, steps, learning_rate):
    """Returns the accuracy after each step of a linear classifier that starts confidently wrong."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    centers = 3 * np.array([[1, 0], [-0.5, 0.87], [-0.5, -0.87]])
    labels = rng.integers(0, 3, 300)
    inputs = (centers[labels] + rng.normal(size=(300, 2))).astype("float32")
    targets = keras.ops.one_hot(labels, 3)
    weights = tf.Variable(-2 * centers.T.astype("float32"))  # the opposite of what is right
    accuracy = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            logits = inputs @ weights
            loss = tf.reduce_mean(losses.classification_loss(name)(targets, logits))
        weights.assign_sub(learning_rate * tape.gradient(loss, weights))
        accuracy.append(float((np.argmax(inputs @ weights.numpy(), 1) == labels).mean()))
    return accuracy
