"""Measures saliency maps on `shapes`: pointing game, deletion, insertion, and the sanity check.

    python benchmarks/explain.py --out runs/explain
    python benchmarks/explain.py --weights mobilenet_025_imagenet.weights.h5 --models mobilenet_025

Networks are trained on `shapes` first, unless the folder holds them. The explained class is the
true one: the shape of the main object, the largest. Columns, over test images:

`pointing`   share of maps whose maximum lies in a visible pixel of an object of that shape
             (Zhang et al., 2016); `chance` is the mean share of such pixels
`near`       the same with a tolerance of 3 % of the side, 4 of 128 pixels; there, 15 of some 500
`deletion`   mean probability of the class while the most salient pixels are replaced by the mean
             color, and that of a random map; lower is better (Petsiuk et al., 2018)
`insertion`  mean probability while they are put into a blurred image; higher is better
`sanity`     mean absolute rank correlation with the map of the network with random weights (Adebayo
             et al., 2018): near 0 for maps that depend on what was learned
"""

from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tasks
import zoo
from tasks.data import image_io, shapes
from tasks.deploy import model_loader
from tasks.engine import trainer
from tasks.explain import faithfulness, methods, overlays
from zoo import model_files, surgery
from zoo.errors import UsageError
from zoo.models import vit

NETWORKS = {
    "mobilenet_025": {"model": "mobilenet_025.imagenet", "image_size": 224, "plan": "full"},
    "resnet20": {"model": "resnet20.cifar10", "image_size": 64, "plan": "full"},
}
VIT = "vit"  # a small one, which learns the classes of patches too
VIT_OPTIONS = {"width": 64, "heads": 4, "depth": 4}
VIT_EPOCHS, VIT_SEEDS, VIT_BATCH_SIZE = 14, 4, 64
PATCH_WEIGHT = 3.0  # of the loss of patches
FIGURES = (
    *("pointing", "near", "deletion", "random_deletion", "insertion", "random_insertion"),
    "sanity",
)
TOLERANCE = 4  # pixels, of 128
RANK_SIDE = 16  # pixels of the maps whose ranks are correlated


def main():
    """Prints a row per network and method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=[*NETWORKS, VIT], default=[*NETWORKS, VIT])
    parser.add_argument("--methods", nargs="*", choices=list(methods.METHODS))
    parser.add_argument("--weights", default="", help="file of the weights of mobilenet_025")
    parser.add_argument("--epochs", type=int, default=0, help="other than the defaults")
    parser.add_argument("--images", type=int, default=256, help="test images of pointing")
    parser.add_argument("--curves", type=int, default=64, help="test images of the other figures")
    parser.add_argument("--out", default="runs/explain", help="folder of all runs")
    args = parser.parse_args()
    for name in args.models:
        predictor, accuracy = load_or_train(name, args)
        print(f"\n{name}: test accuracy {accuracy:.3f}", flush=True)
        print(f"{'method':<22}{'chance':>8}", *(f"{x:>17}" for x in FIGURES))
        for method in args.methods or methods.METHODS:
            print(f"{method:<22}{row(predictor, method, args)}", flush=True)


def load_or_train(name, args):
    """Returns the predictor of a trained network, and its test accuracy."""
    if name == VIT:
        return load_or_train_vit(Path(args.out) / VIT, args.epochs or VIT_EPOCHS)
    flags = {"dataset": "shapes", **NETWORKS[name]}
    if args.epochs:
        flags["epochs"] = args.epochs
    if args.weights and name == "mobilenet_025":
        flags["weights"] = args.weights
    folder = Path(args.out) / name
    report = trainer.train(tasks.get("classification")(**flags), folder)
    return model_loader.load_predictor(folder), report["figures"]["accuracy"]


def load_or_train_vit(folder, epochs):
    """Returns the predictor of a ViT, which is trained on images and patches, and its accuracy."""
    path = folder / "model.keras"
    test_images, test = vit_scenes("test")
    if not path.exists():
        keras.utils.set_random_seed(0)
        images, targets = vit_scenes("train", range(VIT_SEEDS))
        model = zoo.build(
            "vit_tiny", input_shape=images.shape[1:], num_classes=len(shapes.SHAPES), **VIT_OPTIONS
        )
        patches = keras.layers.Dense(1 + len(shapes.SHAPES))(surgery.stages(model)["stage4"][:, 1:])
        patches = keras.layers.Reshape(targets["patch_classes"].shape[1:], name="patch_classes")(
            patches
        )
        both = keras.Model(model.input, {"label": model.output, "patch_classes": patches})
        steps = epochs * len(images) // VIT_BATCH_SIZE
        schedule = keras.optimizers.schedules.CosineDecay(
            1e-6, steps, warmup_target=2e-3, warmup_steps=steps // 20
        )
        both.compile(
            keras.optimizers.AdamW(schedule, weight_decay=1e-4),
            {
                "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "patch_classes": keras.losses.CategoricalCrossentropy(from_logits=True),
            },
            loss_weights={"label": 1.0, "patch_classes": PATCH_WEIGHT},
            jit_compile=False,
        )
        both.fit(images, targets, batch_size=VIT_BATCH_SIZE, epochs=epochs, verbose=2)
        folder.mkdir(parents=True, exist_ok=True)
        model_files.save(model, path, {"task": "classification", "classes": list(shapes.SHAPES)})
    predictor = model_loader.load_predictor(path)
    logits = predictor.model.predict(test_images, verbose=0)
    return predictor, float(np.mean(logits.argmax(-1) == test["label"]))


def vit_scenes(split, seeds=(0,)):
    """Returns images of `shapes`, and their labels and the shares of the classes in each patch."""
    scenes = [shapes.draw(split, i, seed=n) for n in seeds for i in range(shapes.SPLITS[split])]
    masks = np.stack([scene.mask for scene in scenes])
    cells = masks.reshape(len(masks), *2 * (masks.shape[1] // vit.PATCH, vit.PATCH))
    shares = [(cells == value).mean((2, 4)) for value in range(1 + len(shapes.SHAPES))]
    targets = {
        "label": np.array([scene.label for scene in scenes]),
        "patch_classes": np.stack(shares, -1).astype("float32"),
    }
    return np.stack([scene.image for scene in scenes]), targets


def row(predictor, method, args):
    """Returns the figures of a method as text, or why it cannot explain the network."""
    explained = methods.prepare(predictor.model)
    other = methods.prepare(with_random_weights(predictor.model))
    scenes = [shapes.draw("test", index) for index in range(args.images)]
    images = np.stack(
        [image_io.read_image(x.image, predictor.image_shape, predictor.resize) for x in scenes]
    )
    labels, few = np.array([scene.label for scene in scenes]), slice(args.curves)
    try:
        maps = saliency_maps(explained, method, images, labels)
    except UsageError as error:
        return f"  {error}"
    masks = [scene.mask == 1 + scene.label for scene in scenes]
    chance = np.mean([mask.mean() for mask in masks])
    found = {"pointing": np.mean(list(map(faithfulness.points_into, maps, masks)))}
    near = functools.partial(faithfulness.points_into, tolerance=TOLERANCE)
    found["near"] = np.mean(list(map(near, maps, masks)))
    random = np.random.default_rng(0).random((args.curves, *maps.shape[1:]), "float32")
    for prefix, chosen in (("", maps), ("random_", random)):
        for name in ("deletion", "insertion"):
            measure = functools.partial(getattr(faithfulness, name), explained)
            found[prefix + name] = np.mean(
                list(map(measure, images[few], chosen[few], labels[few]))
            )
    others = saliency_maps(other, method, images[few], labels[few])
    found["sanity"] = np.mean(list(map(rank_correlation, maps[few], others)))
    return f"{chance:>8.3f}" + " ".join(f"{found[figure]:>17.3f}" for figure in FIGURES)


def saliency_maps(explained, method, images, labels):
    """Returns the maps of images, `(images, rows, columns)`."""
    parts = range(0, len(images), methods.BATCH_SIZE)
    return np.concatenate(
        [
            methods.METHODS[method](explained, images[part], labels[part])
            for part in (slice(start, start + methods.BATCH_SIZE) for start in parts)
        ]
    )


def with_random_weights(model):
    """Returns a copy of a model with the weights of its initializers."""
    keras.utils.set_random_seed(1)
    return keras.models.clone_model(model)


def rank_correlation(one, other):
    """Returns the absolute Spearman correlation of two maps; 0 if one is constant."""
    ranks = []
    for each in (one, other):
        flat = overlays.to_image_size(each, (RANK_SIDE, RANK_SIDE)).reshape(-1)
        ranks.append(np.unique(flat, return_inverse=True)[1].astype("float64"))
    if min(rank.std() for rank in ranks) == 0:
        return 0.0
    return abs(float(np.corrcoef(*ranks)[0, 1]))


if __name__ == "__main__":
    main()
