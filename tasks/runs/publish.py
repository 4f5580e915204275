"""Publishes a run on the Hugging Face Hub.

The model, its card, the recipe, the report and the history are uploaded. The HTML report and the
results per image are not, since they show test images and their names. Absolute paths in the
recipe and in the report are shortened to their last part.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import zoo
from tasks.engine import recipes, resume
from tasks.report import model_card, run_files
from zoo import hub, model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule

yaml = LazyModule("yaml")
huggingface_hub = LazyModule("huggingface_hub")

PLACEHOLDER = f"{hub.PREFIX}USER/NAME"


def push(run, name, *, public=False, message=""):
    """Uploads a finished run to a repository of the Hub, which is created if there is none.

    Args:
        run: The run folder.
        name: `hf://USER/NAME`.
        public: Whether a new repository is public; an existing one is not changed.
        message: The title of the commit.

    Returns:
        A dict of `url`, the address of the repository; `revision`, the commit; `name`, which
        `zoo.build` takes for this revision; and `files`, the names of the uploaded files.

    Raises:
        UsageError: The folder contains no finished run or a damaged one, the name is wrong, or the
            Hub refuses access or cannot be reached.
    """
    run, (repository, revision) = Path(run), hub.parse(name)
    if revision:
        raise UsageError(f"zoo push creates a new revision; leave out @{revision}")
    files = files_to_upload(run, name)
    with hub.request_errors(name):
        api = huggingface_hub.HfApi(
            endpoint=os.environ.get("HF_ENDPOINT"),
            library_name="keras-zoo",
            library_version=zoo.__version__,
        )
        url = api.create_repo(repository, private=not public, exist_ok=True)
        operations = [
            huggingface_hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
            for file, content in files.items()
        ]
        commit = api.create_commit(
            repository, operations, commit_message=message or f"Upload {run.resolve().name}"
        )
    return {
        "url": str(url),
        "revision": commit.oid,
        "name": f"{name}@{commit.oid}",
        "files": sorted(files),
    }


def files_to_upload(run, name):
    """Returns the files that `push` uploads: a path, or bytes, by name.

    Args:
        run: The run folder, a `Path`.
        name: The name of the repository, for the card.

    Raises:
        UsageError: The folder contains no finished run, or a damaged one.
    """
    model = resume.model_path(run)
    model_files.read_metadata(model)  # raises an error for a damaged file
    report = resume.read_report(run)
    if report is None:
        raise UsageError(f"{run} contains no finished run: {resume.REPORT} is missing")
    recipe = recipes.read_recipe(run / recipes.RECIPE)
    public_recipe = {key: model_card.public_value(value) for key, value in recipe.items()}
    public_report = model_card.public_report(report)
    files = {
        hub.MODEL: str(model),
        model_card.CARD: _card(run, report, recipe).replace(PLACEHOLDER, name).encode(),
        recipes.RECIPE: yaml.safe_dump(public_recipe, sort_keys=False).encode(),
        resume.REPORT: (json.dumps(public_report, indent=2) + "\n").encode(),
    }
    if (run / run_files.HISTORY).is_file():
        files[run_files.HISTORY] = str(run / run_files.HISTORY)
    return files


def _card(run, report, recipe):
    """Returns the model card of a run; runs of earlier versions have none."""
    path = run / model_card.CARD
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    return model_card.text(report, recipes.task_from_recipe(recipe))
