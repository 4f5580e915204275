"""Transfer: pretrained features against training from scratch, layer by layer."""

import zoo
from tasks.data import sources
from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress, train
from zoo.lazy import keras, np, tf

MODEL, COUNTS = "resnet20.cifar10", (20, 60, 200)  # the weights are part of the package
STAGES = ("stage0", "stage1", "stage2")
SCRATCH = {"depths": (1, 1), "widths": (16, 32), "hidden": (), "conv_dropout": 0.0}


def images(name, count, rng):
    """Returns images of the Fashion-MNIST sample, `(count, 32, 32, 3)`, and their labels."""
    split = sources.load("fashion_sample").splits[name]
    rows = rng.permutation(len(split.labels))[:count]
    x = np.pad(np.asarray(split.items)[rows], ((0, 0), (2, 2), (2, 2)))[..., None]
    return np.repeat(x, 3, axis=3).astype("float32"), split.labels[rows].astype("int32")


def features(net, x, size=50, training=False):
    """Returns the means of the maps of each stage, computed in batches of some size."""

    @tf.function
    def means(batch):
        return [tf.reduce_mean(maps, (1, 2)) for maps in net(batch, training=training).values()]

    rows = [means(tf.constant(x[start : start + size])) for start in range(0, len(x), size)]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def trained_head(x, y, steps=300, rate=0.5):
    """Returns weights and bias of a linear classifier after full-batch gradient descent."""
    mean, std, weights, bias = x.mean(0), x.std(0) + 1e-3, np.zeros((x.shape[1], 10)), np.zeros(10)
    x = (x - mean) / std
    for _ in range(steps):
        logits = x @ weights + bias
        chances = np.exp(logits - logits.max(1, keepdims=True))
        error = (chances / chances.sum(1, keepdims=True) - np.eye(10)[y]) / len(x)
        weights, bias = weights - rate * x.T @ error, bias - rate * error.sum(0)
    return weights / std[:, None], bias - (mean / std) @ weights


def accuracy(head, x, y):
    """Returns the accuracy of a linear classifier."""
    return float((np.argmax(x @ head[0] + head[1], 1) == y).mean())


def fine_tuned(head, x, y, steps, rate=0.002):
    """Returns the pretrained network and a head after steps of gradient descent on both."""
    cross_entropy = keras.losses.sparse_categorical_crossentropy
    net = zoo.backbone(MODEL, input_shape=x.shape[1:])
    head = [tf.Variable(value, dtype="float32") for value in head]
    weights = [weight.value for weight in net.trainable_variables] + head
    for step in range(steps):
        rows = np.arange(32 * step, 32 * (step + 1)) % len(x)
        with tf.GradientTape() as tape:  # with frozen statistics of BatchNorm
            pooled = tf.reduce_mean(net(x[rows], training=False)["stage2"], (1, 2))
            loss = cross_entropy(y[rows], pooled @ head[0] + head[1], from_logits=True)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(rate / 32 * gradient)
    return net, [value.numpy() for value in head]


@study(21, "What is reused when a pretrained network learns new classes?")
def run(seed: int = 0, test_images: int = 200, scratch_steps: int = 150, steps: int = 4):
    """A network that was trained on CIFAR-10, photos of animals and vehicles, is used for images of
    clothes. Its features are better than random ones, but transfer pays the more, the more alike
    the data are. BatchNorm keeps its frozen statistics if batches are small. With a random head all
    layers change before it is of any use, so it is trained first."""
    rng = np.random.default_rng(seed)
    (x, y), (new, wanted) = images("train", max(COUNTS), rng), images("test", test_images, rng)
    scores, found = {}, {}
    for name in progress((MODEL, "resnet20"), "networks"):
        net = zoo.backbone(name, input_shape=x.shape[1:])
        found[name] = old, test = features(net, x), features(net, new)
        scores[name] = [accuracy(trained_head(a, y), b, wanted) for a, b in zip(old, test)]  # noqa: B905
    old, test = (parts[-1] for parts in found[MODEL])
    head, few, scratch, (pretrained, untrained) = trained_head(old, y), [], [], scores.values()
    for count in COUNTS:
        few.append(accuracy(trained_head(old[:count], y[:count]), test, wanted))
        model = zoo.build("convnet", input_shape=x.shape[1:], num_classes=10, **SCRATCH)
        curve = train(model, x[:count], y[:count], steps=scratch_steps, test=(new, wanted))
        scratch.append(float(curve.scores[-1]))
    statistics = {"frozen": pretrained[-1]}
    for size in (50, 8, 2):
        net = zoo.backbone(MODEL, input_shape=x.shape[1:])
        means = features(net, new, size, training=True)[-1]
        statistics[f"of {size} images"] = accuracy(head, means, wanted)
    tuned, random = {}, (rng.normal(0, (2 / 74) ** 0.5, (64, 10)), np.zeros(10))  # as in Keras
    for name, start in {"trained head": head, "random head": random}.items():
        net, end = fine_tuned(start, x, y, steps)
        means = features(net, new)[-1]
        change = float(np.linalg.norm(means - test) / np.linalg.norm(test))
        tuned[name] = change, accuracy(end, means, wanted)
    counts = {"pretrained, linear head": (COUNTS, few), "from scratch": (COUNTS, scratch)}
    stages = {name: (STAGES, values) for name, values in scores.items()}
    left = pictures.bars(statistics, title="statistics of BatchNorm", xlabel="accuracy")
    ends = {name: score for name, (_, score) in tuned.items()}
    right = pictures.bars(ends, title=f"{steps} steps on all layers", xlabel="accuracy")
    return Findings(
        claims=[
            Claim("Clothes are unlike photos: with 200 images training from scratch is as good.",
                  scratch[-1] > few[-1] - 0.1, f"{scratch[-1]:.2f} against {few[-1]:.2f}"),
            Claim("Pretraining improves the last stage.", pretrained[-1] > untrained[-1],
                  f"{pretrained[-1]:.2f} against {untrained[-1]:.2f}"),
            Claim("The second stage is better than the first.", pretrained[1] > pretrained[0],
                  ", ".join(f"{score:.2f}" for score in pretrained)),
            Claim("Statistics of batches of two cost accuracy, compared with frozen ones.",
                  statistics["of 2 images"] < statistics["frozen"],
                  ", ".join(f"{name}: {score:.2f}" for name, score in statistics.items())),
            Claim("If the head is trained first, steps on all layers end with more accuracy.",
                  tuned["trained head"][1] > tuned["random head"][1],
                  ", ".join(f"{name}: {score:.2f}, features moved by {change:.2f}"
                            for name, (change, score) in tuned.items())),
        ],
        pictures=[
            ("Few images", pictures.curves(counts, xlabel="images", ylabel="test accuracy"),
             "From scratch: a small network."),
            ("Layers", pictures.curves(stages, xlabel="features", ylabel="test accuracy"),
             "A linear head on the features of each stage; resnet20 has random weights."),
            ("Fine-tuning", pictures.panels([left, right]), "What fine-tuning gets wrong."),
        ],
        next_steps=["zoo rank fashion_sample: which pretrained network suits these images?",
                    "zoo train classification --plan gradual: from the last stage to the first"],
        references=["Yosinski et al., 2014: How transferable are features in deep networks?",
                    "Kumar et al., 2022: Fine-tuning can distort pretrained features"],
    )  # fmt: skip
