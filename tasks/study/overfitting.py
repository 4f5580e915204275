"""Regularization: what helps a network that has 300 images only."""

import zoo
from tasks.data import augment, sources
from tasks.engine import regularizers
from tasks.study import Claim, Findings, pictures, study, training
from zoo.lazy import keras, np, tf

CURES = {  # name: what differs from a plain network
    "nothing": {},
    "L2 penalty": {"l2": 3e-3},
    "L1 penalty": {"l1": 3e-4},
    "dropout": {"dropout": 0.5},
    "early stopping": {"keep_best": True},
    "augmentation": {"copies": 10},
    "smaller network": {"widths": (16,)},
    "more data": {"factor": 10},
    "all but more data": {"l2": 1e-3, "dropout": 0.3, "keep_best": True, "copies": 10},
}


def fashion(seed):
    """Returns images and labels of the embedded Fashion-MNIST, training in random order, test."""
    splits = sources.load("fashion_sample").splits
    order = np.random.default_rng(seed).permutation(len(splits["train"].items))
    (x, y), test = (
        (np.array(splits[name].items)[..., None], splits[name].labels) for name in ("train", "test")
    )
    return x[order], y[order], test


def augmented(x, y, copies, seed):
    """Returns images and flipped and shifted copies of them, made by the kit's augmentation."""
    params = augment.sample_params(seed, 0, len(x), copies, x.shape[1:], augment="light")
    images = [x]
    for copy in range(copies):
        step = {name: values[copy] for name, values in params.items()}
        images.append(augment.apply(tf.constant(x), tf.one_hot(y, 10), step)[0].numpy())
    return np.concatenate(images), np.tile(y, copies + 1)


def trained(
    x, y, test, images, steps, seed, *, widths=(128, 128), dropout=0.0, l1=0.0, l2=0.0,
    keep_best=False, copies=0, factor=1,
):  # fmt: skip
    """Returns training and test accuracy, the curve, and the size of the weights.

    The last images are for validation, with which early stopping chooses the step.
    """
    keras.utils.set_random_seed(seed)
    steps = steps * 4 if factor > 1 else steps  # more images take longer to learn
    model = zoo.build("mlp", input_shape=(28, 28, 1), widths=widths, dropout=dropout)
    regularizers.add_kernel_regularization(model, l1, l2)
    own = x[: images * factor], y[: images * factor]
    validation = x[-500:], y[-500:]
    shown = augmented(*own, copies, seed) if copies else own
    curve = training.train(model, *shown, steps=steps, seed=seed, every=max(1, steps // 20),
                           test=validation, keep_best=keep_best)  # fmt: skip
    kernel = np.array(model.get_layer("hidden1").kernel)
    return training.score(model, *own), training.score(model, *test), curve, np.abs(kernel)


@study(13, "What helps a network that has memorized its few images?")
def run(seed: int = 0, steps: int = 400, images: int = 300):
    """A large network learns 300 images by heart: it is perfect on them and far worse on others.
    Penalties, dropout, early stopping and augmentation close the gap mostly by lowering the
    accuracy on the training images. What is new to the network comes from more data."""
    x, y, test = fashion(seed)
    images = min(images, len(x) // 10 - 50)
    found = {name: trained(x, y, test, images, steps, seed, **changes)
             for name, changes in training.progress(CURES.items(), "cures")}  # fmt: skip
    drawn, axes = pictures.figure(height=4)
    names, place = list(found)[::-1], np.arange(len(found))
    axes.barh(place + 0.2, [found[n][0] for n in names], 0.4, label="training images")
    axes.barh(place - 0.2, [found[n][1] for n in names], 0.4, label="test images")
    axes.set(yticks=place, yticklabels=names, xlim=(0, 1), xlabel="accuracy")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.14), ncols=2)
    shown = {}
    for name, (_, _, curve, _) in found.items():
        drawn_curve, panel = pictures.figure()
        panel.plot(curve.steps, curve.scores)
        panel.set(xlabel="step", ylabel="validation accuracy", ylim=(0.4, 0.95))
        shown[name] = pictures.svg(drawn_curve)
    gaps = {name: each[0] - each[1] for name, each in found.items()}
    gains = {name: each[1] - found["nothing"][1] for name, each in found.items()}
    best = max((n for n in found if n not in ("nothing", "more data")), key=gains.get)
    zeros = {name: float((found[name][3] < 1e-3).mean()) for name in list(CURES)[:3]}
    return Findings(
        claims=[
            # The standard error of an accuracy of 0.75 on 1,000 test images is 0.014.
            Claim("The network is near perfect on its images and much worse on others.",
                  found["nothing"][0] > 0.97 and gaps["nothing"] > 0.15,
                  f"{found['nothing'][0]:.1%} and {found['nothing'][1]:.1%}"),
            Claim("Ten times as many images gain more than any other cure does.",
                  gains["more data"] > max(0.02, gains[best]),
                  f"{gains['more data']:+.1%}; at best {gains[best]:+.1%}, by {best}"),
            Claim("All cures together close the gap between training and test images further "
                  "than nothing does.", gaps["all but more data"] < 0.8 * gaps["nothing"],
                  f"{gaps['all but more data']:.1%} in place of {gaps['nothing']:.1%}"),
            Claim("The L1 penalty makes many more weights zero than the L2 penalty, which shrinks "
                  "them.", zeros["L1 penalty"] > 2 * zeros["L2 penalty"],
                  f"{zeros['L1 penalty']:.0%} and {zeros['L2 penalty']:.0%} below 0.001, "
                  f"{zeros['nothing']:.0%} without"),
        ],
        pictures=[
            ("Accuracy", pictures.svg(drawn),
             "The gap is between the two bars of a cure. Differences between cures of less than "
             "0.03 are chance: two standard errors of 1,000 test images."),
            ("While training", pictures.slider(shown, "cure"),
             "Does the accuracy on validation images fall again?"),
        ],
        next_steps=["--images 100: which cure helps most now?", "--steps 2000: which cure lasts?",
                    "zoo train classification --l2 0.001 --augment light --patience 5: several"],
        references=["Srivastava et al., 2014: Dropout",
                    "Krogh & Hertz, 1991: A simple weight decay can improve generalization",
                    "Prechelt, 1998: Early stopping - but when?",
                    "tasks/engine/regularizers.py, tasks/data/augment.py"],
    )  # fmt: skip
