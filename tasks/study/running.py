"""Runs a study and writes its page."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasks.study import Findings, Study, page, pictures
from zoo.errors import UsageError
from zoo.lazy import keras


def run_study(study: Study, folder="studies", **options) -> dict:
    """Runs a study and writes `FOLDER/NAME.html`.

    Args:
        study: such as `tasks.study.get("softmax")`.
        folder: of the page.
        **options: those of the study, such as `seed`; the rest have their defaults.

    Returns:
        A dict of `study`, its name; `claims`, a list of dicts; `seconds`; `cpu_seconds` of all its
        threads and child processes; and `page`, the file.

    Raises:
        UsageError: an option is unknown or has a value with which the study cannot run.
    """
    if unknown := sorted(options.keys() - study.options.keys()):
        known = ", ".join(study.options)
        raise UsageError(f"{study.name} has no option {unknown[0]!r}; its options: {known}")
    options = {**study.options, **options}
    for name, value in options.items():
        low = 0 if name == "seed" or isinstance(value, float) else 1
        if not isinstance(value, str) and not low <= value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} must be a number from {low}, not {value}")
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    try:
        findings = findings_of(study, **options)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{study.name} cannot run with {options}: {error}") from error
    file = Path(folder) / f"{study.name}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    page.write(file, study, findings, options)
    claims = [
        {"text": claim.text, "holds": bool(claim.holds), "measured": claim.measured}
        for claim in findings.claims
    ]
    seconds = round(time.perf_counter() - start, 1)
    return {
        "study": study.name,
        "claims": claims,
        "seconds": seconds,
        "cpu_seconds": round(_cpu_seconds() - cpu_start, 1),
        "page": str(file),
    }


def findings_of(study: Study, seed=0, **options) -> Findings:
    """Runs a study from a seed, in the style of the pictures; returns what it found."""
    keras.utils.set_random_seed(seed)
    with pictures.style():
        return study.run(seed=seed, **options)


def _cpu_seconds():
    return sum(os.times()[:4])  # user and system, of this process and of children that ended
