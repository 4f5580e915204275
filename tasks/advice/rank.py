"""Ranks pretrained backbones for a data set by linear probes on the features of their stages."""

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

MAX_IMAGES = 2000  # of the data set that are used


@dataclass(frozen=True)
class RankedModel:
    """The evaluation of a backbone on a data set.

    Attributes:
        model: name of the model.
        accuracy: accuracy of a linear probe on its features, mean over the folds, in [0, 1];
            `None` if the backbone could not be evaluated.
        error: standard error of that mean over the folds.
        seconds: time to compute its features, or to load them from the cache.
        parameters, flops: of the whole model, as in its spec.
        image_size: height and width of the images.
        why_not: why the model could not be evaluated, or empty.
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
    """Evaluates backbones on a data set and logs a line for each.

    Args:
        dataset: a data set, as for `sources.load`.
        models: names of pretrained models.
        weights: dict from name to a weights file to load instead of the published weights.
        data_dir: the folder of TFDS data sets.
        split: the split to use; by default the training split.
        images: the maximum number of images, stratified by class.
        image_size: height and width; 0 for those of each model.
        channels: the number of channels; 0 for that of each model.
        folds, seed: number of folds and random seed of the cross-validation.

    Returns:
        A list of `RankedModel`, the most accurate first.

    Raises:
        UsageError: there is no such data set or model, the data set is multi-label, or it has too
            few images or classes.
    """
    specs = [zoo.spec(name) for name in models]
    if min(images, image_size, channels, seed) < 0:
        raise UsageError("--images, --image-size, --channels and --seed must be 0 or more")
    source = sources.load(dataset, data_dir)
    if source.multi_label:
        raise UsageError(f"{dataset} is multi-label; zoo rank needs one label per image")
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
    """Returns the input shape for a model; sizes of 0 are replaced by those of the model."""
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
    """Returns the accuracy per fold, the seconds for the features, and the image height."""
    extractor = probe_extractor(spec, weights, shape, len(part))
    examples = decoding.decode(part, extractor.input_shape[1:], "stretch")
    started = time.perf_counter()
    found = feature_cache.compute_features(extractor, examples)
    seconds = time.perf_counter() - started
    return (
        linear_probe.cross_val_accuracy(found, examples.labels, folds=folds, seed=seed),
        seconds,
        extractor.input_shape[1],
    )


def probe_extractor(spec, weights, shape, count):
    """Returns the network from images to the features of a linear probe.

    Args:
        spec: The spec of a classifier.
        weights: A weights file to load instead of the published weights, or `None`.
        shape: `(height, width, channels)` of the images.
        count: The number of images, which must fit into memory.

    Raises:
        UsageError: The model has no weights, no features, or does not take such images.
    """
    shape = spec.validate_input_shape(shape)
    memory_limits.check_images(shape, count)
    model = zoo.build(spec.name, input_shape=shape, num_classes=2, weights=weights)
    finetune.set_trainable(model, plans.Stage("head"))
    parts = surgery.split(model)
    if parts is None:
        raise UsageError("the model has no layers before its head to take features from")
    return _stage_features(parts[0])


def _stage_features(bottom):
    """Returns a network that outputs, per stage, the standard deviation and means of feature maps.

    The last stage alone is specific to the pretraining classes; fine-tuning uses features of lower
    stages, too (Evci et al., 2022, arXiv:2201.03529), and their positions in the image. Without
    stages the network is `bottom` itself.
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
    """Returns the mean of each quadrant of feature maps `(batch, height, width, channels)`.

    Maps that are one pixel high or wide have two halves, or one part.
    """
    rows, columns = (
        [slice(0, n // 2), slice(n // 2, n)] if n > 1 else [slice(0, n)] for n in x.shape[1:3]
    )
    return [keras.ops.mean(x[:, row, column], axis=(1, 2)) for row in rows for column in columns]


def _format_row(row):
    """Returns the result of a model as text."""
    return row.why_not or f"{row.accuracy:.3f} +- {row.error:.3f}, {row.seconds:.1f} s"


def _stratified_subset(labels, count, seed):
    """Returns the indices of `count` examples, stratified by class."""
    if count >= len(labels):
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    return np.sort(by_class[np.linspace(0, len(labels) - 1, count).round().astype(int)])
