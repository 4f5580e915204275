"""Predict: what is in these pictures?"""

from __future__ import annotations

import glob
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tasks.data import folders, readers
from tasks.deploy.classifier import Classifier, open_classifier
from tasks.engine import runtimes, workers
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

tqdm = LazyModule("tqdm")

PARTS_AHEAD = 2  # for each worker, one that it works on and one that waits


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

    Several threads each read a batch of files and answer it, and only a few batches are in memory
    at a time.

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
    return sorted(
        path for path in folders.files(folder) if readers.is_image(path) and path.is_file()
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
    size = runtimes.batch_size(classifier.image_shape, len(paths))
    parts = iter([paths[start : start + size] for start in range(0, len(paths), size)])
    hide = None if progress else True  # None: on a terminal only
    with tqdm.tqdm(total=len(paths), unit="image", leave=False, delay=2, disable=hide) as bar:
        for answers in _batches(classifier, parts, top, partial(_start, choice, size, options)):
            for found in answers:
                bar.update()
                yield found


def _start(choice, size, options, model, images):
    return runtimes.start(choice, model, images, size=size, **options)


def _batches(classifier, parts, top, start):
    """Yields the answers to each part of the paths, in order; works ahead on a few parts."""
    run = None
    for paths in parts:  # until there is an image to start with
        answers, images = _read(classifier, paths)
        if images:
            run = start(classifier.model, np.stack(images))
        yield _named(classifier, answers, images, top, run)
        if run:
            break
    pool = ThreadPoolExecutor(workers.count())

    def work(paths):
        return _named(classifier, *_read(classifier, paths), top, run)

    try:
        working = deque()
        for paths in parts:
            working.append(pool.submit(work, paths))
            if len(working) > PARTS_AHEAD * workers.count():
                yield working.popleft().result()
        while working:
            yield working.popleft().result()
    finally:  # also when nobody wants the rest
        pool.shutdown(cancel_futures=True)


def _read(classifier, paths):
    """Returns an answer to each path, as far as it is known, and the images that can be read."""
    answers, images = [], []
    for path in paths:
        answers.append({"path": str(path)})
        try:
            images.append(readers.image(path, classifier.image_shape, classifier.resize))
        except readers.UnreadableImage as error:
            answers[-1]["error"] = error.reason
    return answers, images


def _named(classifier, answers, images, top, run):
    """Returns answers with the classes of those images that could be read."""
    rows = iter(classifier.named(run(np.stack(images)), top) if images else ())
    return [found if "error" in found else {**found, "classes": next(rows)} for found in answers]
