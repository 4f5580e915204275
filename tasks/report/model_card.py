"""The model card of a run: `README.md` with the metadata that the Hugging Face Hub reads.

See https://huggingface.co/docs/hub/model-cards. Absolute paths are shortened to their last part, so
that a card can be published.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex

import zoo
from tasks.report.formatting import display_name, format_value
from zoo.atomic_files import write_text
from zoo.errors import UsageError
from zoo.lazy import LazyModule

yaml = LazyModule("yaml")

CARD = "README.md"
PIPELINE_TAGS = {  # the Hub's names of tasks
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "captioning": "image-to-text",
    "gan": "unconditional-image-generation",
    "style_transfer": "image-to-image",
    "dqn": "reinforcement-learning",
}
HUB_LICENCES = ("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0")
OTHER_LICENCE = "other"
FOLDERS = re.compile(r"(?<![\w.:/])~?(?:/[^/,;]+)*/(?=[^/,;])")  # of absolute paths in text
FIGURE_COLUMNS = ("figure", "value", "interval")
TIMES = ("seconds", "images_per_second")
RECIPE_COMMAND = "zoo train --recipe recipe.yaml --out NEW_FOLDER"
TO_FILL_IN = {
    "Intended use": "who the model is for, and what for; and what it must not be used for",
    "Limitations": "images that the model was not trained on, known failures, and biases of the "
    "data",
}
IMAGES = (
    "The inputs are images of the shape `model.input_shape`, with pixels in [0, 255] of any "
    "numeric type; the preprocessing is part of the model."
)
INPUTS = {  # of the models of each task; the others take images
    "gan": "The model is the generator. Its inputs are latent vectors from a standard normal "
    "distribution, and for a class-conditional generator the index of a class; its outputs are "
    "images with pixels in [0, 255].",
    "dqn": "The inputs are observations of the environment, the outputs action values.",
    "sequence": "The inputs are windows of encoded texts or series; `zoo predict` encodes files as "
    "in training.",
}
MAX_CLASSES = 1000  # rows of the table of classes


def write(out, report, task):
    """Writes the model card of a run, unless the folder has one, which may have been edited.

    Args:
        out: The run folder, a `Path`.
        report: The contents of `report.json`.
        task: The `tasks.Task` of the run.
    """
    if not (out / CARD).exists():
        write_text(out / CARD, text(report, task))


def text(report, task):
    """Returns the model card of a run, as Markdown with YAML metadata; arguments as in `write`."""
    report = public_report(report)
    title = _plain(report.get("title") or f"{report['task']} with keras-zoo")
    sections = [
        f"# {title}",
        _plain(report.get("lead", "")),
        _section("Intended use", _to_fill_in("Intended use")),
        _section("Use", _usage(report["task"])),
        _section("Figures", _figures(report)),
        _section("Figures by class", _class_figures(report)),
        _section("Training", _training(report, task)),
        _section("Licences", _licences(report)),
        _section("Limitations", _to_fill_in("Limitations")),
        _section("Environment", _table(("what", "version"), report["environment"].items())),
    ]
    body = "\n\n".join(filter(None, sections))
    return f"---\n{yaml.safe_dump(metadata(report), sort_keys=False, width=96)}---\n\n{body}\n"


def metadata(report):
    """Returns the metadata of a model card, a dict of YAML values."""
    found = {"library_name": "keras", "tags": ["keras", "keras-zoo", report["task"]]}
    if report["task"] in PIPELINE_TAGS:
        found["pipeline_tag"] = PIPELINE_TAGS[report["task"]]
    if licences := [*starting_weights(report["flags"]).values()]:
        found["license"] = _hub_licence(licences)
    figures = {
        name: value
        for name, value in report["figures"].items()
        if name not in TIMES and math.isfinite(value)
    }
    if figures:
        found["metrics"] = [name for name in figures if not _is_end(name)]
        found["model-index"] = [_model_index(report, figures)]
    return found


def starting_weights(flags):
    """Returns the licences of the pretrained weights that a run started from, by their name.

    A licence that is not known, as of a file of weights, is empty.
    """
    found = {}
    for name, own_file in (("model", "weights"), ("backbone", "backbone_weights")):
        chosen, file = str(flags.get(name) or ""), str(flags.get(own_file) or "")
        if file and file != "random":
            found[public_value(file)] = ""
        elif chosen and not file:
            found |= _published_licence(chosen)
    return found


def public_value(value):
    """Returns a value of a flag, with only the last part of the absolute paths in it."""
    if not isinstance(value, str):
        return value
    path = value.rstrip("/\\")
    return os.path.basename(path) if os.path.isabs(path) else FOLDERS.sub("", value)


def public_report(report):
    """Returns the contents of `report.json` with only the last part of absolute paths."""
    flags = {name: public_value(value) for name, value in report["flags"].items()}
    data = report.get("data", {})
    splits = {public_value(name): digest for name, digest in data.get("splits", {}).items()}
    return {**report, "flags": flags, "data": {**data, "splits": splits} if splits else data}


def command(task):
    """Returns the command that trains a task: the flags that differ from their defaults."""
    changed = {
        field.name: getattr(task, field.name)
        for field in dataclasses.fields(task)
        if getattr(task, field.name) != field.default
    }
    flags = [f"--{name.replace('_', '-')}={public_value(x)}" for name, x in changed.items()]
    return shlex.join(["zoo", "train", task.name, *flags])


def _published_licence(name):
    try:
        weights = zoo.spec(name).weights
    except UsageError:  # a model of a later version
        return {name: ""}
    return {name: weights.licence} if weights else {}


def _hub_licence(licences):
    """Returns the Hub's identifier of a licence, `other` if there are several or it is unknown."""
    names = {re.sub(r"\s+", "-", each.partition("(")[0].strip().lower()) for each in licences}
    (name,) = names if len(names) == 1 else ("",)
    return name if name in HUB_LICENCES else OTHER_LICENCE


def _model_index(report, figures):
    dataset = str(public_value(report["flags"].get("dataset") or "") or report["task"])
    kind = PIPELINE_TAGS.get(report["task"], report["task"])
    metrics = [
        {"type": name, "value": float(value), "name": display_name(name)}
        for name, value in figures.items()
        if not _is_end(name)
    ]
    results = {
        "task": {"type": kind},
        "dataset": {"type": re.sub(r"\W+", "-", dataset), "name": dataset, "split": "test"},
        "metrics": metrics,
    }
    name = " ".join(report.get("title", "").split())
    return {"name": name or report["task"], "results": [results]}


def _usage(task):
    lines = ["import zoo", "", 'model = zoo.build("hf://USER/NAME")  # a keras.Model']
    return "\n".join(["```python", *lines, "```", "", INPUTS.get(task, IMAGES)])


def _figures(report):
    figures = report["figures"]
    rows = [
        (display_name(name), format_value(name, value), _interval(name, figures))
        for name, value in figures.items()
        if not _is_end(name)
    ]
    test = report.get("data", {}).get("splits", {}).get("test", "").partition(",")[0]
    notes = [f"On the test split ({_plain(test)}), which was not used in training."] if test else []
    if any(map(_is_end, figures)):
        notes.append("Intervals are 95% bootstrap intervals.")
    return "\n\n".join(filter(None, (" ".join(notes), _table(FIGURE_COLUMNS, rows))))


def _class_figures(report):
    rows = report.get("class_figures") or []
    names = list(dict.fromkeys(name for row in rows for name in row if not _is_end(name)))
    cells = [[_with_interval(name, row) for name in names] for row in rows[:MAX_CLASSES]]
    return _table([display_name(name) for name in names], cells) if rows else ""


def _with_interval(name, row):
    interval = _interval(name, row)
    return format_value(name, row.get(name)) + (f" ({interval})" if interval else "")


def _interval(name, figures):
    ends = [figures.get(f"{name}_{end}") for end in ("low", "high")]
    return "" if None in ends else " to ".join(format_value(name, end) for end in ends)


def _training(report, task):
    counts = ", ".join(
        f"{_plain(role)} {_plain(digest.partition(',')[0])}"
        for role, digest in report.get("data", {}).get("splits", {}).items()
    )
    flags = {"task": task.name, **report["flags"]}
    recipe = yaml.safe_dump(flags, sort_keys=False)
    stages = "".join(
        f"- trained layers: {_plain(stage.get('learn'))}; epochs: {_plain(stage.get('epochs'))}; "
        f"peak learning rate: {_plain(stage.get('rate'))}\n"
        for stage in report["flags"].get("stages") or []
        if isinstance(stage, dict)
    )
    blocks = [
        f"Data: {counts}." if counts else "",
        f"Plan:\n\n{stages.rstrip()}" if stages else "",
        f"The command:\n\n```sh\n{command(task)}\n```",
        f"To repeat it with the same resolved flags:\n\n```sh\n{RECIPE_COMMAND}\n```",
        f"<details><summary>Recipe</summary>\n\n```yaml\n{recipe}```\n\n</details>",
    ]
    return "\n\n".join(filter(None, blocks))


def _licences(report):
    rows = [
        (f"starting weights {name}", licence or "unknown")
        for name, licence in starting_weights(report["flags"]).items()
    ]
    dataset = public_value(report["flags"].get("dataset") or "")
    if dataset:
        rows.append((f"data set {dataset}", report.get("data_licence") or "unknown"))
    note = "To be completed by the author: the licence of this model."
    return f"{_table(('of', 'licence'), rows)}\n\n{note}" if rows else note


def _to_fill_in(name):
    return f"To be completed by the author: {TO_FILL_IN[name]}."


def _section(heading, content):
    return f"## {heading}\n\n{content}" if content else ""


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(value):
    """Returns text in one line without what Markdown or HTML would interpret."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", line)


def _is_end(name):
    return name.endswith(("_low", "_high"))
