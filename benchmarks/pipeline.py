"""Compares the data pipeline with `keras.utils.image_dataset_from_directory` on photographs.

    python benchmarks/pipeline.py [--count 1000] [--photos DIR] [--folder DIR]

Writes JPEGs of 2, 5 and 12 megapixels, a third of `--count` each, into class folders, one size
after the other (at most 1 GB for 1,000), and reads them to batches of 32 at 224 pixels, both ways
alternating. The images are noise with the spectrum of photographs, or the photographs in
`--photos`, upsampled; a few are encoded at each size and copied.

The first pass decodes: ours once per run, with decoded images kept in memory; Keras in every epoch,
unless `cache()` is called. The table has images/s, and the ratio of Keras's time to ours, by wall
time and by CPU time, which is less sensitive to other processes. Each is the best of 3 rounds.

Keras downsamples without antialiasing; we antialias. Most of the time of both is the entropy
decoding of JPEG, which no decoder can skip: of 8 ms of CPU time for 2 megapixels, 6 remain if the
image is decoded at an eighth of its size. So the first pass can gain little; all later ones do.

Measured on 2 cores of an AMD EPYC with AVX-512, TensorFlow 2.21, Keras 3.15.1, ratios of wall time:
in the first pass 1.10 for 2 megapixels, 1.02 for 5 and 1.37 for 12 (with `--count 240` 1.11, 1.15
and 1.38); in later epochs 85, 115 and 208.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from tasks.data import batches, decoding, image_io, sources

SIZES = {2: (1600, 1200), 5: (2592, 1944), 12: (4000, 3000)}  # megapixels: width and height
NUM_SOURCE_IMAGES = 8  # different images per size; the others are copies
QUALITY = 90  # of the JPEGs
SIDE, BATCH, ROUNDS = 224, 32, 3
HEADER = """\
                                         first pass                         later epoch
                        images/s       Keras / ours         images/s       Keras / ours
                    ours   Keras    time processors     ours   Keras    time processors"""
SLOPE, SPREAD = 1.2, 55  # of the spectrum, by frequency; of the levels about the middle gray


def main():
    """Prints a table of images/s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="images of all sizes together")
    parser.add_argument("--photos", help="a folder of photographs to enlarge, in place of noise")
    parser.add_argument("--folder", help="where to write the images; a temporary one unless given")
    args = parser.parse_args()
    images = list(source_images(args.photos))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        print(HEADER)
        for megapixels, size in SIZES.items():
            root = Path(folder, str(megapixels))
            count = max(2 * NUM_SOURCE_IMAGES, args.count // len(SIZES))
            kilobytes = write(root, size, count, images)
            # Way, pass, clock: the shortest of all rounds.
            rounds = [
                [epoch_times(batched, root) for batched in (zoo_batches, keras_batches)]
                for _ in range(ROUNDS)
            ]
            seconds = np.min(rounds, axis=0)
            cells = [f"{megapixels:3} MP {kilobytes:5.0f} kB"]
            for (one, one_busy), (other, other_busy) in zip(*seconds, strict=True):
                rates = f"{count / one:9.0f} {count / other:7.0f} {other / one:7.2f}"
                cells.append(f"{rates} {other_busy / one_busy:10.2f}")
            print("".join(cells), flush=True)
            shutil.rmtree(root)


def epoch_times(batched, root):
    """Returns the seconds of the first pass and of a later one, as wall time and CPU time."""
    passes, start = [], times()
    for epoch in batched(root):
        for _ in epoch:
            pass
        passes.append(times() - start)
        start = times()
    return passes


def times():
    """Returns the wall time and the CPU time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def zoo_batches(root):
    """Yields two epochs of batches."""
    examples = decoding.decode(sources.load(root).splits["all"], (SIDE, SIDE, 3), "stretch")
    stream = batches.training(examples, batch_size=BATCH, seed=0, num_classes=2)
    for number in range(2):
        yield stream.epoch(number)


def keras_batches(root):
    """Yields the same batches from the data set of Keras."""
    size = {"image_size": (SIDE, SIDE), "batch_size": BATCH, "label_mode": "categorical"}
    data = keras.utils.image_dataset_from_directory(root, **size, verbose=False)
    for _ in range(2):
        yield data


def write(root, size, count, images):
    """Writes `count` JPEGs into two class folders; returns their mean size in kB."""
    encoded = [encode(image.resize(size, Image.Resampling.BICUBIC)) for image in images]
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[number // 2 % len(encoded)])
    return np.mean([len(data) for data in encoded]) / 1000


def source_images(photos):
    """Yields the source images."""
    paths = sorted(filter(image_io.is_image, Path(photos).iterdir())) if photos else ()
    for number in range(len(paths) or NUM_SOURCE_IMAGES):
        yield Image.fromarray(image_io.read_image(paths[number])) if paths else noise(number)


def noise(seed, height=1500, width=2000):
    """Returns an image of colored noise with the spectrum of a photograph."""
    random = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    falling = 1 / np.maximum(np.hypot(down, across), 1 / width) ** SLOPE
    layers = []
    for _ in range(3):
        white = np.fft.rfft2(random.standard_normal((height, width)))
        layer = np.fft.irfft2(white * falling, (height, width))
        layers.append((layer - layer.mean()) / layer.std())
    # Channels of a photograph are mostly alike.
    bands = [128 + SPREAD * (0.8 * layers[0] + 0.2 * layer) for layer in layers]
    return Image.fromarray(np.stack(bands, -1).clip(0, 255).astype("uint8"))


def encode(image):
    """Returns an image encoded as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    main()
