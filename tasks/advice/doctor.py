"""Checks a model and its data for common faults that raise no error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zoo
from tasks.advice import (
    batch_norm_check,
    dataset_checks,
    model_predictions,
    object_masks,
    preprocessing,
    preprocessing_schemes,
    shortcut_check,
    trainable_check,
)
from tasks.advice.findings import LOOK, WRONG, CheckSkipped, Finding
from tasks.data import image_stats, sources, splits
from tasks.engine import recipes, resume
from zoo import hub, model_files
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

NUM_IMAGES = 512  # that the model predicts on

DATASET_CHECKS = {
    "unreadable images": dataset_checks.unreadable,
    "near-constant images": dataset_checks.near_constant,
    "narrow range of values": dataset_checks.narrow_range,
    "leaked duplicates": dataset_checks.leaked_duplicates,
    "copies with different labels": dataset_checks.conflicting_labels,
    "class imbalance": dataset_checks.class_imbalance,
}
PREDICTION_CHECKS = {
    "class order": model_predictions.check_class_order,
    "preprocessing": preprocessing.check_preprocessing,
    "batch-norm statistics": batch_norm_check.check_batch_norm,
    shortcut_check.CHECK_NAME: shortcut_check.check_shortcut,
}
CHECKS = (
    *DATASET_CHECKS,
    "small images",
    trainable_check.CHECK_NAME,
    *PREDICTION_CHECKS,
    shortcut_check.OBJECTS_CHECK_NAME,
    preprocessing_schemes.ORDER,
)


@dataclass(frozen=True)
class DiagnosticReport:
    """The results of all checks.

    Attributes:
        findings: a tuple of `Finding`.
        checked: names of the checks, of `CHECKS`, without a finding.
        unchecked: `(name, reason)` of the checks that could not run.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[tuple[str, str], ...]

    @property
    def healthy(self):
        """Whether no finding is `wrong`; some may be `look`."""
        return all(finding.severity != WRONG for finding in self.findings)


@dataclass(frozen=True)
class LoadedModel:
    """A model with its metadata and recipe.

    Attributes:
        model: a `keras.Model`.
        about: its metadata, as `zoo.model_files.load` returns them.
        path: its `.keras` file, or `None`.
        recipe: the recipe of its run, or `{}`.
    """

    model: object
    about: dict
    path: Path | None
    recipe: dict


def diagnose(target, dataset="", *, data_dir="", weights="", images=NUM_IMAGES, objects=""):
    """Runs all checks on a model and a data set by name.

    Args:
        target: a run folder, a `.keras` file, or the name of a pretrained model.
        dataset: a data set, as for `tasks.data.sources.load`; by default that of the run.
        data_dir: the folder of TFDS data sets; by default that of the run.
        weights: a weights file to load instead of the published weights of a pretrained model.
        images: the number of images that the model predicts on.
        objects: a data set with masks or boxes of the same images; by default the data set itself
            if it is `shapes` or of TFDS, and has some.

    Returns:
        A `DiagnosticReport`.

    Raises:
        UsageError: there is no such model or data set, or `dataset` is missing.
    """
    subject = load_model(target, weights)
    recipe = subject.recipe
    if not dataset and not recipe.get("dataset"):
        raise UsageError(
            f"{target} is not a run; pass a data set, as in `zoo doctor MODEL DATASET`"
        )
    if recipe and "train_split" not in recipe:
        raise UsageError(
            f"{target} is a run of {recipe['task']}, which has no images to check; pass an image "
            "model and a data set, as in `zoo doctor MODEL DATASET`"
        )
    if images < model_predictions.MIN_IMAGES:
        raise UsageError(f"--images must be {model_predictions.MIN_IMAGES} or more, not {images}")
    own = not dataset or dataset == recipe.get("dataset")
    dataset, data_dir = dataset or recipe["dataset"], data_dir or recipe.get("data_dir") or None
    source = sources.load(dataset, data_dir)
    load = object_masks.load if objects else object_masks.load_own
    objects = load(objects or dataset, data_dir)
    keys = ("train_split", "validation_split", "test_split", "group_by")
    parts = splits.train_val_test_split(
        source, *(recipe.get(key, "") if own else "" for key in keys)
    )
    known = recipe or "image_bits" in subject.about
    if known:  # decoding every image is left to the survey
        bits = image_stats.stated_bits(subject.about, target)
        parts = [part and image_stats.with_bits(part, bits) for part in parts]
    else:
        parts, _ = image_stats.inspect_splits(parts)
    return run_checks(
        *(subject.model, subject.about, source),
        parts=parts,
        images=images,
        path=subject.path,
        objects=objects,
    )


def run_checks(model, about, source, *, parts=None, images=NUM_IMAGES, path=None, objects=None):
    """Runs all checks on a model and a data set.

    Args:
        model: a `keras.Model` whose input is a batch of RGB images in [0, 255], compiled or not.
        about: metadata of the model: `classes`, names in the order of its logits, and `resize`;
            either may be absent.
        source: a `sources.Source`.
        parts: its `Split`s, the training split first and the test split last; by default those of
            `splits.train_val_test_split`.
        images: the number of images, of the last split, that the model predicts on.
        path: the `.keras` file of the model, or `None`.
        objects: a `sources.Source` of masks or boxes of the same images, as `object_masks.load`
            returns it, or `None`.

    Returns:
        A `DiagnosticReport`.

    Raises:
        UsageError: the model does not take images, or no image can be decoded.
    """
    parts = [part for part in parts or splits.train_val_test_split(source) if part]
    subject = model_predictions.predict_sample(model, about, source, parts[-1], images)
    results = _CheckResults()
    results.run(trainable_check.CHECK_NAME, trainable_check.check_trainable, model, path)
    _check_dataset(results, source, parts, min(subject.images.shape[1:3]))
    for name, check in PREDICTION_CHECKS.items():
        if check is batch_norm_check.check_batch_norm and results.has(
            *preprocessing_schemes.REMEDIES
        ):
            results.unchecked.append((name, "fix the preprocessing first"))
        else:
            results.run(name, check, subject)
    results.run(shortcut_check.OBJECTS_CHECK_NAME, shortcut_check.check_objects, subject, objects)
    if subject.incomparable:  # statistics alone hardly distinguish red from blue
        results.unchecked.append((preprocessing_schemes.ORDER, subject.incomparable))
    elif not results.has(*preprocessing_schemes.REMEDIES):
        results.checked.append(preprocessing_schemes.ORDER)
    results.findings.sort(key=lambda finding: finding.severity != WRONG)
    return DiagnosticReport(*map(tuple, (results.findings, results.checked, results.unchecked)))


def load_model(target, weights=""):
    """Loads a model with its metadata.

    Args:
        target: a run folder, a `.keras` file, or the name of a pretrained model or, as
            `hf://USER/NAME`, of one on the Hugging Face Hub.
        weights: a weights file to load instead of the published weights of a pretrained model.

    Returns:
        A `LoadedModel`.

    Raises:
        UsageError: there is no such model, or it has random weights.
    """
    path = hub.fetch(target) if hub.is_hub_name(target) else Path(target)
    if path.is_dir():
        model, recipe = resume.model_path(path), path / recipes.RECIPE
        recipe = recipes.read_recipe(recipe) if recipe.exists() else {}
        return LoadedModel(*model_files.load(model), model, recipe)
    if path.is_file() or path.suffix == ".keras" or len(path.parts) > 1:
        return LoadedModel(*model_files.load(path), path, {})
    spec = zoo.spec(str(target))
    if spec.weights is None and not weights:
        raise UsageError(
            f"{target} has random weights; pass a run, a .keras file or a pretrained model such "
            f"as {', '.join(zoo.names(weights=True)[:3])}"
        )
    model = zoo.build(spec.name, weights=weights or None)
    facts = spec.weights
    about = {"classes": zoo.class_names(facts.classes), "resize": facts.resize} if facts else {}
    return LoadedModel(model, about, None, {})


class _CheckResults:
    """Collects the results of checks."""

    def __init__(self):
        self.findings, self.checked, self.unchecked = [], [], []

    def run(self, name, check, *arguments):
        """Runs one check and stores its findings, or the reason why it was skipped."""
        try:
            found = list(check(*arguments))
        except CheckSkipped as reason:
            self.unchecked.append((name, str(reason)))
            return
        self.findings += found
        if not found:
            self.checked.append(name)

    def has(self, *names):
        """Returns whether one of these faults was found with severity `wrong`."""
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
