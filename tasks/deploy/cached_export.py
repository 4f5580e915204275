"""Makes the export that `zoo predict --runtime auto` keeps in a run folder."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import tasks
from tasks.data import image_io, image_stats
from tasks.engine import resume
from tasks.inference import export_cache, runtimes
from zoo import model_files
from zoo.errors import UsageError, raised_by_project
from zoo.lazy import np

NUM_IMAGES = 8  # compared with Keras
MIN_IMAGES = runtimes.RUNTIMES["openvino"].min_images  # of a first use that pays for an export

log = logging.getLogger("zoo")


def export_model(model, about, name):
    """Returns the `ExportModel` of a model.

    Args:
        model: the `keras.Model`.
        about: the metadata of its file.
        name: its name in messages.

    Raises:
        UsageError: its task exports none.
    """
    task_name = about.get("task", "classification")
    if task_name not in tasks.names():
        raise UsageError(f"{name} was trained for the unknown task {task_name!r}")
    exporter = tasks.get(task_name).exporter
    if exporter is None:
        able = ", ".join(each for each in tasks.names() if tasks.get(each).exporter)
        raise UsageError(f"{name} is a model of {task_name}, which has no export; {able} have one")
    exported = exporter.export_model(model, about, name)
    if "image_bits" in about:
        exported.metadata["image_bits"] = about["image_bits"]
    return exported


def store(run, paths):
    """Exports the model of a run for later predictions, if that is worth its time.

    It is for many images, or after the second use. It needs OpenVINO, no GPU, and a model that
    computes in float32. What fails is recorded, and not tried again for this model.

    Args:
        run: the run folder; for another target nothing is done.
        paths: paths of the images of the last predictions.

    Returns:
        Whether an export was made.
    """
    if not Path(run).is_dir():
        return False
    path = Path(run) / resume.MODEL
    try:
        state = export_cache.state(path)
        if state in (export_cache.READY, export_cache.REFUSED):
            return False
        if state != export_cache.USED and len(paths) < MIN_IMAGES:
            export_cache.mark_used(path)
            return False
        if runtimes.choose_runtime("auto", "float32", MIN_IMAGES) != "openvino":
            return False
        reasons = _write(path, paths)
    except (OSError, UsageError) as error:  # such as a folder that cannot be written to
        reasons = [str(error)]
    if reasons:
        log.info("no export of %s is kept: %s", path, reasons[0])
    return not reasons


def _write(path, paths):
    """Returns the reasons why there is no export; empty if there is one."""
    model, about = model_files.load(path)
    try:
        if runtimes.is_low_precision(model):
            raise UsageError("it does not compute in float32")
        exported = export_model(model, about, str(path))
        return export_cache.write(path, exported, _read_images(paths, exported, about, path))
    except OSError:
        raise
    except Exception as error:  # a converter may raise anything
        if raised_by_project(error) and not isinstance(error, UsageError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        export_cache.refuse(path, reason)
        return [reason]


def _read_images(paths, exported, about, name):
    """Returns the first of the images that can be read, uint8."""
    bits, images = image_stats.stated_bits(about, name), []
    resize = exported.metadata.get("resize", "stretch")
    for path in paths:
        with suppress(image_io.UnreadableImage):
            images.append(image_io.read_image(path, exported.sample_shape, resize, bits))
        if len(images) == NUM_IMAGES:
            break
    if not images:
        raise FileNotFoundError("the images can no longer be read")
    return np.stack(images)
