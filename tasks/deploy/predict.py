"""Predict: what is in these pictures?"""

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
from tasks.inference.predictor import InputImage, PredictOptions, Predictor
from zoo.errors import UsageError
from zoo.lazy import LazyModule

tqdm = LazyModule("tqdm")

PREFETCH_BATCHES = 2  # for each worker, one that it works on and one that waits


def predict(target, images, **options):
    """Says what is in some images: the answers of `stream`, all together in a list."""
    return list(iter_predictions(target, images, **options))


def iter_predictions(target, images, *, weights=None, **options):
    """Says what is in images, however many, one after the other.

    Args:
        target: what `model_loader.load_predictor` takes, or an `Answerer`.
        images: what `find` takes.
        weights: a weights file in place of a tag's source.
        **options: what `answer` takes.

    Returns:
        What `answer` returns.

    Raises:
        UsageError: no such model, image or runtime.
    """
    paths = find_images(images)
    if not isinstance(target, Predictor):
        target = model_loader.load_predictor(target, weights)
    return predict_files(target, paths, **options)


def predict_files(
    answerer, paths, *, runtime="auto", precision="float32", progress=False, **wanted
):
    """Says what is in the images of some files, which may vanish meanwhile.

    Several threads each read a batch of files and answer it, and only a few batches are in memory
    at a time.

    Args:
        answerer: an `Answerer`.
        paths: a list of paths of files.
        runtime: what computes: `auto`, or one of `runtimes.RUNTIMES`.
        precision: `float32`, or `bfloat16` for OpenVINO on processors that have it.
        progress: whether to show a bar, if standard error is a terminal.
        **wanted: of each image: the attributes of `Wanted`, such as `top`.

    Returns:
        A generator of one dict per image, in order: `path`, and either what the answerer says,
        such as `classes`, a list of `{"name", "probability"}` with the most likely first, or
        `error`, why it could not be read.

    Raises:
        UsageError: no such runtime, or one that cannot compute the model; at once, not when the
            first answer is due.
    """
    if answerer.keras_only and (runtime not in ("auto", "keras") or precision != "float32"):
        asked = f"--runtime {runtime} --precision {precision}"
        raise UsageError(f"{answerer.name} is computed by Keras alone; leave out {asked}")
    choice = runtimes.choose_runtime(runtime, precision, len(paths))
    strict = runtime != "auto" or precision != "float32"
    options = {"precision": precision, "count": len(paths), "strict": strict}
    return _predict_in_batches(answerer, paths, PredictOptions(**wanted), progress, choice, options)


def find_images(images):
    """Returns the paths of images, those of a folder or pattern in order of name.

    Args:
        images: paths of files; of folders, for all images in them at any depth; patterns such
            as `photos/**/*.jpg`. What is hidden or by its suffix no image is passed over in
            folders and patterns, and what is given twice is there twice.

    Raises:
        UsageError: a path or pattern leads to no image.
    """
    paths = []
    for image in images:
        if not isinstance(image, str | os.PathLike):
            raise UsageError(f"an image is named by its path, not by {image!r:.100}")
        path = Path(image)
        if path.is_dir():
            found = _images_in(path)
        elif path.exists():
            found = [path]
        elif glob.has_magic(str(image)):
            found = _glob_images(str(image))
        else:
            raise UsageError(f"no image at {path}")
        if not found:
            raise UsageError(f"no images in {path}" if path.is_dir() else f"no image is {image}")
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
        if path.is_dir() and "**" not in pattern:  # ** has led into folders already
            found += _images_in(path)
        elif image_io.is_image(path) and path.is_file():
            found.append(path)
    return found


def _predict_in_batches(answerer, paths, wanted, progress, choice, options):
    size = runtimes.batch_size(answerer.image_shape, len(paths))
    files = list(zip(paths, _output_stems(paths, wanted.pictures), strict=True))
    parts = iter([files[start : start + size] for start in range(0, len(files), size)])
    hide = None if progress else True  # None: on a terminal only
    with tqdm.tqdm(total=len(paths), unit="image", leave=False, delay=2, disable=hide) as bar:
        for answers in _predict_ahead(
            answerer, parts, wanted, partial(_start_runtime, choice, size, options)
        ):
            for found in answers:
                bar.update()
                yield found


def _output_stems(paths, drawn):
    """Returns for each path what drawn answers are called: the path from where all paths part, less
    its suffix where no other path differs by that alone; nothing where none are drawn."""
    if not drawn:
        return [""] * len(paths)
    whole = [Path(os.path.abspath(path)) for path in paths]
    top = os.path.commonpath([path.parent for path in whole])
    counts = Counter(path.with_suffix("") for path in set(whole))
    return [
        str((path if counts[short] > 1 or short in whole else short).relative_to(top))
        for path, short in ((path, path.with_suffix("")) for path in whole)
    ]


def _start_runtime(choice, size, options, model, images):
    return runtimes.create_predict_function(choice, model, images, size=size, **options)


def _predict_ahead(answerer, parts, wanted, start):
    """Yields the answers to each part of the files, in order; works ahead on a few parts."""
    run = None
    for files in parts:  # until there is an image to start with
        answers, photos = _read_batch(answerer, files)
        if photos:
            run = answerer.prepared(photos, start)
        yield _predict_batch(answerer, answers, photos, wanted, run)
        if run:
            break
    pool = ThreadPoolExecutor(threads.num_workers())

    def work(files):
        return _predict_batch(answerer, *_read_batch(answerer, files), wanted, run)

    try:
        working = deque()
        for files in parts:
            working.append(pool.submit(work, files))
            if len(working) > PREFETCH_BATCHES * threads.num_workers():
                yield working.popleft().result()
        while working:
            yield working.popleft().result()
    finally:  # also when nobody wants the rest
        pool.shutdown(cancel_futures=True)


def _read_batch(answerer, files):
    """Returns an answer to each path, as far as it is known, and the images that can be read."""
    answers, photos = [], []
    for path, stem in files:
        answers.append({"path": str(path)})
        try:
            pixels = image_io.read_image(path, answerer.image_shape, answerer.resize, answerer.bits)
        except image_io.UnreadableImage as error:
            answers[-1]["error"] = error.reason
        else:
            photos.append(InputImage(path, pixels, stem))
    return answers, photos


def _predict_batch(answerer, answers, photos, wanted, run):
    """Returns answers with what is said of those images that could be read."""
    rows = iter(answerer.answers(photos, run, wanted) if photos else ())
    return [found if "error" in found else {**found, **next(rows)} for found in answers]
