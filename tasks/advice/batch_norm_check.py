"""Batch normalisation whose statistics are not those of the data."""

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

LARGE_DISTANCE = (
    0.3  # mean distance of all layers from which it is said without a figure to show for it
)
MIN_DISTANCE = 0.02  # mean distance below which nothing would change

REMEDY = (
    "let the statistics follow the data: fine-tune with --batch-norm update (or recalibrate, which "
    "estimates them anew and trains no longer)"
)


def check_batch_norm(trial):
    """Finds batch normalisation whose statistics are far from those of the data.

    Where labels tell, what counts is whether the statistics of these images make the model
    better; otherwise how far they are.
    """
    norms = layer_statistics.batch_norms(trial.model)
    if not norms:
        raise CheckSkipped("the model has no batch normalisation")
    if all(map(layer_statistics.is_untrained, norms)):
        yield Finding(
            "batch-norm statistics",
            LOOK,
            f"the statistics of all {format_count(len(norms), 'batch normalisation')} are those "
            "that they "
            "were made with, mean 0 and variance 1: nothing has trained them",
            "load trained weights, or train with batch normalisation that learns (trainable=True, "
            "and training=True where a model calls itself)",
        )
        return
    distances = {
        norm: layer_statistics.bhattacharyya_distance(norm, seen)
        for norm, seen in trial.seen[0].items()
    }
    mean = float(np.mean(list(distances.values())))
    if mean < MIN_DISTANCE:
        return
    worst = sorted(distances, key=distances.get, reverse=True)
    layers = join_names(f"{norm.name} {distances[norm]:.2f}" for norm in worst)
    details = f"distance {mean:.2f} on average of {len(distances)} layers ({layers})"
    found = [] if trial.incomparable else list(_check_recalibrated(trial, details))
    if (
        not found
        and mean >= LARGE_DISTANCE
        and (trial.incomparable or not trial.better_than_majority)
    ):
        found = [Finding("batch-norm statistics", LOOK, f"far from the data's: {details}", REMEDY)]
    yield from found


def _check_recalibrated(trial, details):
    """Finds that the statistics of some images make the model better on the others."""
    size = layer_statistics.statistics_batch_size(trial.images)
    size = min(size, len(trial.images) // 2)
    rest = slice(size, None)
    right = trial.right[rest]
    with layer_statistics.recalibrated_batch_norms(trial.model, trial.images[:size]):
        answers = argmax_classes(layer_statistics.predict(trial.model, trial.images[rest]))
    recalibrated_correct = answers == trial.labels[rest]
    if significantly_better(recalibrated_correct, right):
        yield Finding(
            "batch-norm statistics",
            WRONG,
            f"not those of the data: accuracy {right.mean():.2f} with them, "
            f"{recalibrated_correct.mean():.2f} "
            f"with those of {format_count(size, 'image')} of the data; {details}",
            REMEDY,
        )
