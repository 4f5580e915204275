"""Batch normalisation whose statistics are not those of the data."""

from __future__ import annotations

from tasks.advice import networks
from tasks.advice.findings import LOOK, WRONG, Finding, Unchecked, clearly_better, count, some
from tasks.advice.trial import chosen
from zoo.lazy import np

FAR = 0.3  # mean distance of all layers from which it is said without a figure to show for it
NOTABLE = 0.02  # mean distance below which nothing would change

DO = (
    "let the statistics follow the data: fine-tune with --batch-norm update (or recalibrate, which "
    "estimates them anew and trains no longer)"
)


def batch_norm(trial):
    """Finds batch normalisation whose statistics are far from those of the data.

    Where labels tell, what counts is whether the statistics of these images make the model
    better; otherwise how far they are.
    """
    norms = networks.norms(trial.model)
    if not norms:
        raise Unchecked("the model has no batch normalisation")
    if all(map(networks.untaught, norms)):
        yield Finding(
            "batch-norm statistics",
            LOOK,
            f"the statistics of all {count(len(norms), 'batch normalisation')} are those that they "
            "were made with, mean 0 and variance 1: nothing has trained them",
            "load trained weights, or train with batch normalisation that learns (trainable=True, "
            "and training=True where a model calls itself)",
        )
        return
    far = {norm: networks.distance(norm, seen) for norm, seen in trial.seen[0].items()}
    mean = float(np.mean(list(far.values())))
    if mean < NOTABLE:
        return
    worst = sorted(far, key=far.get, reverse=True)
    layers = some(f"{norm.name} {far[norm]:.2f}" for norm in worst)
    told = f"distance {mean:.2f} on average of {len(far)} layers ({layers})"
    found = [] if trial.incomparable else list(_better(trial, told))
    if not found and mean >= FAR and (trial.incomparable or not trial.able):
        found = [Finding("batch-norm statistics", LOOK, f"far from the data's: {told}", DO)]
    yield from found


def _better(trial, told):
    """Finds that the statistics of some images make the model better on the others."""
    size = networks.batch_of(trial.images)
    size = min(size, len(trial.images) // 2)
    rest = slice(size, None)
    right = trial.right[rest]
    with networks.recalibrated(trial.model, trial.images[:size]):
        answers = chosen(networks.outputs(trial.model, trial.images[rest]))
    renewed = answers == trial.labels[rest]
    if clearly_better(renewed, right):
        yield Finding(
            "batch-norm statistics",
            WRONG,
            f"not those of the data: accuracy {right.mean():.2f} with them, {renewed.mean():.2f} "
            f"with those of {count(size, 'image')} of the data; {told}",
            DO,
        )
