"""What a picture or a painter learns as: a graph from images to losses."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass

from tasks.data import batches, labelled, looks, style_pictures
from tasks.engine import data_identity, distribute, style_losses
from zoo.lazy import LazyModule, keras, layers, np

computed = LazyModule("tasks.engine.computed")

_learners = weakref.WeakKeyDictionary()  # by model: its learner, as networks are slow to build


def identity(task, data):
    """Returns the `data_identity` of a task: of its data set, if it has one, and its pictures."""
    found = {} if task.alone else task.identity(data.patches.source)
    return data_identity.with_pictures(found, task.content, *style_pictures.names(task.style))


def learner(model, aims):
    """Returns what a model learns as: a model of its layers from images to losses.

    Args:
        model: from images to pictures, `(batch, height, width, 3)` in [0, 255].
        aims: what its pictures shall be like, an `Aims`.

    Returns:
        A functional `keras.Model` that gives float32 `(batch, 3)`, the losses of
        `style_losses.NAMES`; the same one when it is asked for again.
    """
    if model not in _learners:
        with distribute.scope(model):
            _learners[model] = _built(model, aims)
    return _learners[model]


def compile_learner(learner, optimizer, weights, *, jit_compile=False):
    """Compiles a learner to make the weighted sum of its losses small, each of them a metric.

    Args:
        learner: what `learner` returned.
        optimizer: of Keras.
        weights: of the losses, in their order.
        jit_compile: as `keras.Model.compile` takes it.
    """

    def part(index):
        return lambda _, found: found[..., index]

    metrics = [
        keras.metrics.MeanMetricWrapper(part(index), name)
        for index, name in enumerate(style_losses.NAMES)
    ]
    learner.compile(
        optimizer=optimizer,
        loss=lambda _, found: weighted(found, weights),
        metrics=metrics,
        jit_compile=jit_compile,
    )


def weighted(found, weights):
    """Returns the weighted sums `(batch,)` of losses `(batch, 3)`."""
    return keras.ops.sum(found * keras.ops.convert_to_tensor(weights, found.dtype), axis=-1)


def measure(model, aims, images, weights):
    """Returns the losses of a model's pictures of some images, as figures by name.

    Args:
        model, aims: as `learner` takes them.
        images: `(count, height, width, 3)`.
        weights: of the losses, for their sum `loss`.
    """
    net = batches.without_xla(learner(model, aims))
    found = [np.asarray(net.predict_on_batch(image[None]))[0] for image in np.asarray(images)]
    means = np.mean(found, axis=0).astype("float64")
    return {
        "loss": float(means @ weights),
        **{name: float(mean) for name, mean in zip(style_losses.NAMES, means, strict=True)},
    }


def unpainted(aims, images, weights):
    """Returns the losses of images as they are, as `measure` does those of pictures of them."""
    image = keras.Input((None, None, 3))
    same = keras.Model(image, keras.layers.Identity(dtype="float32")(image), name="unpainted")
    return measure(same, aims, images, weights)


def painted(model, image):
    """Returns the picture that a painter makes of an image, both uint8 `(height, width, 3)`."""
    found = batches.without_xla(model).predict_on_batch(np.asarray(image, "float32")[None])
    return np.asarray(found)[0].round().clip(0, 255).astype("uint8")


class Aims:
    """What pictures shall be like: of which style, and of which content.

    Args:
        eye: a `style_network.Eye`.
        styles: uint8 pictures.
        shares: of each style, 1 together: the Gram matrices are blended.
        content: the one picture that the content is always of; or `None`, where it is that of
            the images that come in.
        grey: whether the brightness of pictures is all that counts.
        margin: pixels of mirror image that are laid round all pictures before they are looked at.
            What a network says of its border, beyond which it sees nothing, is then said of
            those, and no frame is painted.
    """

    def __init__(self, eye, styles, shares, content=None, *, grey=False, margin=0):
        self.eye, self.styles, self.shares = eye, styles, shares
        self.content, self.grey, self.margin = content, grey, margin


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a run knows of its pictures.

    Attributes:
        content: uint8 `(height, width, 3)`.
        aims: what pictures shall be like.
        patches: `labelled.Data` for a painter, `None` for gatys.
        train, validation: those of `patches`, or `None`.
    """

    content: object
    aims: Aims
    patches: labelled.Data | None = None
    train: object = None
    validation: object = None

    @property
    def seen(self):
        """What was found of the splits before they were decoded."""
        return self.patches.seen if self.patches else looks.Seen()

    def notes(self):
        """Returns lines on the data that a person should read before the training."""
        return self.patches.notes() if self.patches else []


def _built(model, aims):
    eye, content, style = aims.eye.build()
    precise = {"dtype": _precision()}  # pixels are more exact than bfloat16
    framed = layers.ReflectionPadding2D(aims.margin, **precise) if aims.margin else lambda x: x
    seen = [_look(eye, framed, _batch(picture), style) for picture in aims.styles]
    grams = [
        sum(
            share * style_losses.gram(maps[layer])[0]
            for share, maps in zip(aims.shares, seen, strict=True)
        )
        for layer in style
    ]
    grams = [keras.ops.convert_to_numpy(each) for each in grams]
    [image], pictures = model.inputs, model.output
    toned = _function(style_losses.brightness, "grey") if aims.grey else lambda x: x
    found = eye(framed(toned(pictures)), training=False)
    given = {
        "pictures": pictures,
        "content": [found[layer] for layer in content],
        "style": [found[layer] for layer in style],
    }
    judge = functools.partial(_judged, grams=grams, fixed=None)
    if aims.content is not None:
        maps = _look(eye, framed, toned(_batch(aims.content)), content)
        judge.keywords["fixed"] = [keras.ops.convert_to_numpy(maps[layer]) for layer in content]
    else:  # no more of the network than the content needs
        part = keras.Model(eye.input, {layer: eye.output[layer] for layer in content})
        part.trainable = False
        original = part(framed(toned(image)), training=False)
        given["wanted_content"] = [original[layer] for layer in content]
    losses = _function(judge, "losses")(given)
    return keras.Model(image, losses, name=f"{model.name}_learner")


def _look(eye, framed, pictures, names):
    """Returns the maps of some layers, `(1, height, width, channels)`, of a picture alone."""
    found = eye(framed(pictures), training=False)
    return {name: _wide(found[name]) for name in names}


def _batch(picture):
    return keras.ops.convert_to_tensor(np.asarray(picture, "float32")[None])


def _wide(x):
    narrow = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return keras.ops.cast(x, "float32") if narrow else x


def _judged(given, grams, fixed):
    found = dict(given)
    if fixed is not None:
        found["wanted_content"] = [keras.ops.convert_to_tensor(maps) for maps in fixed]
    found["wanted_style"] = [keras.ops.convert_to_tensor(gram) for gram in grams]
    found["wanted_content"] = [keras.ops.stop_gradient(x) for x in found["wanted_content"]]
    return style_losses.columns(found)


def _function(function, name):
    return computed.Computed(function, dtype=_precision(), name=name)


def _precision():
    exact = keras.config.dtype_policy().compute_dtype == "float64"
    return "float64" if exact else "float32"
