"""Suspicious labels and images of a data set: `zoo clean`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import zoo
from tasks.advice import corrections, image_quality, label_errors, linear_probe, rank
from tasks.advice.linear_probe import NUM_FOLDS
from tasks.data import decoding, image_stats, sources, splits
from tasks.data import folds as data_folds
from tasks.inference import feature_cache
from zoo.errors import UsageError
from zoo.lazy import np

DEFAULT_MODELS = ("resnet20.cifar10",)


@dataclass(frozen=True, eq=False)
class CleaningReport:
    """Suspicious images of a data set.

    Attributes:
        dataset: Its name.
        images: The number of images.
        label_errors: A list of `label_errors.LabelError`, the most suspicious first.
        near_copies: A list of lists of images that are copies of each other: first those with
            different labels, then those in different splits.
        issues: A dict from `blurred`, `dark`, `uniform`, `odd_size` and `outliers` to lists of
            images.
        unreadable: `(image, reason)` of files that are not images, or damaged.
        classes: The class names.
        labels: The class name of each image, by its path, or its split and number.
        split_names: The name of the split of each image.
        whole: The `dataset.Split` of all images.
        positions: The index into `whole` of each image.
    """

    dataset: str
    images: int
    label_errors: list
    near_copies: list
    issues: dict
    unreadable: tuple
    classes: tuple[str, ...]
    labels: dict = field(repr=False)
    split_names: dict = field(repr=False)
    whole: object = field(repr=False)
    positions: dict = field(repr=False)

    def to_dict(self):
        """Returns the findings as JSON types."""
        copies = [
            [
                {"path": path, "label": self.labels[path], "split": self.split_names[path]}
                for path in group
            ]
            for group in self.near_copies
        ]
        return {
            "dataset": self.dataset,
            "images": self.images,
            "label_errors": [dataclasses.asdict(error) for error in self.label_errors],
            "near_copies": copies,
            **self.issues,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
        }


def clean(dataset, models=DEFAULT_MODELS, *, weights=None, data_dir=None, folds=NUM_FOLDS):
    """Searches all splits of a data set for wrong labels and bad images.

    Args:
        dataset: A data set with one label per image, as for `sources.load`.
        models: Names of pretrained models, whose predictions are averaged.
        weights: A dict from name to a weights file to load instead of the published weights.
        data_dir: The folder of TFDS data sets.
        folds: The number of folds of the predictions; near copies share a fold.

    Returns:
        A `CleaningReport`.

    Raises:
        UsageError: There is no such data set or model, cleanlab is missing, the data set is
            multi-label, or has too few images or classes.
    """
    specs = [zoo.spec(name) for name in models]
    if folds < data_folds.MIN_FOLDS:
        raise UsageError(f"--folds must be {data_folds.MIN_FOLDS} or more, not {folds}")
    label_errors.check_installed()
    source = sources.load(dataset, data_dir)
    corrections.check_single_label(source, dataset)
    whole = image_stats.inspect_splits([splits.select(source, "all")])[0][0]
    split_names = {
        corrections.item_id(split, index): name
        for name, split in source.splits.items()
        for index in range(len(split))
    }
    if len(split_names) < len(whole):
        raise UsageError(f"{dataset} names some images more than once; keep one row per image")
    names, figures = list(split_names), image_quality.measure(whole)
    seen = _readable(whole, figures)
    linear_probe.check_labels(whole.labels[seen], folds)
    features = [_features(spec, whole, seen, (weights or {}).get(spec.name)) for spec in specs]
    errors, copies = _suspects(whole.take(seen), features, folds)
    quality = {**image_quality.quality_issues(figures)}
    quality["outliers"] = seen[image_quality.outliers(features[0])].tolist()
    named = [source.classes[label] for label in whole.labels]
    missing = np.setdiff1d(np.arange(len(whole)), seen)
    report = CleaningReport(
        dataset=str(dataset),
        images=len(whole),
        label_errors=label_errors.describe(*errors, source.classes, [names[n] for n in seen]),
        near_copies=[[names[seen[n]] for n in group] for group in copies],
        issues={issue: [names[n] for n in found] for issue, found in quality.items()},
        unreadable=(*source.skipped, *((names[n], "damaged") for n in missing)),
        classes=source.classes,
        labels=dict(zip(names, named, strict=True)),
        split_names=split_names,
        whole=whole,
        positions={name: n for n, name in enumerate(names)},
    )
    report.near_copies.sort(key=lambda group: _severity_rank(report, group))
    return report


def _readable(whole, figures):
    """Returns the indices of the images that can be read; raises `UsageError` if none can."""
    seen = np.flatnonzero(np.isfinite(figures["std"]))
    if not len(seen):
        decoding.decode(whole.take(range(1)), (8, 8, 3), "stretch")  # raises with the reason
    return seen


def _features(spec, whole, seen, weights):
    """Returns the features of the images that can be read, `(images, features)`."""
    extractor = rank.probe_extractor(spec, weights, spec.input_shape, len(seen))
    examples = decoding.decode(whole.take(seen), extractor.input_shape[1:], "stretch")
    if len(examples) < len(seen):
        path, reason = examples.dropped[0]
        raise UsageError(f"{spec.name} cannot take {path}: {reason}")
    found = np.asarray(feature_cache.compute_features(extractor, examples), np.float32)
    return found.reshape(len(found), -1, found.shape[-1]).mean(axis=1)


def _suspects(split, features, folds):
    """Returns the arguments of `label_errors.describe`, and the groups of near copies."""
    keys = image_stats.duplicate_groups(split.image_stats)
    classes, labels = np.unique(split.labels, return_inverse=True)
    fold_ids = data_folds.assign_folds(keys, labels.tolist(), folds)
    bad, found = label_errors.suspects(features, labels, fold_ids)
    probabilities = np.zeros((len(labels), int(classes.max()) + 1))
    probabilities[:, classes] = found  # of the classes that have an image
    groups = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return (bad, probabilities, split.labels), [g for g in groups.values() if len(g) > 1]


def _severity_rank(report, group):
    """Returns a sort key: 0 for copies of different classes, 1 of different splits, else 2."""
    if len({report.labels[name] for name in group}) > 1:
        return 0
    return 1 if len({report.split_names[name] for name in group}) > 1 else 2
