"""Saliency maps of classifiers: class activation maps, gradients, occlusion, attention rollout."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from tasks.explain.overlays import to_image_size
from zoo import graphs, surgery
from zoo.errors import UsageError
from zoo.lazy import keras, np, tf

STEPS = 32  # of the path of integrated gradients
CELLS = 7  # per side of the grid of occlusion and RISE
MASKS = 256  # of RISE
KEEP = 0.5  # share of the cells that a mask of RISE keeps
BATCH_SIZE = 32  # images per forward pass
MIN_MAP_SIDE = 8  # rows and columns of the feature map of class activation maps


@dataclass(frozen=True)
class Explained:
    """A classifier as the methods use it.

    Attributes:
        model: A functional `keras.Model` from images to logits `(batch, classes)`, flattened.
        feature_map: The symbolic output of a stage, `(batch, rows, columns, channels)`, or `None`
            if it has no feature maps behind all attention.
        attention: Pairs of the symbolic queries and keys of each self-attention, in order.
        grid: Rows and columns of the patches of a vision transformer, or `(0, 0)`.
        run: A function from images to logits, in place of the model.
        multi_label: Whether probabilities are sigmoids of the logits instead of their softmax.
    """

    model: keras.Model | None
    feature_map: object
    attention: tuple = ()
    grid: tuple[int, int] = (0, 0)
    run: Callable | None = None
    multi_label: bool = False

    def logits(self, images):
        """Returns the logits of images, a float32 array `(images, classes)`."""
        run = self.run or functools.partial(self.model, training=False)
        parts = [
            np.asarray(run(images[start : start + BATCH_SIZE]), "float32")
            for start in range(0, len(images), BATCH_SIZE)
        ]
        return np.concatenate(parts)

    def probabilities(self, images):
        """Returns the probabilities of images, a float32 array `(images, classes)`."""
        logits = self.logits(images)
        if self.multi_label:
            return 0.5 + 0.5 * np.tanh(logits / 2)  # the sigmoid, which cannot overflow
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)


def prepare(model, *, multi_label=False) -> Explained:
    """Returns a classifier as the methods use it.

    Args:
        model: A functional or Sequential `keras.Model` from one image to logits or probabilities.
        multi_label: As in `Explained`.

    Raises:
        UsageError: The model has several inputs or outputs, or is not a graph of layers.
    """
    net = graphs.flatten(model)
    image = graphs.single_input(net)
    if len(image.shape) != 4 or isinstance(net.output, dict | list) or len(net.output.shape) != 2:
        raise UsageError(
            f"{model.name} maps {image.shape} to {net.output_shape}; expected a "
            "classifier, from images (batch, height, width, channels) to (batch, classes)"
        )
    attention, grid = [], (0, 0)
    for node in graphs.nodes(net):
        if type(node.operation).__name__ == "DotProductAttention":
            attention.append(tuple(node.arguments.args[:2]))
        elif isinstance(node.operation, keras.layers.Conv2D):
            grid = tuple(node.outputs[0].shape[1:3])
    if attention:
        return Explained(net, None, tuple(attention), grid, multi_label=multi_label)
    maps = [x for x in surgery.stages(net).values() if len(x.shape) == 4]
    return Explained(net, _last_large_map(maps) if maps else None, multi_label=multi_label)


def _last_large_map(maps):
    """Returns the last feature map of `MIN_MAP_SIDE` rows and columns or more, or the last of all.

    The cells of smaller maps are large, and each sees most of the image: their activation hardly
    shows where an object is (docs/explain.md has figures).
    """
    large = [x for x in maps if min(side or MIN_MAP_SIDE for side in x.shape[1:3]) >= MIN_MAP_SIDE]
    return (large or maps)[-1]


def grad_cam(explained, images, classes):
    """Returns Grad-CAM maps (Selvaraju et al., 2017): channels weighted by their mean gradient."""
    features, gradients = _features_and_gradients(explained, images, classes)
    weights = gradients.mean((1, 2), keepdims=True)
    return np.maximum((weights * features).sum(-1), 0)


def hires_cam(explained, images, classes):
    """Returns HiResCAM maps (Draelos & Carin, 2020): features times gradient, elementwise.

    For a network that ends in global average pooling and a linear head it equals Grad-CAM.
    """
    features, gradients = _features_and_gradients(explained, images, classes)
    return np.maximum((gradients * features).sum(-1), 0)


def grad_cam_plus_plus(explained, images, classes):
    """Returns Grad-CAM++ maps (Chattopadhay et al., 2018), with the derivatives of an exponential
    of the score in closed form (equation 19)."""
    features, gradients = _features_and_gradients(explained, images, classes)
    squares, cubes = gradients**2, gradients**3
    sums = features.sum((1, 2), keepdims=True)
    denominator = 2 * squares + sums * cubes
    alphas = squares / np.where(denominator != 0, denominator, 1)
    weights = (alphas * np.maximum(gradients, 0)).sum((1, 2), keepdims=True)
    return np.maximum((weights * features).sum(-1), 0)


def integrated_gradients(explained, images, classes):
    """Returns maps of integrated gradients (Sundararajan et al., 2017) from a black image.

    The map is the sum over channels of the absolute attribution of each pixel, which add up, with
    signs, to the difference of the logit between the image and black.
    """
    return np.abs(attributions(explained, images, classes)).sum(-1)


def attributions(explained, images, classes, steps=STEPS):
    """Returns the signed attributions of integrated gradients, `(images, height, width, channels)`.

    Args:
        explained: The classifier.
        images: `(images, height, width, channels)`, in [0, 255].
        classes: The class of each image.
        steps: Points of the path, at the midpoints of equal parts.
    """
    points = (np.arange(steps, dtype="float32") + 0.5) / steps
    found = []
    for image, label in zip(np.asarray(images, "float32"), classes, strict=True):
        total = np.zeros_like(image)
        for start in range(0, steps, BATCH_SIZE):
            batch = tf.constant(points[start : start + BATCH_SIZE, None, None, None] * image)
            with tf.GradientTape() as tape:
                tape.watch(batch)
                score = tf.reduce_sum(tf.cast(explained.model(batch)[:, int(label)], "float32"))
            total += tape.gradient(score, batch).numpy().sum(0)
        found.append(image * total / steps)
    return np.stack(found)


def occlusion(explained, images, classes):
    """Returns occlusion maps (Zeiler & Fergus, 2014): how much the logit falls where a cell of a
    grid is replaced by the mean color of the image."""
    grid = 1 - np.eye(CELLS * CELLS, dtype="float32").reshape(-1, CELLS, CELLS)
    found = []
    for image, label in zip(images, classes, strict=True):
        masks = _enlarged(grid, image.shape[:2], smooth=False)
        scores = explained.logits(_masked(image, masks))[:, label]
        before = explained.logits(np.asarray(image, "float32")[None])[0, label]
        found.append(np.maximum(before - scores, 0).reshape(CELLS, CELLS))
    return np.stack(found)


def rise(explained, images, classes, seed=0):
    """Returns RISE maps (Petsiuk et al., 2018): the mean of random masks, weighted by the
    probability of the class in the masked image."""
    random = np.random.default_rng(seed)
    grids = (random.random((MASKS, CELLS + 1, CELLS + 1)) < KEEP).astype("float32")
    found = []
    for image, label in zip(images, classes, strict=True):
        masks = _enlarged(grids, image.shape[:2], smooth=True)
        weights = explained.probabilities(_masked(image, masks))[:, label]
        found.append((weights[:, None, None] * masks).mean(0) / KEEP)
    maps = np.stack(found)
    return maps - maps.min((1, 2), keepdims=True)


def attention_rollout(explained, images, classes):
    """Returns attention rollout maps (Abnar & Zuidema, 2020) of a vision transformer.

    They are the attention of the class token to the patches through all blocks, with residual
    connections; they do not depend on the class.

    Raises:
        UsageError: The model has no self-attention over a class token and patches.
    """
    rows, columns = explained.grid
    if not explained.attention or explained.attention[0][0].shape[1] != rows * columns + 1:
        raise UsageError(
            f"{explained.model.name} has no attention of a class token; attention_rollout is for "
            "vision transformers such as vit_tiny"
        )
    model = keras.Model(explained.model.input, list(explained.attention))
    rollout = np.eye(rows * columns + 1, dtype="float32")[None]
    for query, key in model(np.asarray(images), training=False):
        query, key = (np.asarray(x, "float32") for x in (query, key))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = (weights / weights.sum(-1, keepdims=True)).mean(1)
        rollout = (0.5 * weights + 0.5 * np.eye(weights.shape[-1])) @ rollout
    return rollout[:, 0, 1:].reshape(-1, rows, columns).astype("float32")


METHODS: dict[str, Callable] = {
    "grad_cam": grad_cam,
    "hires_cam": hires_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "rise": rise,
    "attention_rollout": attention_rollout,
}


def default_method(explained):
    """Returns the name of the method that suits a model: the cheapest that can explain it."""
    if explained.model is None or keras.backend.backend() != "tensorflow":
        return "occlusion"
    if explained.feature_map is not None:
        return "grad_cam"
    rows, columns = explained.grid
    tokens = explained.attention[0][0].shape[1] if explained.attention else 0
    return "attention_rollout" if rows and tokens == rows * columns + 1 else "occlusion"


def _features_and_gradients(explained, images, classes):
    """Returns the last feature maps, and the gradients of the classes' logits with respect to
    them, both float32 arrays `(images, rows, columns, channels)`."""
    if explained.feature_map is None:
        others = "integrated_gradients, occlusion or rise"
        if explained.attention:
            others = f"attention_rollout, {others}"
        raise UsageError(
            f"{explained.model.name} has no feature maps that its logits depend on; use {others}"
        )
    model = keras.Model(explained.model.input, [explained.feature_map, explained.model.output])
    with tf.GradientTape() as tape:
        features, logits = model(tf.constant(np.asarray(images)), training=False)
        # A tensor in the middle of a graph of Keras: its gradient needs no watching.
        score = tf.gather(tf.cast(logits, "float32"), np.asarray(classes), batch_dims=1)
        gradients = tape.gradient(tf.reduce_sum(score), features)
    return np.asarray(features, "float32"), np.asarray(gradients, "float32")


def _masked(image, masks):
    """Returns `(masks, height, width, channels)`: the image, its mean color where masks are 0."""
    image = np.asarray(image, "float32")
    mean = image.mean((0, 1))
    return mean + masks[..., None] * (image - mean)


def _enlarged(grids, size, *, smooth):
    """Returns grids `(count, rows, columns)` at the size of an image."""
    if smooth:
        return np.stack([to_image_size(grid, size) for grid in grids])
    rows, columns = (
        np.arange(side) * cells // side for side, cells in zip(size, grids.shape[1:], strict=True)
    )
    return grids[:, rows[:, None], columns]
