"""Finds what spoils a training or its figures, in a model and the data that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zoo
from tasks.advice import compiled, pictures, preprocessing, statistics, trial
from tasks.advice.findings import LOOK, WRONG, Finding, Unchecked
from tasks.data import looks, sources, splits
from tasks.engine import resume
from zoo import files
from zoo.errors import UsageError

__all__ = ["CHECKS", "LOOK", "WRONG", "Examination", "Finding", "examine", "opened", "visit"]

IMAGES = 512  # that the model is tried on

OF_PICTURES = {
    "unreadable images": pictures.unreadable,
    "near-constant images": pictures.near_constant,
    "leaked duplicates": pictures.leaks,
    "copies with different labels": pictures.conflicts,
    "class imbalance": pictures.balance,
}
OF_TRIAL = {
    "class order": trial.class_order,
    "preprocessing": preprocessing.preprocessing,
    "batch-norm statistics": statistics.batch_norm,
}
CHECKS = (*OF_PICTURES, "small images", compiled.NAME, *OF_TRIAL, preprocessing.ORDER)


@dataclass(frozen=True)
class Examination:
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
class Patient:
    """A model, and what its file or its run tell of it.

    Attributes:
        model: a `keras.Model`.
        about: as `zoo.files.load` gives it.
        path: its `.keras` file, or `None`.
        recipe: of the run that made it, or `{}`.
    """

    model: object
    about: dict
    path: Path | None
    recipe: dict


def visit(target, dataset="", *, data_dir="", weights="", images=IMAGES):
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
    patient = opened(target, weights)
    recipe = patient.recipe
    if not dataset and not recipe.get("dataset"):
        raise UsageError(f"{target} is no run; name a data set, as in `zoo doctor MODEL DATASET`")
    if recipe and "train_split" not in recipe:
        raise UsageError(
            f"{target} is a run of {recipe['task']}, which has no images to examine; name a model "
            "for images and a data set, as in `zoo doctor MODEL DATASET`"
        )
    if images < trial.LEAST:
        raise UsageError(f"--images must be {trial.LEAST} or more, not {images}")
    own = not dataset or dataset == recipe.get("dataset")
    source = sources.load(dataset or recipe["dataset"], data_dir or recipe.get("data_dir") or None)
    keys = ("train_split", "validation_split", "test_split")
    parts = splits.plan(source, *(recipe.get(key, "") if own else "" for key in keys))
    known = recipe or "image_bits" in patient.about
    bits = looks.stated(patient.about, target) if known else 0
    parts, _ = looks.settled(parts, bits)
    return examine(
        patient.model, patient.about, source, parts=parts, images=images, path=patient.path
    )


def examine(model, about, source, *, parts=None, images=IMAGES, path=None):
    """Examines a model and a data set.

    Args:
        model: a `keras.Model` from images, RGB in [0, 255], compiled or not.
        about: what is known of it: `classes`, names in the order of its logits, and `resize`;
            either may be absent.
        source: a `sources.Source`.
        parts: its `Split`s, those to learn from first and those to judge by last; by default
            what `splits.plan` makes of it.
        images: how many images the model is tried on, of the last part.
        path: the `.keras` file that the model is from, or `None`.

    Returns:
        An `Examination`.

    Raises:
        UsageError: the model does not take images, or none can be read.
    """
    parts = [part for part in parts or splits.plan(source) if part]
    patient = trial.attempt(model, about, source, parts[-1], images)
    record = _Record()
    record.run(compiled.NAME, compiled.changed, model, path)
    _look_at_pictures(record, source, parts, min(patient.images.shape[1:3]))
    for name, check in OF_TRIAL.items():
        if check is statistics.batch_norm and record.has(*preprocessing.DO):
            record.unchecked.append((name, "preprocessing comes first"))
        else:
            record.run(name, check, patient)
    if patient.incomparable:  # statistics alone hardly tell red from blue
        record.unchecked.append((preprocessing.ORDER, patient.incomparable))
    elif not record.has(*preprocessing.DO):
        record.checked.append(preprocessing.ORDER)
    record.findings.sort(key=lambda finding: finding.severity != WRONG)
    return Examination(*map(tuple, (record.findings, record.checked, record.unchecked)))


def opened(target, weights=""):
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
        model, recipe = resume.model_in(path), path / resume.RECIPE
        recipe = resume.read_recipe(recipe) if recipe.exists() else {}
        return Patient(*files.load(model), model, recipe)
    if path.is_file() or path.suffix == ".keras" or len(path.parts) > 1:
        return Patient(*files.load(path), path, {})
    spec = zoo.spec(str(target))
    if spec.weights is None and not weights:
        raise UsageError(
            f"{target} has random weights: there is nothing to examine; name a run, a .keras file "
            f"or one of {', '.join(zoo.names(weights=True)[:3])}"
        )
    model = zoo.build(spec.name, weights=weights or None)
    facts = spec.weights
    about = {"classes": zoo.class_names(facts.classes), "resize": facts.resize} if facts else {}
    return Patient(model, about, None, {})


class _Record:
    """What has been found so far."""

    def __init__(self):
        self.findings, self.checked, self.unchecked = [], [], []

    def run(self, name, check, *arguments):
        """Runs one check and keeps what it finds, or why it could not."""
        try:
            found = list(check(*arguments))
        except Unchecked as reason:
            self.unchecked.append((name, str(reason)))
            return
        self.findings += found
        if not found:
            self.checked.append(name)

    def has(self, *names):
        """Tells whether one of these faults was found for sure."""
        return any(f.severity == WRONG and f.name in names for f in self.findings)


def _look_at_pictures(record, source, parts, side):
    try:
        survey = pictures.survey(source, parts)
    except Unchecked as reason:
        record.unchecked += [(name, str(reason)) for name in (*OF_PICTURES, "small images")]
        return
    for name, check in OF_PICTURES.items():
        record.run(name, check, survey)
    record.run("small images", pictures.enlarged, survey, side)
