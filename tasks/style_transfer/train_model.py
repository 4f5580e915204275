"""What a picture or a painter learns as: a graph from images to losses."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass

from tasks.data import batches, data_fingerprint, data_splits, image_stats
from tasks.distributed import strategies
from tasks.style_transfer import perceptual_losses, style_images
from zoo.lazy import LazyModule, keras, np
from zoo.lazy_layers import layers

lambda_layer = LazyModule("tasks.engine.lambda_layer")

_train_models = weakref.WeakKeyDictionary()  # by model: its learner, as networks are slow to build


def source_fingerprint(task, data):
    """Returns the `data_identity` of a task: of its data set, if it has one, and its pictures."""
    found = {} if task.single_image else task.source_fingerprint(data.patches.source)
    return data_fingerprint.with_images(found, task.content, *style_images.parse_names(task.style))


def build_train_model(model, loss_targets):
    """Returns what a model learns as: a model of its layers from images to losses.

    Args:
        model: from images to pictures, `(batch, height, width, 3)` in [0, 255].
        loss_targets: what its pictures shall be like, an `Aims`.

    Returns:
        A functional `keras.Model` that gives float32 `(batch, 3)`, the losses of
        `perceptual_losses.LOSS_NAMES`; the same one when it is asked for again.
    """
    if model not in _train_models:
        with strategies.scope(model):
            _train_models[model] = _build_train_model(model, loss_targets)
    return _train_models[model]


def compile_train_model(training_model, optimizer, weights, *, jit_compile=False):
    """Compiles a learner to make the weighted sum of its losses small, each of them a metric.

    Args:
        training_model: what `training_model` returned.
        optimizer: of Keras.
        weights: of the losses, in their order.
        jit_compile: as `keras.Model.compile` takes it.
    """

    def part(index):
        return lambda _, found: found[..., index]

    metrics = [
        keras.metrics.MeanMetricWrapper(part(index), name)
        for index, name in enumerate(perceptual_losses.LOSS_NAMES)
    ]
    training_model.compile(
        optimizer=optimizer,
        loss=lambda _, found: weighted_sum(found, weights),
        metrics=metrics,
        jit_compile=jit_compile,
    )


def weighted_sum(found, weights):
    """Returns the weighted sums `(batch,)` of losses `(batch, 3)`."""
    return keras.ops.sum(found * keras.ops.convert_to_tensor(weights, found.dtype), axis=-1)


def evaluate_losses(model, loss_targets, images, weights):
    """Returns the losses of a model's pictures of some images, as figures by name.

    Args:
        model, loss_targets: as `learner` takes them.
        images: `(count, height, width, 3)`.
        weights: of the losses, for their sum `loss`.
    """
    net = batches.without_xla(build_train_model(model, loss_targets))
    found = [np.asarray(net.predict_on_batch(image[None]))[0] for image in np.asarray(images)]
    means = np.mean(found, axis=0).astype("float64")
    return {
        "loss": float(means @ weights),
        **{
            name: float(mean)
            for name, mean in zip(perceptual_losses.LOSS_NAMES, means, strict=True)
        },
    }


def unstylized_losses(loss_targets, images, weights):
    """Returns the losses of images as they are, as `measure` does those of pictures of them."""
    image = keras.Input((None, None, 3))
    same = keras.Model(image, keras.layers.Identity(dtype="float32")(image), name="unpainted")
    return evaluate_losses(same, loss_targets, images, weights)


def stylize(model, image):
    """Returns the picture that a painter makes of an image, both uint8 `(height, width, 3)`."""
    found = batches.without_xla(model).predict_on_batch(np.asarray(image, "float32")[None])
    return np.asarray(found)[0].round().clip(0, 255).astype("uint8")


class LossTargets:
    """What pictures shall be like: of which style, and of which content.

    Args:
        feature_extractor: a `feature_extractor.FeatureExtractor`.
        styles: uint8 pictures.
        shares: of each style, 1 together: the Gram matrices are blended.
        content: the one picture that the content is always of; or `None`, where it is that of
            the images that come in.
        grey: whether the brightness of pictures is all that counts.
        margin: pixels of mirror image that are laid round all pictures before they are looked at.
            What a network says of its border, beyond which it sees nothing, is then said of
            those, and no frame is painted.
    """

    def __init__(self, feature_extractor, styles, shares, content=None, *, grey=False, margin=0):
        self.feature_extractor, self.styles, self.shares = feature_extractor, styles, shares
        self.content, self.grey, self.margin = content, grey, margin


@dataclass(frozen=True, eq=False)
class StyleTransferData:
    """What a run knows of its pictures.

    Attributes:
        content: uint8 `(height, width, 3)`.
        aims: what pictures shall be like.
        patches: `data_splits.DataSplits` for a painter, `None` for gatys.
        train, validation: those of `patches`, or `None`.
    """

    content: object
    loss_targets: LossTargets
    patches: data_splits.DataSplits | None = None
    train: object = None
    validation: object = None

    @property
    def findings(self):
        """What was found of the splits before they were decoded."""
        return self.patches.findings if self.patches else image_stats.SplitFindings()

    def notes(self):
        """Returns lines on the data that a person should read before the training."""
        return self.patches.notes() if self.patches else []


def _build_train_model(model, loss_targets):
    feature_extractor, content, style = loss_targets.feature_extractor.build()
    precise = {"dtype": _loss_dtype()}  # pixels are more exact than bfloat16
    pad = (
        layers.ReflectionPadding2D(loss_targets.margin, **precise)
        if loss_targets.margin
        else lambda x: x
    )
    seen = [
        _feature_maps(feature_extractor, pad, _to_batch(picture), style)
        for picture in loss_targets.styles
    ]
    grams = [
        sum(
            share * perceptual_losses.gram_matrix(maps[layer])[0]
            for share, maps in zip(loss_targets.shares, seen, strict=True)
        )
        for layer in style
    ]
    grams = [keras.ops.convert_to_numpy(each) for each in grams]
    [image], pictures = model.inputs, model.output
    preprocess = (
        _lambda_layer(perceptual_losses.luminance, "grey") if loss_targets.grey else lambda x: x
    )
    found = feature_extractor(pad(preprocess(pictures)), training=False)
    tensors = {
        "pictures": pictures,
        "content": [found[layer] for layer in content],
        "style": [found[layer] for layer in style],
    }
    loss_function = functools.partial(_compute_losses, grams=grams, fixed=None)
    if loss_targets.content is not None:
        maps = _feature_maps(
            feature_extractor, pad, preprocess(_to_batch(loss_targets.content)), content
        )
        loss_function.keywords["fixed"] = [
            keras.ops.convert_to_numpy(maps[layer]) for layer in content
        ]
    else:  # no more of the network than the content needs
        part = keras.Model(
            feature_extractor.input, {layer: feature_extractor.output[layer] for layer in content}
        )
        part.trainable = False
        original = part(pad(preprocess(image)), training=False)
        tensors["wanted_content"] = [original[layer] for layer in content]
    losses = _lambda_layer(loss_function, "losses")(tensors)
    return keras.Model(image, losses, name=f"{model.name}_learner")


def _feature_maps(feature_extractor, pad, pictures, names):
    """Returns the maps of some layers, `(1, height, width, channels)`, of a picture alone."""
    found = feature_extractor(pad(pictures), training=False)
    return {name: _upcast(found[name]) for name in names}


def _to_batch(picture):
    return keras.ops.convert_to_tensor(np.asarray(picture, "float32")[None])


def _upcast(x):
    narrow = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return keras.ops.cast(x, "float32") if narrow else x


def _compute_losses(tensors, grams, fixed):
    found = dict(tensors)
    if fixed is not None:
        found["wanted_content"] = [keras.ops.convert_to_tensor(maps) for maps in fixed]
    found["wanted_style"] = [keras.ops.convert_to_tensor(gram) for gram in grams]
    found["wanted_content"] = [keras.ops.stop_gradient(x) for x in found["wanted_content"]]
    return perceptual_losses.stack_losses(found)


def _lambda_layer(function, name):
    return lambda_layer.LambdaLayer(function, dtype=_loss_dtype(), name=name)


def _loss_dtype():
    exact = keras.config.dtype_policy().compute_dtype == "float64"
    return "float64" if exact else "float32"
