"""The run folder of a task, where none is named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from tasks.data.dataset import short_name
from tasks.engine import run_folder

RUNS_FOLDER = Path("runs")  # the parent of run folders by default
# That the digest leaves out while they have their default value.
LATER_FLAGS = ("group_by", "balance", "error_costs", "scale", "threshold")


def default_folder(task):
    """Returns the path of the run folder of a task, named after its flags and their digest."""
    flags = dataclasses.asdict(task)
    # By former names, so that runs of earlier versions are found again.
    former = {
        x.metadata["former"] or x.name: flags[x.name]
        for x in dataclasses.fields(task)
        if flags[x.name] != x.default or x.name not in LATER_FLAGS
    }
    digest = hashlib.sha256(json.dumps(former, sort_keys=True).encode()).hexdigest()[:8]
    words = [short_name(str(flags[key])) for key in ("model", "dataset") if key in flags]
    return RUNS_FOLDER / f"{run_folder.file_name(words or [task.name])}-{digest}"
