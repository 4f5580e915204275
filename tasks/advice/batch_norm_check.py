"""Checks whether the moving statistics of batch normalization match the data."""

from __future__ import annotations

from tasks.advice import layer_statistics
from tasks.advice.findings import (
    LOOK,
    WRONG,
    CheckSkipped,
    Finding,
    format_count,
    join_names,
    significantly_better,
)
from tasks.advice.model_predictions import argmax_classes
from zoo.lazy import np

LARGE_DISTANCE = 0.3  # mean over layers from which it is a finding even without labels
MIN_DISTANCE = 0.02  # mean over layers below which recalibration would change nothing

REMEDY = (
    "update the statistics: fine-tune with --batch-norm update, or with recalibrate, which "
    "estimates them without further training"
)


def check_batch_norm(sample):
    """Yields a finding if the statistics of batch normalization are far from those of the data.

    With labels, the criterion is whether recalibrated statistics improve the accuracy; without,
    the distance between the statistics.
    """
    norms = layer_statistics.batch_norms(sample.model)
    if not norms:
        raise CheckSkipped("the model has no batch normalization")
    if all(map(layer_statistics.is_untrained, norms)):
        yield Finding(
            "batch-norm statistics",
            LOOK,
            f"the statistics of all {format_count(len(norms), 'batch normalization')} have their "
            "initial values, mean 0 and variance 1, so they were never trained",
            "load trained weights, or train the batch normalization (trainable=True, and "
            "training=True in a custom call)",
        )
        return
    distances = {
        norm: layer_statistics.bhattacharyya_distance(norm, seen)
        for norm, seen in sample.seen[0].items()
    }
    mean = float(np.mean(list(distances.values())))
    if mean < MIN_DISTANCE:
        return
    worst = sorted(distances, key=distances.get, reverse=True)
    layers = join_names(f"{norm.name} {distances[norm]:.2f}" for norm in worst)
    details = f"distance {mean:.2f} on average of {len(distances)} layers ({layers})"
    found = [] if sample.incomparable else list(_check_recalibrated(sample, details))
    if (
        not found
        and mean >= LARGE_DISTANCE
        and (sample.incomparable or not sample.better_than_majority)
    ):
        found = [
            Finding("batch-norm statistics", LOOK, f"far from those of the data: {details}", REMEDY)
        ]
    yield from found


def _check_recalibrated(sample, details):
    """Yields a finding if statistics of some images improve the accuracy on the others."""
    size = layer_statistics.statistics_batch_size(sample.images)
    size = min(size, len(sample.images) // 2)
    rest = slice(size, None)
    right = sample.right[rest]
    with layer_statistics.recalibrated_batch_norms(sample.model, sample.images[:size]):
        predictions = argmax_classes(layer_statistics.predict(sample.model, sample.images[rest]))
    recalibrated_correct = predictions == sample.labels[rest]
    if significantly_better(recalibrated_correct, right):
        yield Finding(
            "batch-norm statistics",
            WRONG,
            f"do not match the data: accuracy {right.mean():.2f}, "
            f"{recalibrated_correct.mean():.2f} with the statistics of "
            f"{format_count(size, 'image')} of the data; {details}",
            REMEDY,
        )
