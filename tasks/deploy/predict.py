"""Predict: what is in these pictures?"""

from __future__ import annotations

import glob
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.data import readers
from tasks.deploy import runtimes
from tasks.deploy.classifier import Classifier, open_classifier
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tqdm = LazyModule("tqdm")

BATCHES_AHEAD = 4  # of decoded images that wait for the model at most


def predict(target, images, **options):
    """Names what is in some images: the answers of `stream`, all together in a list."""
    return list(stream(target, images, **options))


def stream(target, images, *, weights=None, **options):
    """Names what is in images, however many, one after the other.

    Args:
        target: what `open_classifier` takes, or a `Classifier`.
        images: what `find` takes.
        weights: a weights file in place of a tag's source.
        **options: what `answer` takes.

    Returns:
        What `answer` returns.

    Raises:
        UsageError: no such model, image or runtime.
    """
    paths = find(images)
    if not isinstance(target, Classifier):
        target = open_classifier(target, weights)
    return answer(target, paths, **options)


def answer(classifier, paths, *, top=5, runtime="auto", precision="float32", progress=False):
    """Names what is in the images of some files, which may vanish meanwhile.

    Files are read by other threads while the model computes, and only a few batches of them are
    in memory at a time.

    Args:
        classifier: a `Classifier`.
        paths: a list of paths of files.
        top: how many classes to give for each; a multi-label model gives those that it holds
            to be true.
        runtime: what computes: `auto`, or one of `runtimes.RUNTIMES`.
        precision: `float32`, or `bfloat16` for OpenVINO on processors that have it.
        progress: whether to show a bar, if standard error is a terminal.

    Returns:
        A generator of one dict per image, in order: `path`, and either `classes`, a list of
        `{"name", "probability"}` with the most likely first, or `error`, why it could not be
        read.

    Raises:
        UsageError: no such runtime; at once, not when the first answer is due.
    """
    choice = runtimes.choose(runtime, precision, len(paths))
    strict = runtime != "auto" or precision != "float32"
    options = {"precision": precision, "count": len(paths), "strict": strict}
    return _answers(classifier, paths, top, progress, choice, options)


def find(images):
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
        path = Path(image)
        if path.is_dir():
            found = _inside(path)
        elif path.exists():
            found = [path]
        elif glob.has_magic(str(image)):
            found = _matches(str(image))
        else:
            raise UsageError(f"no image at {path}")
        if not found:
            raise UsageError(f"no images in {path}" if path.is_dir() else f"no image is {image}")
        paths += found
    return paths


def _inside(folder):
    found = (path for path in folder.rglob("*") if readers.is_image(path) and path.is_file())
    return sorted(
        path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def _matches(pattern):
    found = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True))):
        if path.is_dir() and "**" not in pattern:  # ** has led into folders already
            found += _inside(path)
        elif readers.is_image(path) and path.is_file():
            found.append(path)
    return found


def _answers(classifier, paths, top, progress, choice, options):
    size = runtimes.batch_size(classifier.image_shape)
    run, waiting, pixels = None, [], []

    def answered():
        nonlocal run
        if pixels:
            images = np.stack(pixels)
            run = run or runtimes.start(choice, classifier.model, images, **options)
            rows = iter(classifier.named(run(images), top))
        for answer in waiting:
            yield answer if "error" in answer else {**answer, "classes": next(rows)}
        waiting.clear()
        pixels.clear()

    hide = None if progress else True  # None: on a terminal only
    bar = tqdm.tqdm(total=len(paths), unit="image", leave=False, delay=2, disable=hide)
    with bar:
        for path, image in _decoded(classifier, paths, BATCHES_AHEAD * size):
            bar.update()
            waiting.append({"path": str(path)})
            if isinstance(image, readers.UnreadableImage):
                waiting[-1]["error"] = image.reason
            else:
                pixels.append(image)
            if len(pixels) == size or not pixels:
                yield from answered()
        yield from answered()


def _decoded(classifier, paths, ahead):
    """Yields each path and its pixels, or why it has none, in order; reads ahead so many."""

    def read(path):
        try:
            return readers.image(path, classifier.image_shape, classifier.resize)
        except readers.UnreadableImage as error:
            return error

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        reading = deque()
        for path in paths:
            reading.append((path, pool.submit(read, path)))
            if len(reading) > ahead:
                path, image = reading.popleft()
                yield path, image.result()
        for path, image in reading:
            yield path, image.result()
    finally:  # also when nobody wants the rest
        pool.shutdown(cancel_futures=True)
