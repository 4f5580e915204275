"""Makes `zoo/assets/fashion_sample.npz`: 5,000 images of Fashion-MNIST that ship with the package.

    python benchmarks/make_fashion_sample.py --data-dir DIR --to zoo/assets/fashion_sample.npz

DIR is the folder of the TFDS data set `fashion_mnist`, downloaded if absent. Per class, 400 images
of the official training split and 100 of the official test split are selected, those with the
smallest hash of their pixels under a fixed seed, so that the selection depends on no random number
generator and no order of files. They are ordered in rounds of one image per class, so that slices
are balanced. The file takes 2.2 MB; as a sheet of lossless WebP it would take 1.9 MB and need a
decoder.
"""

from __future__ import annotations

import argparse
import hashlib

import numpy as np
import tensorflow_datasets as tfds

KEPT = {"train": 400, "test": 100}  # of each class
SEED = b"fashion_sample 1"


def main():
    """Writes the file and prints the hash of what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where TFDS keeps fashion_mnist")
    parser.add_argument("--to", required=True, help="the file to write, .npz")
    args = parser.parse_args()
    builder = tfds.builder("fashion_mnist", data_dir=args.data_dir)
    builder.download_and_prepare()
    arrays = {"classes": np.array(builder.info.features["label"].names)}
    for split, kept in KEPT.items():
        images, labels = read(builder, split)
        chosen = choose(images, labels, kept)
        arrays[f"{split}_images"] = images[chosen]
        arrays[f"{split}_labels"] = labels[chosen]
    np.savez_compressed(args.to, **arrays)
    for name, array in arrays.items():
        print(name, array.shape, array.dtype, hashlib.sha256(array.tobytes()).hexdigest())


def read(builder, split):
    """Returns a split's images, uint8 `(examples, 28, 28)`, and labels, uint8 `(examples,)`."""
    batches = list(builder.as_dataset(split=split).batch(1000).as_numpy_iterator())
    images = np.concatenate([batch["image"] for batch in batches])[..., 0]
    return images, np.concatenate([batch["label"] for batch in batches]).astype("uint8")


def choose(images, labels, kept):
    """Returns the indices of `kept` images per class, in rounds of one image per class."""
    keys = [hashlib.blake2b(image.tobytes(), key=SEED).digest() for image in images]
    ranked = sorted(range(len(keys)), key=keys.__getitem__)
    by_class = [[i for i in ranked if labels[i] == label][:kept] for label in np.unique(labels)]
    return [i for turn in zip(*by_class, strict=True) for i in sorted(turn, key=keys.__getitem__)]


if __name__ == "__main__":
    main()
