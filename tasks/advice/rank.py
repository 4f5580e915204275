"""Which backbone suits these data: the features of its stages, judged by a linear probe."""

from __future__ import annotations

import time
from dataclasses import dataclass

import zoo
from tasks.advice import linear_probe
from tasks.data import decoding, image_stats, memory_limits, sources, splits
from tasks.engine import callbacks, finetune, plans
from tasks.inference import feature_cache
from zoo import graphs, surgery
from zoo.errors import UsageError
from zoo.lazy import keras, np

MAX_IMAGES = 2000  # that are looked at, if there are more


@dataclass(frozen=True)
class RankedModel:
    """What is known of a backbone on some data.

    Attributes:
        model: its name.
        accuracy: of a linear probe of its features, the mean over the folds, [0, 1]; `None` where
            the backbone could not be judged.
        error: standard error of that mean, between folds.
        seconds: that its features took, or the time to find them where they were kept.
        parameters, flops: of the whole model, as its spec has them.
        image_size: height and width of the images that it saw.
        why_not: why it could not be judged, or empty.
    """

    model: str
    accuracy: float | None = None
    error: float | None = None
    seconds: float | None = None
    parameters: int | None = None
    flops: int | None = None
    image_size: int | None = None
    why_not: str = ""


def rank(
    dataset,
    models,
    *,
    weights=None,
    data_dir=None,
    split="",
    images=MAX_IMAGES,
    image_size=0,
    channels=0,
    folds=linear_probe.NUM_FOLDS,
    seed=0,
):
    """Judges backbones on a data set, one after the other, with a line for each as it comes.

    Args:
        dataset: what `sources.load` takes.
        models: names of the zoo, with pretrained weights.
        weights: name to a file in place of the weights' source.
        data_dir: where TFDS keeps its data sets.
        split: slice to look at; by default the training split.
        images: how many of it, with their share of every class.
        image_size: height and width; 0 for each model's own.
        channels: of the images; 0 for each model's own.
        folds, seed: of the cross-validation.

    Returns:
        A `Rank` of each model, the most accurate first.

    Raises:
        UsageError: there is no such data set or model, it has several labels an image, or too
            few images or classes.
    """
    specs = [zoo.spec(name) for name in models]
    if min(images, image_size, channels, seed) < 0:
        raise UsageError("numbers of images, pixels and channels and a seed are 0 or more")
    source = sources.load(dataset, data_dir)
    if source.multi_label:
        raise UsageError(f"{dataset} has several labels an image; zoo rank needs one")
    part = (
        splits.select(source, split)
        if split
        else splits.train_val_test_split(source, "", "", "")[0]
    )
    part = image_stats.inspect_splits([part.take(_stratified_subset(part.labels, images, seed))])[
        0
    ][0]
    linear_probe.check_labels(part.labels, folds)
    rows = []
    for number, spec in enumerate(specs, start=1):
        file, shape = (weights or {}).get(spec.name), _input_shape(spec, image_size, channels)
        row = _evaluate_model(spec, part, file, shape, folds, seed)
        callbacks.print_status(f"{number}/{len(specs)} {spec.name}: {_format_row(row)}")
        rows.append(row)
    return sorted(rows, key=lambda row: -1 if row.accuracy is None else row.accuracy, reverse=True)


def _input_shape(spec, side, channels):
    """Returns the shape of the images that a model sees, where some numbers may be its own."""
    height, width, own = spec.input_shape
    return side or height, side or width, channels or own


def _evaluate_model(spec, part, weights, shape, folds, seed):
    facts = {"parameters": spec.parameters, "flops": spec.flops}
    try:
        scores, seconds, size = _probe_accuracies(spec, part, weights, shape, folds, seed)
    except UsageError as error:
        return RankedModel(spec.name, why_not=str(error), **facts)
    error = scores.std(ddof=1) / len(scores) ** 0.5
    return RankedModel(
        spec.name, float(scores.mean()), float(error), seconds, image_size=size, **facts
    )


def _probe_accuracies(spec, part, weights, shape, folds, seed):
    """Returns the accuracies of a model's probe, the seconds of its features and their pixels."""
    shape = spec.validate_input_shape(shape)
    memory_limits.check_images(shape, len(part))
    model = zoo.build(spec.name, input_shape=shape, num_classes=2, weights=weights)
    finetune.set_trainable(model, plans.Stage("head"))
    parts = surgery.split(model)
    if parts is None:
        raise UsageError("there is nothing before its head whose features could be judged")
    examples = decoding.decode(part, shape, "stretch")
    started = time.perf_counter()
    found = feature_cache.compute_features(_stage_features(parts[0]), examples)
    seconds = time.perf_counter() - started
    return (
        linear_probe.cross_val_accuracy(found, examples.labels, folds=folds, seed=seed),
        seconds,
        shape[0],
    )


def _stage_features(bottom):
    """Returns a network that gives of each stage of another the spread and the means of its maps.

    What the last stage says alone is made for the classes that it learned; a fine-tune builds on
    what lies below, too (Evci et al., 2022, arXiv:2201.03529), and on where in the image it is.
    Where there are no stages it is the other itself.
    """
    net = graphs.flatten(bottom)
    stage_outputs = surgery.stages(net).values()
    if not stage_outputs:
        return bottom
    pooled = [
        part for x in stage_outputs for part in (keras.ops.std(x, axis=(1, 2)), *_quadrant_means(x))
    ]
    return keras.Model(net.inputs[0], keras.ops.concatenate(pooled, axis=-1))


def _quadrant_means(x):
    """Returns the mean of each quarter of maps `(batch, height, width, channels)`, or of what is
    left of them where they are a single pixel high or wide."""
    rows, columns = (
        [slice(0, n // 2), slice(n // 2, n)] if n > 1 else [slice(0, n)] for n in x.shape[1:3]
    )
    return [keras.ops.mean(x[:, row, column], axis=(1, 2)) for row in rows for column in columns]


def _format_row(row):
    """Returns in a few words what came of a model."""
    return row.why_not or f"{row.accuracy:.3f} +- {row.error:.3f}, {row.seconds:.1f} s"


def _stratified_subset(labels, count, seed):
    """Returns the places of `count` examples, of each class its share."""
    if count >= len(labels):
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    return np.sort(by_class[np.linspace(0, len(labels) - 1, count).round().astype(int)])
