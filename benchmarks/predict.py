"""Compares the speed and the predictions of `zoo predict`, from JPEGs to a CSV file, with Keras.

    python benchmarks/predict.py                                 # needs keras-zoo[export]

Creates 2,000 deterministic JPEGs of 500 x 375 pixels, and writes the top five classes of each into
a CSV file, with MobileNetV2 and ResNet50, by these methods:

- `predict 1`, `8`, `32`: a plain Keras loop of
  `keras.utils.load_img(..., interpolation="bilinear")` and `model.predict` with that batch size;
- `dataset 32`: `keras.utils.image_dataset_from_directory` in batches of 32, and one
  `model.predict` of all;
- `zoo RUNTIME`: `predict.predict_files`, which `zoo predict` runs; `zoo bfloat16` is OpenVINO with
  `--precision bfloat16`, which is not the default because its predictions are rounded;
- `zoo int8`: the same on the model as `zoo export --format openvino --precision int8` writes it,
  calibrated on 300 of the images, which is done before.

Seconds are from the first file to the last row, including compilation, conversion and the
comparison with Keras, without building the model and imports. `cpu ms` is CPU time per image, which
is less sensitive to other processes; `ratio` is relative to `predict 32`. `same` is the fraction of
images with the top class of `predict 32`, `gap` the largest difference of its probability. The data
set resizes without antialiasing, so its predictions are for other pixels. The loop of single images
is slow and gets every eighth image.

Weights are random with seed 0, with BatchNorm statistics of the images, so that predictions differ
between images; `--weights` takes files for both models in that order. `--photos DIR` uses photos
instead of synthetic textures.

Measured on 2 cores of an AMD EPYC with AVX-512 and bfloat16, TensorFlow 2.21, Keras 3.15.1,
OpenVINO 2026.4.1, 2,000 images; tests ran beside ResNet50's, with the lowest priority:

    images/s      MobileNetV2  ResNet50
    predict 1            12.1       7.0
    predict 8            48.7      20.5
    predict 32           75.7      25.4
    dataset 32          145.8      37.9
    zoo keras           174.8      36.8
    zoo openvino        220.1      46.7
    zoo litert          207.7      34.2
    zoo onnx            160.2      31.2
    zoo bfloat16        316.0      75.4
    zoo auto            192.2      46.0

All have the top classes of `predict 32`, except bfloat16 (91.6 % and 79.9 %, as probabilities of
random weights are close) and the data set. `zoo auto` is OpenVINO; the difference is due to other
processes.

MobileNetV2 in float32 can hardly become faster: of 8 ms of CPU time per image, OpenVINO takes 4.2
to 5 (0.6 GFLOP), reading the file 1.8, mostly in Pillow's decoder and resizing, and a second of
start-up and comparison amounts to 0.7.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image

import zoo
from tasks.classification import exporter, metrics
from tasks.classification.predictor import ClassificationPredictor
from tasks.data import image_io
from tasks.deploy import model_loader, predict, prediction_writer
from tasks.export import converters, float_layers, quantization
from tasks.inference import runtimes
from zoo.errors import UsageError

MODELS = ("mobilenet_v2", "resnet50")
SIZE = (500, 375)  # width and height of the files
TOP = 5
WARMUP_IMAGES = 4  # images that are predicted before the measurement
SINGLE_IMAGE_DIVISOR = 8  # the loop of single images gets every eighth image


def main():
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--photos", help="folder of photos to cut the images from")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--weights", nargs="+", default=[], help="a file for each model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "images"
        write_images(folder, args.images, args.photos)
        for index, name in enumerate(args.models):
            classifier = build(name, args.weights[index : index + 1], folder)
            compare(classifier, folder)


def compare(classifier, folder):
    """Measures every method with one model."""
    paths = predict.find_images([folder])
    reference = None
    print(f"\n{classifier.name}, {len(paths):,} images on {os.cpu_count()} cores")
    print(f"{'':<14}{'seconds':>9}{'images/s':>10}{'cpu ms':>8}{'ratio':>7}{'same':>8}{'gap':>10}")
    for name, predict_images in (methods() | {"zoo int8": zoo_int8(classifier, paths)}).items():
        timed_paths = paths[::SINGLE_IMAGE_DIVISOR] if name == "predict 1" else paths
        table = folder.parent / "predictions.csv"
        if name.startswith("zoo"):
            try:
                predict_images(classifier, paths[:WARMUP_IMAGES], table)
            except UsageError as error:  # a precision that the processor does not support
                print(f"{name:<14}{error}")
                continue
        start, busy = time.perf_counter(), time.process_time()
        predict_images(classifier, timed_paths, table)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        rate, found = len(timed_paths) / seconds, read(table)
        if name == "predict 32":
            reference, stock = found, rate
        line = f"{name:<14}{seconds:>9.1f}{rate:>10.1f}{1000 * busy / len(timed_paths):>8.2f}"
        if reference:
            share = share_of_equal_classes(found, reference)
            gap = max_probability_gap(found, reference)
            line += f"{rate / stock:>7.2f}{share:>8.2%}{gap:>10.1e}"
        print(line, flush=True)


def methods():
    """Returns the methods by name: functions of classifier, paths and output file."""
    found = {
        "predict 32": keras_loop(32),
        "predict 8": keras_loop(8),
        "predict 1": keras_loop(1),
        "dataset 32": keras_dataset,
        "zoo keras": zoo_predict(runtime="keras"),
    }
    for name in runtimes.RUNTIMES:
        if name != "keras":
            found[f"zoo {name}"] = zoo_predict(runtime=name)
    return found | {"zoo bfloat16": zoo_predict(precision="bfloat16"), "zoo auto": zoo_predict()}


def keras_loop(size):
    """Returns a plain Keras loop."""

    def predict_images(classifier, paths, table):
        with open(table, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(classifier.columns)
            for start in range(0, len(paths), size):
                sample_paths = paths[start : start + size]
                images = [
                    keras.utils.img_to_array(
                        keras.utils.load_img(
                            path,
                            target_size=classifier.image_shape[:2],
                            interpolation="bilinear",
                        )
                    )
                    for path in sample_paths
                ]
                logits = classifier.model.predict(np.stack(images), verbose=0)
                write_rows(rows, classifier, sample_paths, logits)

    return predict_images


def keras_dataset(classifier, paths, table):
    """Predicts on all files of a folder with a Keras data set."""
    images = keras.utils.image_dataset_from_directory(
        paths[0].parent,
        labels=None,
        image_size=classifier.image_shape[:2],
        batch_size=32,
        shuffle=False,
        verbose=0,
    )
    logits = classifier.model.predict(images, verbose=0)
    with open(table, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(classifier.columns)
        write_rows(rows, classifier, paths, logits)


def write_rows(rows, classifier, paths, logits):
    """Writes the top classes of some images."""
    for path, row in zip(paths, metrics.softmax(logits), strict=True):
        for rank, index in enumerate(np.argsort(-row)[:TOP], 1):
            rows.writerow([path, rank, classifier.classes[index], f"{row[index]:.6g}", ""])


def zoo_predict(**options):
    """Returns a function that predicts as `zoo predict` does."""

    def predict_images(classifier, paths, table):
        with prediction_writer.open_output(table) as file:
            found = predict.predict_files(classifier, paths, top=TOP, **options)
            prediction_writer.write_predictions(found, file, "csv", classifier)

    return predict_images


def zoo_int8(classifier, paths):
    """Quantizes a classifier, and returns the function that predicts with the file."""
    about = {"classes": list(classifier.classes), "resize": classifier.resize}
    exported = exporter.export_model(classifier.model, about, classifier.name)
    chosen = paths[:: max(1, len(paths) // quantization.NUM_CALIBRATION_IMAGES)]
    images = [image_io.read_image(path, classifier.image_shape) for path in chosen]
    conversion = converters.Conversion(
        float_layers.folded(exported), precision="int8", calibration=np.stack(images)
    )
    file = paths[0].parent.parent / classifier.name / "model.xml"
    file.parent.mkdir()
    converters.write_openvino(conversion, file)
    predictor = model_loader.load_predictor(file)
    run = zoo_predict()
    return lambda _, some, table: run(predictor, some, table)


def read(table):
    """Returns `{path: (first class, its probability)}`."""
    with open(table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    return {row["path"]: (row["class"], float(row["probability"])) for row in rows}


def share_of_equal_classes(found, reference):
    """Returns the share of images with the first class of the reference."""
    return float(np.mean([found[path][0] == reference[path][0] for path in found]))


def max_probability_gap(found, reference):
    """Returns the largest difference of the first class's probability."""
    return max(abs(found[path][1] - reference[path][1]) for path in found)


def build(name, weights, folder):
    """Returns a classifier whose predictions differ between images."""
    keras.utils.set_random_seed(0)
    model = zoo.build(name, weights=weights[0] if weights else None)
    if not weights:
        shape = model.input_shape[1:]
        sample_paths = predict.find_images([folder])[:32]
        calibrate_batch_norm(
            model, np.stack([image_io.read_image(path, shape) for path in sample_paths])
        )
    classes = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    return ClassificationPredictor(model, classes, "stretch", name)


def calibrate_batch_norm(model, images):
    """Calibrates BatchNorm on some images; otherwise activations of a random network vanish."""
    norms = [part for part in model.layers if isinstance(part, keras.layers.BatchNormalization)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def write_images(folder, count, photos):
    """Writes JPEGs: cuts of photos, or smooth textures with fine noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    photo_images = (
        [Image.open(path).convert("RGB") for path in predict.find_images([photos])]
        if photos
        else []
    )
    for index in range(count):
        if photo_images:
            image = photo_images[index % len(photo_images)]
            left, top = (random.uniform(0, 0.3, 2) * image.size).astype(int)
            right, bottom = (random.uniform(0.7, 1, 2) * image.size).astype(int)
            image = image.crop((left, top, right, bottom)).resize(SIZE)
        else:
            sides = (*random.integers(3, 40, 2), 3)
            coarse = Image.fromarray(random.integers(0, 256, sides, "uint8"))
            pixels = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), "int16")
            noise = random.integers(-9, 10, pixels.shape, "int16")
            image = Image.fromarray((pixels + noise).clip(0, 255).astype("uint8"))
        image.save(folder / f"{index:05d}.jpg", quality=88)


if __name__ == "__main__":
    main()
