"""Training on a frozen backbone: benchmarks/frozen_features.py --weights resnet50.imagenet=FILE

The stock recipe of tutorials (a frozen network of keras.applications with `include_top=False`, its
`preprocess_input`, a dense layer, `fit`) compared with `zoo finetune MODEL --plan probe`: the same
images, weights, batch size, epochs and optimizer, end to end after the imports. The stock recipe
gets decoded, resized images in memory; the time of the zoo includes reading, checking, resizing,
features, training, validation, saving the model and writing the report. The feature cache of the
zoo is empty at first.

Images are the first of CIFAR-10's training split (`tfds:cifar10`) at 160 pixels, and 500 others
of it for validation. Weights are those of Keras, from `--weights MODEL=FILE` or downloaded.

Measured on 2 cores of an AMD EPYC with avx512_bf16, TensorFlow 2.21, Keras 3.15.1, OpenVINO (its
features are bfloat16 for ResNet50); accuracy is that of the last epoch on the validation images:

    model                   images epochs  stock s  zoo s  times   stock acc.  zoo acc.
    resnet50.imagenet         4000      1     69.0   35.1    2.0        0.862     0.846
    resnet50.imagenet         4000      3    223.0   33.8    6.6        0.898     0.898
    resnet50.imagenet         4000     10    713.8   32.6   21.9        0.906     0.906
    resnet50.imagenet         1000      1     28.0   19.7    1.4        0.768     0.750
    resnet50.imagenet         1000      3     70.9   17.3    4.1        0.822     0.820
    resnet50.imagenet         1000     10    301.3   19.8   15.2        0.830     0.832
    mobilenet_025.imagenet    4000      1      8.7    7.6    1.1        0.562     0.586
    mobilenet_025.imagenet    4000      3     16.0    6.6    2.4        0.696     0.732
    mobilenet_025.imagenet    4000     10     42.1    7.3    5.8        0.766     0.786
    mobilenet_025.imagenet    1000      1      3.7    7.4    0.5        0.212     0.230
    mobilenet_025.imagenet    1000      3      6.2    4.9    1.3        0.470     0.464
    mobilenet_025.imagenet    1000     10     15.6    5.3    2.9        0.662     0.624

Other runs gave 5.5, 6.2, 6.3 and 7.2 for MobileNet with 4,000 images and 10 epochs. The zoo drops
the last incomplete batch, other images each epoch: one step of 32 less with 1,000 images.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tasks
import zoo
from tasks.data import decoding, sources, splits
from tasks.engine import trainer

with contextlib.suppress(ImportError):
    import openvino  # noqa: F401  an import as the others: the zoo takes it where it is there

STOCK = {  # model: keras.applications' constructor and its preprocessing
    "resnet50.imagenet": (keras.applications.ResNet50, keras.applications.resnet.preprocess_input),
    "mobilenet_025.imagenet": (
        lambda **options: keras.applications.MobileNet(alpha=0.25, **options),
        keras.applications.mobilenet.preprocess_input,
    ),
}
VALIDATION = 500
EPOCHS = (1, 3, 10)
RATE = 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=list(STOCK), default=list(STOCK))
    parser.add_argument("--weights", action="append", default=[], metavar="MODEL=FILE")
    parser.add_argument("--data-dir", default="", help="where TFDS keeps cifar10")
    parser.add_argument("--images", nargs="*", type=int, default=[4000, 1000])
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--epochs", nargs="*", type=int, default=list(EPOCHS))
    args = parser.parse_args()
    files = dict(text.split("=", 1) for text in args.weights)
    print("model                   images epochs  stock s  zoo s  times   stock acc.  zoo acc.")
    for name in args.models:
        for images in args.images:
            results = {epochs: ours(name, images, epochs, files, args) for epochs in args.epochs}
            stock = plain(name, images, max(args.epochs), files, args)
            for epochs in args.epochs:
                (theirs, theirs_right), (mine, right) = stock[epochs - 1], results[epochs]
                print(
                    f"{name:<23} {images:>6} {epochs:>6} {theirs:>8.1f} {mine:>6.1f} "
                    f"{theirs / mine:>6.1f} {theirs_right:>12.3f} {right:>9.3f}",
                    flush=True,
                )


def task(name, images, epochs, files, args):
    """Returns the zoo's task."""
    return tasks.get("classification")(
        model=name,
        weights=files.get(name, ""),
        dataset="tfds:cifar10",
        data_dir=args.data_dir,
        train_split=f"train[:{images}]",
        validation_split=f"train[{images}:{images + VALIDATION}]",
        test_split="test[:100]",
        image_size=args.image_size,
        plan="probe",
        epochs=epochs,
        learning_rate=RATE,
        schedule="constant",
        optimizer="adam",
        weight_decay=0.0,
    )


def ours(name, images, epochs, files, args):
    """Returns the total seconds of a run of the zoo, and its last validation accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_HOME"] = str(Path(folder) / "home")
        started = time.perf_counter()
        trainer.train(task(name, images, epochs, files, args), Path(folder) / "run")
        seconds = time.perf_counter() - started
        with open(Path(folder) / "run" / "history.csv") as file:
            *_, last = csv.DictReader(file)
    return seconds, float(last["val_accuracy"])


def plain(name, images, epochs, files, args):
    """Returns the seconds until the end of each epoch of the stock recipe, and its accuracy."""
    train, validation = arrays(name, images, files, args)
    size = (args.image_size, args.image_size, 3)
    make, preprocess = STOCK[name]
    weights = headless(make, files[name], size) if name in files else "imagenet"
    started = time.perf_counter()
    base = make(weights=weights, include_top=False, input_shape=size)
    base.trainable = False
    inputs = keras.Input(size)
    x = base(preprocess(keras.ops.cast(inputs, "float32")), training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    seconds = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - started)
    )
    batched = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train[1])).batch(32)
    found = model.fit(
        batched.prefetch(tf.data.AUTOTUNE),
        validation_data=tf.data.Dataset.from_tensor_slices(validation).batch(32),
        epochs=epochs,
        callbacks=[clock],
        verbose=0,
    )
    return list(zip(seconds, found.history["val_accuracy"], strict=True))


def headless(make, path, size):
    """Returns a file with the weights of a network without its head."""
    network = make(weights=None, input_shape=(224, 224, 3))
    network.load_weights(path)
    base = make(weights=None, include_top=False, input_shape=size)
    for layer in base.layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    found = Path(tempfile.mkdtemp()) / "notop.weights.h5"
    base.save_weights(found)
    return found


def arrays(name, images, files, args):
    """Returns resized training and validation images and labels, in memory."""
    wanted = task(name, images, 1, files, args)
    source = sources.load(wanted.dataset, wanted.data_dir or None)
    names = (wanted.train_split, wanted.validation_split, wanted.test_split)
    train, validation, _ = splits.train_val_test_split(source, *names)
    shape = (args.image_size, args.image_size, 3)
    found = [decoding.decode(part, shape, "stretch") for part in (train, validation)]
    return [(np.asarray(each.pixels), np.asarray(each.labels)) for each in found]


if __name__ == "__main__":
    assert zoo.names()
    main()
