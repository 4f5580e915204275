"""Predicts on many images, with several threads and little memory."""

from __future__ import annotations

import glob
import os
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tasks.data import class_folders, image_io
from tasks.deploy import model_loader
from tasks.inference import runtimes, threads
from tasks.inference.predictor import PredictOptions, Predictor
from zoo.errors import UsageError
from zoo.lazy import LazyModule

pages = LazyModule("tasks.data.pages")
tqdm = LazyModule("tqdm")

PREFETCH_BATCHES = 2  # per worker: one in progress, one waiting


def predict(target, images, **options):
    """Returns the predictions of `iter_predictions` as a list."""
    return list(iter_predictions(target, images, **options))


def iter_predictions(target, images, *, weights=None, **options):
    """Returns a generator of predictions for any number of images.

    Args:
        target: a run folder, a `.keras` or exported file, the name of a pretrained model, or a
            `Predictor`.
        images: paths of files or folders, or patterns, as for `find_images`.
        weights: a weights file to load instead of the published weights of a pretrained model.
        **options: keyword arguments of `predict_files`.

    Returns:
        A generator of one dict per image, as `predict_files` yields them.

    Raises:
        UsageError: there is no such model, image or runtime.
    """
    paths = find_inputs(target, images)
    if not isinstance(target, Predictor):
        target = model_loader.load_predictor(target, weights)
    return predict_files(target, paths, **options)


def predict_files(
    predictor, paths, *, runtime="auto", precision="float32", progress=False, **options
):
    """Returns a generator of predictions for image files.

    Several threads each read a batch of files and predict on it. Only a few batches are in memory
    at a time. A file that disappears meanwhile is reported as unreadable.

    Args:
        predictor: a `Predictor`.
        paths: a list of paths of image files.
        runtime: the inference runtime: `auto`, or one of `runtimes.RUNTIMES`.
        precision: `float32`, or `bfloat16` for OpenVINO on processors that support it.
        progress: whether to show a progress bar if standard error is a terminal.
        **options: the attributes of `PredictOptions`, such as `top`.

    Returns:
        A generator of one dict per image, in order. It has `path`, and either the prediction, such
        as `classes`, a list of `{"name", "probability"}` sorted by descending probability, or
        `error`, the reason why the image could not be read.

    Raises:
        UsageError: there is no such runtime, or it cannot run the model. Raised by the call, not
            by the first iteration.
    """
    if predictor.is_exported:
        _check_exported(predictor.name, runtime, precision)
        size = runtimes.batch_size(predictor.image_shape, len(paths), on_cpu=True)
        start = _run_exported
    else:
        size = runtimes.batch_size(predictor.image_shape, len(paths))
        start = _runtime_starter(predictor, runtime, precision, len(paths), size)
    return _predict_in_batches(predictor, paths, PredictOptions(**options), progress, size, start)


def _check_exported(name, runtime, precision):
    if runtime != "auto" or precision != "float32":
        flags = f"--runtime {runtime} --precision {precision}"
        raise UsageError(f"{name} runs in the runtime of its format; leave out {flags}")


def _run_exported(model, images):
    return model


def _runtime_starter(predictor, runtime, precision, count, size):
    """Returns the `start` function of `Predictor.prepare`."""
    if predictor.keras_only and (runtime not in ("auto", "keras") or precision != "float32"):
        flags = f"--runtime {runtime} --precision {precision}"
        raise UsageError(f"{predictor.name} runs in Keras only; leave out {flags}")
    choice = runtimes.choose_runtime(runtime, precision, count)
    strict = runtime != "auto" or precision != "float32"
    options = {"size": size, "precision": precision, "count": count, "strict": strict}
    return partial(_start_runtime, choice, options)


def find_inputs(target, words):
    """Returns the inputs for a model that are named, by default paths of images.

    Args:
        target: a `Predictor`, or as in `iter_predictions`; the model is not loaded.
        words: as for `find_images`; a model of text also takes text itself.

    Raises:
        UsageError: there is no such model or input.
    """
    if isinstance(target, Predictor):
        return getattr(target, "find_inputs", find_images)(words)
    find, *about = model_loader.input_finder(target) or (find_images,)
    return find(words, *about)


def find_images(images):
    """Returns the paths of image files; those of a folder or pattern are sorted by name.

    Args:
        images: paths of files; of folders, which are searched recursively; or patterns such as
            `photos/**/*.jpg`. Folders and patterns skip hidden files and files without the
            suffix of an image. A path that is given twice is returned twice.

    Raises:
        UsageError: a path or pattern matches no image.
    """
    paths = []
    for image in images:
        if not isinstance(image, str | os.PathLike):
            raise UsageError(f"expected the path of an image, got {image!r:.100}")
        path = Path(image)
        if path.is_dir():
            found = _images_in(path)
        elif pages.file_of(path).exists():
            found = [path]
        elif glob.has_magic(str(image)):
            found = _glob_images(str(image))
        else:
            raise UsageError(f"image {path} does not exist")
        if not found:
            raise UsageError(
                f"no images in {path}" if path.is_dir() else f"no image matches {image}"
            )
        paths += found
    return paths


def _images_in(folder):
    return sorted(
        path
        for path in class_folders.iter_files(folder)
        if image_io.is_image(path) and path.is_file()
    )


def _glob_images(pattern):
    found = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True))):
        if path.is_dir() and "**" not in pattern:  # ** already matches files inside folders
            found += _images_in(path)
        elif image_io.is_image(path) and path.is_file():
            found.append(path)
    return found


def _predict_in_batches(predictor, paths, options, progress, size, start):
    files = list(zip(paths, output_stems(paths, options.drawings_dir), strict=True))
    parts = iter([files[first : first + size] for first in range(0, len(files), size)])
    disable = None if progress else True  # None: show the bar on a terminal only
    with tqdm.tqdm(
        total=len(paths), unit=predictor.noun, leave=False, delay=2, disable=disable
    ) as bar:
        for predictions in _predict_ahead(predictor, parts, options, start):
            for prediction in predictions:
                bar.update()
                yield prediction


def output_stems(paths, drawn):
    """Returns a unique stem for the drawings of each path, or empty strings if none are drawn.

    The stem is the path relative to the common parent folder, without the suffix unless another
    path differs in its suffix only.
    """
    if not drawn:
        return [""] * len(paths)
    absolute = [Path(os.path.abspath(path)) for path in paths]
    top = os.path.commonpath([path.parent for path in absolute])
    counts = Counter(path.with_suffix("") for path in set(absolute))
    return [
        str((path if counts[stem] > 1 or stem in absolute else stem).relative_to(top))
        for path, stem in ((path, path.with_suffix("")) for path in absolute)
    ]


def _start_runtime(choice, options, model, images):
    return runtimes.create_predict_function(choice, model, images, **options)


def _predict_ahead(predictor, parts, options, start):
    """Yields the predictions of each batch of files, in order; a few batches run ahead."""
    run = None
    for files in parts:  # until the first image that can be decoded
        records, images = _read_batch(predictor, files)
        if images:
            run = predictor.prepare(images, start)
        yield _predict_batch(predictor, records, images, options, run)
        if run:
            break
    pool = ThreadPoolExecutor(threads.num_workers())

    def work(files):
        return _predict_batch(predictor, *_read_batch(predictor, files), options, run)

    try:
        working = deque()
        for files in parts:
            working.append(pool.submit(work, files))
            if len(working) > PREFETCH_BATCHES * threads.num_workers():
                yield working.popleft().result()
        while working:
            yield working.popleft().result()
    finally:  # also when the generator is closed early
        pool.shutdown(cancel_futures=True)


def _read_batch(predictor, files):
    """Returns one record per file, with `path` and perhaps `error`, and the decoded images."""
    records, images = [], []
    for path, stem in files:
        records.append({"path": str(path)})
        try:
            images.append(predictor.read(path, stem))
        except image_io.UnreadableImage as error:
            records[-1]["error"] = error.reason
    return records, images


def _predict_batch(predictor, records, images, options, run):
    """Returns the records of a batch, with the predictions for the images that were decoded."""
    rows = iter(predictor.predict(images, run, options) if images else ())
    return [record if "error" in record else {**record, **next(rows)} for record in records]
