"""The training model of style transfer: a graph from images to perceptual losses."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass

from tasks.data import batches, data_fingerprint, data_splits, image_stats
from tasks.distributed import strategies
from tasks.style_transfer import perceptual_losses, style_images
from zoo.lazy import LazyModule, keras, np
from zoo.lazy_layers import layers

lambda_layer = LazyModule("tasks.inference.lambda_layer")

_training_models = weakref.WeakKeyDictionary()  # by model; a cache, as they are slow to build


def source_fingerprint(task, data):
    """Returns the fingerprint of a task's data set, if it has one, and of its images."""
    fingerprint = {} if task.single_image else task.source_fingerprint(data.patches.source)
    return data_fingerprint.with_images(
        fingerprint, task.content, *style_images.parse_names(task.style)
    )


def build_training_model(model, loss_targets):
    """Returns the training model of a model, which shares its layers.

    Args:
        model: a `keras.Model` from images to images, `(batch, height, width, 3)` in [0, 255].
        loss_targets: a `loss_targets.LossTargets`.

    Returns:
        A functional `keras.Model` from images to the losses of `perceptual_losses.LOSS_NAMES`,
        float32 `(batch, 3)`. It is cached.
    """
    if model not in _training_models:
        with strategies.scope(model):
            _training_models[model] = _build_training_model(model, loss_targets)
    return _training_models[model]


def compile_training_model(training_model, optimizer, weights, *, jit_compile=False):
    """Compiles a training model for the weighted sum of its losses, with each of them a metric.

    Args:
        training_model: a model of `build_training_model`.
        optimizer: a Keras optimizer.
        weights: weights of the losses, in the order of `perceptual_losses.LOSS_NAMES`.
        jit_compile: as for `keras.Model.compile`.
    """

    def column(index):
        return lambda _, losses: losses[..., index]

    metrics = [
        keras.metrics.MeanMetricWrapper(column(index), name)
        for index, name in enumerate(perceptual_losses.LOSS_NAMES)
    ]
    training_model.compile(
        optimizer=optimizer,
        loss=lambda _, losses: weighted_sum(losses, weights),
        metrics=metrics,
        jit_compile=jit_compile,
    )


def weighted_sum(losses, weights):
    """Returns the weighted sums `(batch,)` of losses `(batch, 3)`."""
    return keras.ops.sum(losses * keras.ops.convert_to_tensor(weights, losses.dtype), axis=-1)


def evaluate_losses(model, loss_targets, images, weights):
    """Returns the mean losses of a model's output for some images, by name.

    Args:
        model, loss_targets: as for `build_training_model`.
        images: `(count, height, width, 3)`.
        weights: weights of the losses in their sum, `loss`.
    """
    net = batches.without_xla(build_training_model(model, loss_targets))
    losses = [np.asarray(net.predict_on_batch(image[None]))[0] for image in np.asarray(images)]
    means = np.mean(losses, axis=0).astype("float64")
    by_name = zip(perceptual_losses.LOSS_NAMES, map(float, means), strict=True)
    return {"loss": float(means @ weights), **dict(by_name)}


def unstylized_losses(loss_targets, images, weights):
    """Returns the mean losses of images as they are, as `evaluate_losses` does of stylized ones."""
    image = keras.Input((None, None, 3))
    identity = keras.Model(image, keras.layers.Identity(dtype="float32")(image), name="identity")
    return evaluate_losses(identity, loss_targets, images, weights)


def stylize(model, image):
    """Returns the output of a network for an image, both uint8 `(height, width, 3)`."""
    stylized = batches.without_xla(model).predict_on_batch(np.asarray(image, "float32")[None])
    return np.asarray(stylized)[0].round().clip(0, 255).astype("uint8")


@dataclass(frozen=True, eq=False)
class StyleTransferData:
    """The images of a run.

    Attributes:
        content: the content image, uint8 `(height, width, 3)`.
        loss_targets: the `loss_targets.LossTargets`.
        patches: the `data_splits.DataSplits` that a network is trained on; `None` for gatys.
        train, validation: the splits of `patches`, or `None`.
    """

    content: object
    loss_targets: object
    patches: data_splits.DataSplits | None = None
    train: object = None
    validation: object = None

    @property
    def findings(self):
        """The findings on the splits before decoding."""
        return self.patches.findings if self.patches else image_stats.SplitFindings()

    def notes(self):
        """Returns notes on the data to print before training."""
        return self.patches.notes() if self.patches else []


def _build_training_model(model, loss_targets):
    extractor, content_layers, style_layers = loss_targets.feature_extractor.build()
    # Losses are computed in float32 at least: bfloat16 is too coarse for pixels.
    margin = loss_targets.margin
    pad = layers.ReflectionPadding2D(margin, dtype=_loss_dtype()) if margin else lambda x: x
    preprocess = lambda x: x  # noqa: E731
    if loss_targets.luminance:
        preprocess = _lambda_layer(perceptual_losses.luminance, "grey")
    [inputs], images = model.inputs, model.output
    maps = extractor(pad(preprocess(images)), training=False)
    tensors = {
        "images": images,
        "content": [maps[layer] for layer in content_layers],
        "style": [maps[layer] for layer in style_layers],
    }
    content_maps = None
    if loss_targets.content is not None:
        content = preprocess(_to_batch(loss_targets.content))
        target_maps = _feature_maps(extractor, pad, content, content_layers)
        content_maps = [keras.ops.convert_to_numpy(target_maps[layer]) for layer in content_layers]
    else:  # of the input images, by the part of the extractor that the content layers need
        content_extractor = keras.Model(
            extractor.input, {layer: extractor.output[layer] for layer in content_layers}
        )
        content_extractor.trainable = False
        target_maps = content_extractor(pad(preprocess(inputs)), training=False)
        tensors["target_content"] = [target_maps[layer] for layer in content_layers]
    grams = _style_grams(extractor, pad, loss_targets, style_layers)
    loss_function = functools.partial(_compute_losses, grams=grams, content_maps=content_maps)
    losses = _lambda_layer(loss_function, "losses")(tensors)
    return keras.Model(inputs, losses, name=f"{model.name}_training")


def _style_grams(extractor, pad, loss_targets, style_layers):
    """Returns the Gram matrix of each style layer as arrays, blended over the style images."""
    maps_by_style = [
        _feature_maps(extractor, pad, _to_batch(style), style_layers)
        for style in loss_targets.styles
    ]
    grams = [
        sum(
            weight * perceptual_losses.gram_matrix(maps[layer])[0]
            for weight, maps in zip(loss_targets.style_weights, maps_by_style, strict=True)
        )
        for layer in style_layers
    ]
    return [keras.ops.convert_to_numpy(gram) for gram in grams]


def _feature_maps(extractor, pad, image, names):
    """Returns the feature maps of some layers for one image, in float32 at least, by name."""
    maps = extractor(pad(image), training=False)
    return {name: _upcast(maps[name]) for name in names}


def _to_batch(image):
    return keras.ops.convert_to_tensor(np.asarray(image, "float32")[None])


def _upcast(x):
    narrow = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return keras.ops.cast(x, "float32") if narrow else x


def _compute_losses(tensors, grams, content_maps):
    tensors = dict(tensors)
    if content_maps is not None:
        tensors["target_content"] = [keras.ops.convert_to_tensor(maps) for maps in content_maps]
    tensors["target_style"] = [keras.ops.convert_to_tensor(gram) for gram in grams]
    tensors["target_content"] = [keras.ops.stop_gradient(x) for x in tensors["target_content"]]
    return perceptual_losses.stack_losses(tensors)


def _lambda_layer(function, name):
    return lambda_layer.LambdaLayer(function, dtype=_loss_dtype(), name=name)


def _loss_dtype():
    exact = keras.config.dtype_policy().compute_dtype == "float64"
    return "float64" if exact else "float32"
