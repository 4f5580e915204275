"""Compares finished runs of a task: flags, figures, and results on the same test images."""

from __future__ import annotations

import dataclasses
import string
from dataclasses import dataclass
from pathlib import Path

import tasks
from tasks.engine import recipes, resume
from tasks.engine.flags import rename_former_flags
from tasks.report import image_results, paired_tests, run_files
from zoo.errors import UsageError
from zoo.lazy import np

MAX_RUNS = 8  # as many curves have distinguishable colors
SEED = 0  # of the paired bootstrap
IGNORED_FLAGS = ("task", "resolved", "stages", "weights_sha256")
ENVIRONMENT = ("keras-zoo", "keras", "tensorflow", "processor", "gpus", "replicas")


@dataclass(frozen=True)
class ComparedRun:
    """A finished run that is compared.

    Attributes:
        label: A capital letter.
        path: The run folder.
        report: What `run_files.read_report` returned.
        results: The `ImageResults` on the images that all runs have results of, or `None`.
    """

    label: str
    path: Path
    report: dict
    results: image_results.ImageResults | None = None


def compare(paths):
    """Compares runs.

    Args:
        paths: Run folders, the first of which is the baseline of all differences.

    Returns:
        A tuple of the `ComparedRun`s and a dict of JSON values:
        `task`; `runs`, their labels and paths; `flags` and `environment`, the values by label of
        each that differs; `figures`, the values of each by label; `digest`, that of the images
        that the following concerns, or `None`; `paired`, for each further run and each figure
        per image the `paired_tests.paired_difference`; `images`, for each further run the images
        on which either is better, the largest difference first; `notes`, lines on what could not
        be compared.

    Raises:
        UsageError: A folder contains no finished run or a damaged one, the runs are of different
            tasks, or their number is not 2 to `MAX_RUNS`.
    """
    runs, notes = _load([Path(path) for path in paths]), []
    digest = _common_digest(runs, notes)
    if digest:
        runs = _with_results(runs, digest)
    first, *others = runs
    found = {
        "task": first.report["task"],
        "runs": [{"label": run.label, "path": str(run.path)} for run in runs],
        "flags": _differing({run.label: _flags(run) for run in runs}),
        "environment": _differing({run.label: _environment(run) for run in runs}),
        "figures": _by_name({run.label: run.report["figures"] for run in runs}),
        "digest": digest,
        "paired": [row for run in others if digest for row in _paired(first, run)],
        "images": [_better_images(first, run) for run in others if digest],
        "notes": notes,
    }
    return runs, found


def _load(paths):
    if not 2 <= len(paths) <= MAX_RUNS:
        raise UsageError(f"{len(paths)} run(s) given; pass 2 to {MAX_RUNS} run folders to compare")
    for path in paths:
        if not (path / resume.REPORT).is_file():
            raise UsageError(f"{path} contains no finished run; `zoo runs` lists runs")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"a run is given twice: {', '.join(map(str, paths))}")
    labels = string.ascii_uppercase
    runs = [
        ComparedRun(label, path, run_files.read_report(path / resume.REPORT))
        for label, path in zip(labels, paths, strict=False)
    ]
    names = {run.report["task"]: run for run in runs}
    if len(names) > 1:
        listed = ", ".join(f"{run.path} is {name}" for name, run in names.items())
        raise UsageError(f"runs of one task can be compared, not of several: {listed}")
    return runs


def _common_digest(runs, notes):
    """Returns the digest of images that all runs have results of, or `None`, with a note."""
    available = {run.label: image_results.digests(run.path) for run in runs}
    common = set.intersection(*available.values())
    own = {digest for run in runs for digest in [_test_digest(run)] if digest}
    if len(own) > 1:
        notes.append("the test images of the runs differ: compare figures with care")
    name = runs[0].report["task"]
    if name in tasks.names() and not tasks.get(name).has_image_results:
        notes.append(f"{name} has no results per image, from which differences are computed")
    elif missing := [run for run in runs if not available[run.label]]:
        commands = "; ".join(f"zoo evaluate {run.path}" for run in missing)
        notes.append(f"no results per image, from which differences are computed; run: {commands}")
    elif not common:
        notes.append(
            "no results on the same images; evaluate each run on one data set: "
            f"zoo evaluate {runs[-1].path} --dataset DATASET"
        )
    return min(common, key=lambda digest: (digest not in own, digest), default=None)


def _test_digest(run):
    """Returns the digest of the test split of a run, `""` if it is unknown."""
    text = run.report.get("data", {}).get("splits", {}).get("test", "")
    found = image_results.DIGEST_PATTERN.fullmatch(text)
    return found[1] if found else ""


def _with_results(runs, digest):
    """Returns runs with their results, restricted to the images that all have."""
    read = [image_results.read(run.path, digest) for run in runs]
    shared = set.intersection(*(set(results.indices) for results in read))
    return [
        dataclasses.replace(run, results=_restricted(results, shared))
        for run, results in zip(runs, read, strict=True)
    ]


def _restricted(results, indices):
    """Returns the results on some images, in the order of their indices."""
    order = sorted((index, row) for row, index in enumerate(results.indices) if index in indices)
    rows = [row for _, row in order]
    columns = {name: [each[row] for row in rows] for name, each in results.columns.items()}
    return image_results.ImageResults(
        [index for index, _ in order], [results.images[row] for row in rows], columns
    )


def _flags(run):
    """Returns the flags of a run by their present names, with defaults for those it lacks."""
    flags, name = run.report["flags"], run.report["task"]
    if name in tasks.names():
        task = tasks.get(name)
        defaults = {field.name: field.default for field in dataclasses.fields(task)}
        flags = {**defaults, **rename_former_flags(task, flags)}
    if (run.path / recipes.RECIPE).is_file():
        resolved = recipes.read_recipe(run.path / recipes.RECIPE).get("resolved") or {}
        flags |= {f"{key} (resolved)": value for key, value in resolved.items()}
    return {key: value for key, value in flags.items() if key not in IGNORED_FLAGS}


def _environment(run):
    return {name: run.report["environment"].get(name) for name in ENVIRONMENT}


def _differing(values):
    """Returns the rows of `_by_name` whose values differ."""
    rows = _by_name(values)
    return [row for row in rows if len({repr(value) for value in row["values"].values()}) > 1]


def _by_name(values):
    """Returns a dict `name`, `values` for each name in dicts by label."""
    names = dict.fromkeys(name for each in values.values() for name in each)
    return [
        {"name": name, "values": {label: each.get(name) for label, each in values.items()}}
        for name in names
    ]


def _paired(first, second):
    """Returns the paired differences of two runs, a dict for each figure per image."""
    shared = [name for name in first.results.figures if name in second.results.columns]
    rows = []
    for name in shared:
        values = first.results.columns[name], second.results.columns[name]
        difference = paired_tests.paired_difference(*values, seed=SEED)
        rows.append({"baseline": first.label, "run": second.label, "name": name, **difference})
    return rows


def _better_images(first, second):
    """Returns the images on which either of two runs is better by its first figure per image."""
    name = next(iter(first.results.figures), "")
    found = {"baseline": first.label, "run": second.label, "name": name}
    if name not in second.results.columns:
        return {**found, "baseline_better": [], "run_better": []}
    gain = np.subtract(second.results.columns[name], first.results.columns[name])
    order = np.argsort(-np.abs(gain), kind="stable").tolist()
    for key, sign in (("baseline_better", -1), ("run_better", 1)):
        rows = [row for row in order if sign * gain[row] > 0]
        found[key] = [_image(first, second, name, row) for row in rows]
    return found


def _image(first, second, name, row):
    """Returns what is known of an image: its index and title, and the results of two runs."""
    found = {"index": first.results.indices[row], "image": first.results.images[row]}
    if "label" in first.results.columns:
        found["label"] = first.results.columns["label"][row]
    for run in (first, second):
        shown = [key for key in ("prediction", name) if key in run.results.columns]
        found[run.label] = {key: run.results.columns[key][row] for key in shown}
    return found
