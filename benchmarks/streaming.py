"""Trains on images that exceed the limit of `ulimit -v` tenfold, as the kit and as Keras read them.

    python benchmarks/streaming.py [--headroom 128] [--rounds 3] [--folder DIR]

Writes JPEGs of 480 x 360 pixels into class folders, as many as take ten times the headroom once
decoded at 320 pixels. The table has images/s of epochs of `fit` of the same small network, and the
ratios of Keras's time to ours, by wall time and by CPU time; the best round of each:

- `files`: our batches where neither memory nor disk has room, so that each image is read again in
  each epoch; without a limit of memory,
- `Keras`: those of `keras.utils.image_dataset_from_directory`, alternating with these. Ours are
  resized with antialiasing, Keras's are not,
- `antialiased`: Keras's with `tf.image.resize(antialias=True)`,
- `limit`: our batches after the memory that the process may still map has been limited to the
  headroom, in MB. Decoded images fit neither into memory nor into a memory map then, and are read
  from a file on the disk. Keras runs out of memory within this limit.

The last line has the time before the first epoch within the limit: statistics of all images, among
them near duplicates, and decoding.
"""

from __future__ import annotations

import argparse
import io
import itertools
import re
import resource
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from tasks.data import batches, data_splits, decoding, disk_images, sources

SIDE, BATCH = 320, 16
SIZE = 480, 360  # of the files
DATA_RATIO = 10  # the size of the decoded images, relative to the headroom
STATUS = Path("/proc/self/status")


def main():
    """Prints a table of images/s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--headroom", type=int, default=128, help="MB that may still be mapped")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to write the images; a temporary one unless given")
    args = parser.parse_args()
    headroom = args.headroom * 2**20
    count = DATA_RATIO * headroom // (SIDE * SIDE * 3)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        write(few, 4 * BATCH)
        write(many, count)
        model = network()
        for read in (
            zoo_batches(few, memory=0, disk=0),
            keras_batches(few),
            keras_batches(few, antialias=True),
        ):
            model.fit(read(0), verbose=0)
        print(f"{count:,} images, {count * SIDE * SIDE * 3 / 1e6:,.0f} MB decoded", flush=True)
        ways = {
            "files": zoo_batches(many, memory=0, disk=0),
            "Keras": keras_batches(many),
            "antialiased": keras_batches(many, antialias=True),
        }
        seconds = {way: [] for way in ways}
        for number in range(args.rounds):
            for way, read in ways.items():
                seconds[way].append(epoch_seconds(model, read(number)))
                print(f"epoch {number + 1}, {way}: {seconds[way][-1][0]:.1f} s", flush=True)
        del ways
        limit = mapped_bytes() + headroom
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        start = time.perf_counter()
        read = zoo_batches(many)
        before = time.perf_counter() - start
        seconds["limit"] = [epoch_seconds(model, read(number)) for number in range(args.rounds)]
    best = {way: np.min(each, axis=0) for way, each in seconds.items()}
    for way, (time_taken, busy) in best.items():
        rates = count / time_taken, count / busy
        print(f"{way:<11} {rates[0]:6.0f} images/s, {rates[1]:6.0f} per second of CPU time")
    for way, other in itertools.product(("Keras", "antialiased"), ("files", "limit")):
        ratio_wall, ratio_busy = best[way] / best[other]
        print(f"{way} / {other}: time {ratio_wall:.2f}, CPU time {ratio_busy:.2f}")
    print(f"{before:.1f} s before the first epoch within {args.headroom} MB")


def zoo_batches(root, **limits):
    """Returns a function of an epoch that returns its batches."""
    data = data_splits.load(
        sources.load(root),
        ("train", "none", "test"),
        (SIDE, SIDE, 3),
        "stretch",
        decode_split=lambda *args: decoding.decode(*args, **limits),
    )
    kind = decoding.LazyImages if limits else disk_images.DiskImages
    assert isinstance(data.train.pixels, kind)
    return batches.training(data.train, batch_size=BATCH, seed=0, num_classes=2).epoch


def keras_batches(root, *, antialias=False):
    """Returns the same for the data set of Keras."""
    flags = {"batch_size": BATCH, "label_mode": "categorical", "verbose": False}
    size = SIZE[::-1] if antialias else (SIDE, SIDE)
    data = keras.utils.image_dataset_from_directory(root / "train", image_size=size, **flags)
    if antialias:

        def resize(images, labels):
            return tf.image.resize(images, (SIDE, SIDE), antialias=True), labels

        data = data.map(resize, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return lambda number: data


def network():
    """Returns a compiled network that takes little time itself."""
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(8),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    return model


def write(root, count):
    """Writes `count` different JPEGs of two classes for training, and 4 for testing."""
    for number in range(count + 4):
        random = np.random.default_rng(number)
        rough = random.integers(0, 256, (12, 16, 3), "uint8")
        picture = Image.fromarray(rough).resize(SIZE, Image.Resampling.BICUBIC)
        noise = random.integers(0, 24, (SIZE[1], SIZE[0], 3), "uint8")
        file = io.BytesIO()
        Image.fromarray(np.asarray(picture) // 2 + noise).save(file, "JPEG", quality=90)
        split = "train" if number < count else "test"
        path = root / split / "ab"[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())


def mapped_bytes():
    """Returns the address space that this process uses."""
    return int(re.search(r"VmSize:\s+(\d+) kB", STATUS.read_text())[1]) * 1024


def epoch_seconds(model, batches):
    """Returns the wall time and the CPU time of an epoch of training, in seconds."""
    start = np.array([time.perf_counter(), time.process_time()])
    model.fit(batches, verbose=0)
    return np.array([time.perf_counter(), time.process_time()]) - start


if __name__ == "__main__":
    main()
