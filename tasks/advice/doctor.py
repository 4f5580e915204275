"""Finds what spoils a training or its figures, in a model and the data that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zoo
from tasks.advice import (
    batch_norm_check,
    dataset_checks,
    model_predictions,
    preprocessing,
    trainable_check,
)
from tasks.advice.findings import LOOK, WRONG, CheckSkipped, Finding
from tasks.data import image_stats, sources, splits
from tasks.engine import recipes, resume
from zoo import model_files
from zoo.errors import UsageError

__all__ = [
    "CHECKS",
    "LOOK",
    "WRONG",
    "DiagnosticReport",
    "Finding",
    "diagnose",
    "load_model",
    "run_checks",
]

NUM_IMAGES = 512  # that the model is tried on

DATASET_CHECKS = {
    "unreadable images": dataset_checks.unreadable,
    "near-constant images": dataset_checks.near_constant,
    "leaked duplicates": dataset_checks.leaked_duplicates,
    "copies with different labels": dataset_checks.conflicting_labels,
    "class imbalance": dataset_checks.class_imbalance,
}
PREDICTION_CHECKS = {
    "class order": model_predictions.check_class_order,
    "preprocessing": preprocessing.check_preprocessing,
    "batch-norm statistics": batch_norm_check.check_batch_norm,
}
CHECKS = (
    *DATASET_CHECKS,
    "small images",
    trainable_check.CHECK_NAME,
    *PREDICTION_CHECKS,
    preprocessing.ORDER,
)


@dataclass(frozen=True)
class DiagnosticReport:
    """What a doctor found.

    Attributes:
        findings: a tuple of `Finding`.
        checked: names of the checks, of `CHECKS`, that found nothing.
        unchecked: `(name, reason)` of those that had nothing to go by.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[tuple[str, str], ...]

    @property
    def healthy(self):
        """Whether nothing is wrong; there may be things to look at."""
        return all(finding.severity != WRONG for finding in self.findings)


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what its file or its run tell of it.

    Attributes:
        model: a `keras.Model`.
        about: as `zoo.model_files.load` gives it.
        path: its `.keras` file, or `None`.
        recipe: of the run that made it, or `{}`.
    """

    model: object
    about: dict
    path: Path | None
    recipe: dict


def diagnose(target, dataset="", *, data_dir="", weights="", images=NUM_IMAGES):
    """Examines a model by name and a data set by name.

    Args:
        target: a run's folder, a `.keras` file, or a zoo name with a tag.
        dataset: what `tasks.data.sources.load` takes; a run's own by default.
        data_dir: where TFDS keeps its data sets; a run's own by default.
        weights: a weights file in place of the source of a zoo name.
        images: how many images the model is tried on.

    Returns:
        An `Examination`.

    Raises:
        UsageError: there is no such model or data set, or nothing is said of the latter.
    """
    subject = load_model(target, weights)
    recipe = subject.recipe
    if not dataset and not recipe.get("dataset"):
        raise UsageError(f"{target} is no run; name a data set, as in `zoo doctor MODEL DATASET`")
    if recipe and "train_split" not in recipe:
        raise UsageError(
            f"{target} is a run of {recipe['task']}, which has no images to examine; name a model "
            "for images and a data set, as in `zoo doctor MODEL DATASET`"
        )
    if images < model_predictions.MIN_IMAGES:
        raise UsageError(f"--images must be {model_predictions.MIN_IMAGES} or more, not {images}")
    own = not dataset or dataset == recipe.get("dataset")
    source = sources.load(dataset or recipe["dataset"], data_dir or recipe.get("data_dir") or None)
    keys = ("train_split", "validation_split", "test_split")
    parts = splits.train_val_test_split(
        source, *(recipe.get(key, "") if own else "" for key in keys)
    )
    known = recipe or "image_bits" in subject.about
    if known:  # a look at every image is left to the survey
        bits = image_stats.stated_bits(subject.about, target)
        parts = [part and image_stats.with_bits(part, bits) for part in parts]
    else:
        parts, _ = image_stats.inspect_splits(parts)
    return run_checks(
        subject.model, subject.about, source, parts=parts, images=images, path=subject.path
    )


def run_checks(model, about, source, *, parts=None, images=NUM_IMAGES, path=None):
    """Examines a model and a data set.

    Args:
        model: a `keras.Model` from images, RGB in [0, 255], compiled or not.
        about: what is known of it: `classes`, names in the order of its logits, and `resize`;
            either may be absent.
        source: a `sources.Source`.
        parts: its `Split`s, those to learn from first and those to judge by last; by default
            what `splits.train_val_test_split` makes of it.
        images: how many images the model is tried on, of the last part.
        path: the `.keras` file that the model is from, or `None`.

    Returns:
        An `Examination`.

    Raises:
        UsageError: the model does not take images, or none can be read.
    """
    parts = [part for part in parts or splits.train_val_test_split(source) if part]
    subject = model_predictions.predict_sample(model, about, source, parts[-1], images)
    results = _CheckResults()
    results.run(trainable_check.CHECK_NAME, trainable_check.check_trainable, model, path)
    _check_dataset(results, source, parts, min(subject.images.shape[1:3]))
    for name, check in PREDICTION_CHECKS.items():
        if check is batch_norm_check.check_batch_norm and results.has(*preprocessing.REMEDIES):
            results.unchecked.append((name, "preprocessing comes first"))
        else:
            results.run(name, check, subject)
    if subject.incomparable:  # statistics alone hardly tell red from blue
        results.unchecked.append((preprocessing.ORDER, subject.incomparable))
    elif not results.has(*preprocessing.REMEDIES):
        results.checked.append(preprocessing.ORDER)
    results.findings.sort(key=lambda finding: finding.severity != WRONG)
    return DiagnosticReport(*map(tuple, (results.findings, results.checked, results.unchecked)))


def load_model(target, weights=""):
    """Opens the model that `target` means.

    Args:
        target: a run's folder, a `.keras` file, or a zoo name with a tag.
        weights: a weights file in place of the source of a zoo name.

    Returns:
        A `Patient`.

    Raises:
        UsageError: there is no such thing, or it has not learned anything.
    """
    path = Path(target)
    if path.is_dir():
        model, recipe = resume.model_path(path), path / recipes.RECIPE
        recipe = recipes.read_recipe(recipe) if recipe.exists() else {}
        return LoadedModel(*model_files.load(model), model, recipe)
    if path.is_file() or path.suffix == ".keras" or len(path.parts) > 1:
        return LoadedModel(*model_files.load(path), path, {})
    spec = zoo.spec(str(target))
    if spec.weights is None and not weights:
        raise UsageError(
            f"{target} has random weights: there is nothing to examine; name a run, a .keras file "
            f"or one of {', '.join(zoo.names(weights=True)[:3])}"
        )
    model = zoo.build(spec.name, weights=weights or None)
    facts = spec.weights
    about = {"classes": zoo.class_names(facts.classes), "resize": facts.resize} if facts else {}
    return LoadedModel(model, about, None, {})


class _CheckResults:
    """What has been found so far."""

    def __init__(self):
        self.findings, self.checked, self.unchecked = [], [], []

    def run(self, name, check, *arguments):
        """Runs one check and keeps what it finds, or why it could not."""
        try:
            found = list(check(*arguments))
        except CheckSkipped as reason:
            self.unchecked.append((name, str(reason)))
            return
        self.findings += found
        if not found:
            self.checked.append(name)

    def has(self, *names):
        """Tells whether one of these faults was found for sure."""
        return any(f.severity == WRONG and f.name in names for f in self.findings)


def _check_dataset(results, source, parts, side):
    try:
        survey = dataset_checks.survey(source, parts)
    except CheckSkipped as reason:
        results.unchecked += [(name, str(reason)) for name in (*DATASET_CHECKS, "small images")]
        return
    for name, check in DATASET_CHECKS.items():
        results.run(name, check, survey)
    results.run("small images", dataset_checks.small_images, survey, side)
