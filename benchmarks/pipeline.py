"""How fast photographs become batches, beside `keras.utils.image_dataset_from_directory`.

    python benchmarks/pipeline.py [--count 1000] [--photos DIR] [--folder DIR]

Writes JPEGs of 2, 5 and 12 megapixels, a third of `--count` each, into class folders (about 1.9 GB
of them for 1,000) and reads every size to batches of 32 at 224 x 224, both ways in turn. The
pictures are noise whose spectrum falls as that of photographs does, or the photographs in
`--photos`, enlarged; a few are encoded at each size and copied.

`first` is reading: for us once in a run, decoded images then stay in memory; for Keras in every
epoch, unless `cache()` is called. `later` is an epoch after that. Keras does not antialias when it
makes an image smaller; we do. Most of the time either way is the entropy coding of JPEG, which no
decoder can skip: of the 30 ms that an image of 12 megapixels takes us, 24 remain if it is decoded
at an eighth.

Expected ratios, Keras's time / ours, from the fastest of 3 rounds on 2 cores of an AMD EPYC with
AVX-512, TensorFlow 2.21, Keras 3.15, Pillow 13:

EXPECTED
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

from tasks.data import batches, readers, sources

SIZES = {2: (1600, 1200), 5: (2592, 1944), 12: (4000, 3000)}  # megapixels: width and height
KINDS = 8  # different pictures of a size; the rest are copies
QUALITY = 90  # of the JPEGs
SIDE, BATCH, ROUNDS = 224, 32, 3
SLOPE, SPREAD = 1.2, 55  # of the spectrum, by frequency; of the levels about the middle grey


def main():
    """Prints a table of images/s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="images of all sizes together")
    parser.add_argument("--photos", help="a folder of photographs to enlarge, in place of noise")
    parser.add_argument("--folder", help="where to write the images; a temporary one unless given")
    args = parser.parse_args()
    pictures = list(kinds(args.photos))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        print("megapixels  kB  first: ours, Keras, ratio  later: ours, Keras, ratio  (images/s)")
        for megapixels, size in SIZES.items():
            root = Path(folder, str(megapixels))
            kilobytes = write(root, size, max(2 * KINDS, args.count // len(SIZES)), pictures)
            rounds = [(ours(root), theirs(root)) for _ in range(ROUNDS)]
            cells = [
                f"{one:10.0f} {other:6.0f} {one / other:6.2f}"
                for one, other in np.max(rounds, axis=0).T
            ]
            print(f"{megapixels:10} {kilobytes:5.0f} {'  '.join(cells)}", flush=True)
            shutil.rmtree(root)


def ours(root):
    """Returns the images/s of the first pass and of a later one."""
    start = time.perf_counter()
    examples = batches.decode(sources.load(root).splits["all"], (SIDE, SIDE, 3), "stretch")
    stream = batches.training(examples, batch_size=BATCH, seed=0, num_classes=2)
    rates = []
    for number in range(2):
        count = sum(len(images) for images, _ in stream.epoch(number))
        rates.append(count / (time.perf_counter() - start))
        start = time.perf_counter()
    return rates


def theirs(root):
    """Returns the same of Keras's own way."""
    start = time.perf_counter()
    data = keras.utils.image_dataset_from_directory(
        root, image_size=(SIDE, SIDE), batch_size=BATCH, label_mode="categorical", verbose=False
    )
    rates = []
    for _ in range(2):
        count = sum(len(images) for images, _ in data)
        rates.append(count / (time.perf_counter() - start))
        start = time.perf_counter()
    return rates


def write(root, size, count, pictures):
    """Writes `count` JPEGs into two class folders; returns their mean size in kB."""
    encoded = [encode(picture.resize(size, Image.Resampling.BICUBIC)) for picture in pictures]
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[number // 2 % len(encoded)])
    return np.mean([len(data) for data in encoded]) / 1000


def kinds(photos):
    """Yields the different pictures."""
    paths = sorted(filter(readers.is_image, Path(photos).iterdir())) if photos else ()
    for number in range(len(paths) or KINDS):
        yield Image.fromarray(readers.image(paths[number])) if paths else noise(number)


def noise(seed, height=1500, width=2000):
    """Returns a picture of coloured clouds, with as much detail as a photograph has."""
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


def encode(picture):
    """Returns a picture as the bytes of a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    main()
