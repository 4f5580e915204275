"""Which backbone suits these data: each one's features, judged by a linear probe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import zoo
from tasks.data import decoding, sources, splits
from tasks.engine import features, finetune, plans
from tasks.report import probe
from zoo import surgery
from zoo.errors import UsageError
from zoo.lazy import np

IMAGES = 2000  # that are looked at, if there are more


@dataclass(frozen=True)
class Rank:
    """What is known of a backbone on some data.

    Attributes:
        model: its name.
        accuracy: of a linear probe of its features, the mean over the folds; `None` where the
            backbone is not to be had.
        error: standard error of that mean.
        seconds: that its features took, or the time to read them where they were kept.
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


def rank(dataset, models, **options):
    """Returns the `Rank` of each model, the most accurate first; takes what `ranks` takes."""
    found = list(ranks(dataset, models, **options))
    return sorted(found, key=lambda row: -1 if row.accuracy is None else row.accuracy, reverse=True)


def ranks(
    dataset,
    models,
    *,
    weights=None,
    data_dir=None,
    split="",
    images=IMAGES,
    image_size=0,
    folds=probe.FOLDS,
    seed=0,
) -> Iterator[Rank]:
    """Judges backbones on a data set, one after the other.

    Args:
        dataset: what `sources.load` takes.
        models: names of the zoo, with pretrained weights.
        weights: name to a file in place of the weights' source.
        data_dir: where TFDS keeps its data sets.
        split: slice to look at; by default the training split.
        images: how many of it, with their share of every class.
        image_size: height and width; 0 for each model's own.
        folds, seed: of the cross-validation.

    Returns:
        A generator of a `Rank` for each model.

    Raises:
        UsageError: there is no such data set or model, or it has several labels an image.
    """
    source = sources.load(dataset, data_dir)
    if source.multi_label:
        raise UsageError(f"{dataset} has several labels an image; zoo rank needs one")
    specs = [zoo.spec(name) for name in models]
    part = splits.select(source, split) if split else splits.plan(source, "", "", "")[0]
    part = part.take(_chosen(part.labels, images, seed))
    return (
        _judged(spec, part, (weights or {}).get(spec.name), image_size, folds, seed)
        for spec in specs
    )


def _judged(spec, part, weights, image_size, folds, seed):
    height, width, channels = spec.input_shape
    facts = {"parameters": spec.parameters, "flops": spec.flops}
    try:
        shape = spec.checked_shape((image_size or height, image_size or width, channels))
        model = zoo.build(spec.name, input_shape=shape, num_classes=2, weights=weights)
    except UsageError as error:
        return Rank(spec.name, why_not=str(error), **facts)
    finetune.prepare(model, plans.Stage("head"))
    before, _ = surgery.split(model)
    examples = decoding.decode(part, shape, "stretch")
    started = time.perf_counter()
    found = features.compute(before, examples)
    seconds = time.perf_counter() - started
    scores = probe.accuracies(found, examples.labels, folds=folds, seed=seed)
    return Rank(
        spec.name,
        float(scores.mean()),
        float(scores.std(ddof=1) / len(scores) ** 0.5),
        seconds,
        image_size=shape[0],
        **facts,
    )


def _chosen(labels, count, seed):
    """Returns the places of `count` examples, of each class its share."""
    if count >= len(labels):
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    return np.sort(by_class[np.linspace(0, len(labels) - 1, count).round().astype(int)])
