"""The page of a comparison of runs: tables, curves, and images on which one run is better."""

from __future__ import annotations

import shlex

import tasks
from tasks.data import data_fingerprint, image_io, splits
from tasks.engine import recipes
from tasks.report import environment, image_results, page, plots, run_curves, run_files
from tasks.report.formatting import display_name, escape, format_value
from zoo.errors import UsageError

MAX_THUMBNAILS = 12  # for each run of a pair
NO_BREAK = "\N{NO-BREAK SPACE}"
THUMBNAIL = (128, 128, 3)
FORMER_CURVES = ("loss", "accuracy")  # of a task that is not installed


def write(path, runs, found):
    """Writes the page of a comparison atomically.

    Args:
        path: The file to write.
        runs, found: What `comparison.compare` returned.
    """
    labels = ", ".join(f"{run.label}: {run.path.name}" for run in runs)
    names = _curve_names(runs)
    histories = {run.label: run_files.read_history(run.path) for run in runs}
    page.write(
        path,
        title=f"Comparison of {len(runs)} runs",
        lead=f"Task {found['task']}. {labels}.",
        command=shlex.join(
            ["zoo", "compare", *(str(run.path) for run in runs), "--out", str(path)]
        ),
        figures={},
        sections=[
            ("Figures", _values_table(found["figures"], runs, "figure")),
            ("Paired differences", _paired_table(found["paired"])),
            ("Flags that differ", _values_table(found["flags"], runs, "flag")),
            ("Environment that differs", _values_table(found["environment"], runs, "what")),
            ("Curves", run_curves.overlaid_curves(histories, names)),
            *(section for images in found["images"] for section in _galleries(images, runs, found)),
        ],
        environment=environment.describe(),
        warnings=found["notes"],
    )


def _curve_names(runs):
    """Returns the columns of the histories to draw, which may depend on the flags of a run."""
    if runs[0].report["task"] not in tasks.names():
        return FORMER_CURVES
    return list(dict.fromkeys(name for run in runs for name in _task(run).curves))


def _task(run):
    """Returns the task of a run, with the default flags if the folder has no recipe."""
    path = run.path / recipes.RECIPE
    if not path.is_file():
        return tasks.get(run.report["task"])()
    return recipes.task_from_recipe(recipes.read_recipe(path))


def _values_table(rows, runs, title):
    """Returns a table of values by run, formatted by the name of their row."""
    cells = [
        [
            display_name(row["name"]),
            *(_text(row["name"], row["values"][run.label], title) for run in runs),
        ]
        for row in rows
        if not (title == "figure" and row["name"].endswith(("_low", "_high")))
    ]
    return page.table(cells, [title, *(run.label for run in runs)]) if cells else ""


def _text(name, value, title):
    return format_value(name, value) if title == "figure" else str(value)


def _paired_table(rows):
    cells = [
        {
            "pair": f"{row['run']} \N{MINUS SIGN} {row['baseline']}".replace(" ", NO_BREAK),
            "figure": display_name(row["name"]),
            "difference": format_value(row["name"], row["difference"]),
            "95% interval": " to ".join(format_value(row["name"], row[x]) for x in ("low", "high")),
            "p-value (McNemar)": f"{row['p_value']:.2g}" if "p_value" in row else None,
            "only the first correct": row.get("first_only"),
            "only the second correct": row.get("second_only"),
            "images": row["images"],
        }
        for row in rows
    ]
    if not cells:
        return ""
    columns = [name for name in cells[0] if any(row[name] is not None for row in cells)]
    return page.table(cells, columns)


def _galleries(images, runs, found):
    """Yields a section for each run of a pair, with the images on which it is better."""
    by_label = {run.label: run for run in runs}
    pair = [by_label[images[key]] for key in ("baseline", "run")]
    for run, key in zip(pair, ("baseline_better", "run_better"), strict=True):
        other = next(each for each in pair if each is not run)
        rows = images[key]
        if rows:
            title = f"{run.label} better than {other.label}: {len(rows):,} images"
            yield title, _gallery(rows[:MAX_THUMBNAILS], images["name"], pair, found["digest"])


def _gallery(rows, name, pair, digest):
    captions = [_caption(row, name, pair) for row in rows]
    try:
        pictures = read_thumbnails(pair[0].path, [row["index"] for row in rows], digest)
    except UsageError as error:
        listed = "".join(f"<li>{escape(caption)}</li>" for caption in captions)
        return f"<p>The images cannot be shown: {escape(error)}</p><ul>{listed}</ul>"
    return plots.image_gallery(zip(pictures, captions, strict=True))


def _caption(row, name, pair):
    lines = [row.get("label", ""), row["image"]]
    for run in pair:
        result = row[run.label]
        lines.append(f"{run.label}: {result.get('prediction', format_value(name, result[name]))}")
    return "\n".join(filter(None, lines))


def read_thumbnails(out, indices, digest):
    """Returns images of the test split of a run, uint8 `THUMBNAIL`.

    Args:
        out: The run folder, whose recipe names the data set.
        indices: The indices of the images in the split.
        digest: The digest of the split.

    Raises:
        UsageError: The data set is not there, has changed, or has no such images.
    """
    task = recipes.task_from_recipe(recipes.read_recipe(out / recipes.RECIPE))
    part = splits.train_val_test_split(task.source, *task.slices())[-1]
    found = image_results.DIGEST_PATTERN.fullmatch(data_fingerprint.split_digest(part))
    if not found or found[1] != digest:
        raise UsageError(f"{task.dataset} is not the data set of the results, or has changed")
    wanted = [part.items[index] for index in indices if 0 <= index < len(part)]
    if len(wanted) < len(indices):
        raise UsageError(f"the results are of more images than {task.dataset} has")
    return [image_io.read_image(item, THUMBNAIL, "pad", part.bits) for item in wanted]
