"""Uses the public API as the code of a user does. mypy checks it; it is not executed.

mypy reports missing and wrong annotations: in strict mode it refuses calls of functions without
annotations, `assert_type` compares the inferred type, and a call with wrong arguments has an ignore
comment, which is reported as unused if the call is accepted.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import keras

import tasks
import zoo


def look_up() -> None:
    assert_type(zoo.names(), list[str])
    assert_type(
        zoo.names("res*", kind="classifier", family="resnet", weights="imagenet"), list[str]
    )
    assert_type(zoo.names(weights=True), list[str])
    spec = zoo.spec("resnet50.imagenet")
    assert_type(spec, zoo.Spec)
    assert_type(spec.name, str)
    assert_type(spec.architecture, str)
    assert_type(spec.input_shape, tuple[int, ...])
    assert_type(spec.num_classes, int | None)
    assert_type(spec.parameters, int | None)
    assert_type(spec.weights, zoo.Weights | None)
    assert_type(spec.validate_input_shape((64, 64, 3)), tuple[int | None, ...])
    assert_type(zoo.class_names("imagenet"), tuple[str, ...])
    zoo.names(7)  # type: ignore[arg-type]
    zoo.names(kinds="classifier")  # type: ignore[call-arg]
    zoo.spec(None)  # type: ignore[arg-type]
    zoo.class_names(3)  # type: ignore[arg-type]


def build() -> None:
    model = zoo.build("vgg16.imagenet", num_classes=5, input_shape=(96, 96, 3), dropout=0.5)
    assert_type(model, keras.Model)
    assert_type(zoo.build("unet", input_shape=(None, None, 3)), keras.Model)
    assert_type(
        zoo.build("lenet5", classes=["cat", "dog"], weights=Path("file.keras")), keras.Model
    )
    assert_type(zoo.build("lenet5", weights="random"), keras.Model)
    assert_type(zoo.backbone("resnet20.cifar10", weights="file.npz"), keras.Model)
    zoo.build(16)  # type: ignore[arg-type]
    zoo.build("vgg16", num_classes="5")  # type: ignore[arg-type]
    zoo.build("vgg16", input_shape=96)  # type: ignore[arg-type]
    zoo.build("vgg16", classes=3)  # type: ignore[arg-type]
    zoo.backbone("vgg16", weights=3)  # type: ignore[arg-type]


def declare() -> None:
    weights = zoo.Weights(source="https://example.org/tiny.npz", digest="0" * 64, licence="MIT")
    assert_type(weights.num_classes, int)
    assert_type(weights.commercial, bool | None)
    assert_type(weights.is_local, bool)

    @zoo.register(
        {"tiny": {"width": 16}},
        input_shape=(32, 32, 3),
        paper="https://example.org/tiny",
        stages=range(1, 3),
        counts={"tiny": (5_466, 811_648)},
        weights={"tiny": {"mine": weights}},
    )
    def tiny(
        image: keras.KerasTensor, num_classes: int | None = 10, *, width: int
    ) -> dict[str, keras.KerasTensor]:
        return {"stage0": image}

    assert_type(tiny(keras.Input((32, 32, 3)), width=2), dict[str, keras.KerasTensor])
    zoo.register({"tiny": {}}, input_shape=32, paper="")  # type: ignore[arg-type]
    zoo.register({"tiny": {}}, input_shape=(32, 32, 3))  # type: ignore[call-arg]
    zoo.Weights(num_classes="ten")  # type: ignore[arg-type]


def operate(model: keras.Model) -> None:
    surgery = zoo.surgery
    assert_type(surgery.head(model, num_classes=3, dropout=0.2), keras.Model)
    assert_type(surgery.resize(model, (64, None)), keras.Model)
    assert_type(surgery.channels(model, 4), keras.Model)
    assert_type(surgery.fold(model, "bfloat16"), keras.Model)
    assert_type(surgery.absorb(model), keras.Model)
    assert_type(surgery.flatten(model), keras.Model)
    assert_type(surgery.flat(model), keras.Model)
    assert_type(surgery.split(model), tuple[keras.Model, keras.Model] | None)
    assert_type(surgery.split(model, {model.layers[0]}), tuple[keras.Model, keras.Model] | None)
    assert_type(surgery.stages(model), dict[str, keras.KerasTensor])
    assert_type(surgery.select_layers(model, "stage5"), list[keras.layers.Layer])
    assert_type(surgery.learnable(model, "stage5"), list[keras.layers.Layer])
    assert_type(surgery.freeze(model, 0.5), list[keras.layers.Layer])
    assert_type(surgery.freeze(model, set(model.layers)), list[keras.layers.Layer])
    assert_type(surgery.depths(model), dict[str, int])
    surgery.head("vgg16", 3)  # type: ignore[arg-type]
    surgery.resize(model, 64)  # type: ignore[arg-type]
    surgery.channels(model, "rgb")  # type: ignore[arg-type]
    surgery.fold(None)  # type: ignore[arg-type]
    surgery.depths(3)  # type: ignore[arg-type]


def load_weights(model: keras.Model) -> None:
    loaded = zoo.weights.load(model, Path("file.npz"), strict=True)
    assert_type(loaded.matched, tuple[str, ...])
    assert_type(zoo.weights.fetch("vgg16.imagenet", zoo.Weights(), headless=True), Path)
    zoo.weights.save(model, "file.npz")
    zoo.weights.load(model, 3)  # type: ignore[arg-type]


def make_tasks() -> None:
    assert_type(tasks.names(), list[str])
    task = tasks.get("classification")
    assert_type(task, type[tasks.Task])
    settings = task(epochs=1, learning_rate=1e-3, optimizer="sgd")
    assert_type(settings.epochs, int)
    assert_type(settings.learning_rate, float)
    assert_type(tasks.flag(3, "how many", low=1, search=(1, 2)), int)
    assert_type(tasks.flag("mean", "how", choices=("mean", "sum")), str)
    assert_type(tasks.Between(1e-4, 1e-1, log=True).low, float)
    tasks.get(3)  # type: ignore[arg-type]
    tasks.flag(3)  # type: ignore[call-arg]
    tasks.flag(3, "how many", low="one")  # type: ignore[arg-type]
    task(epochs="1")  # type: ignore[arg-type]


def train(images: list[int]) -> None:
    run = tasks.finetune("lenet5", "photos", epochs=3, out=Path("runs/a"))
    assert_type(run, tasks.Run)
    assert_type(run.figures, dict[str, float])
    assert_type(run.history, dict[str, list[float]])
    assert_type(run.model, keras.Model)
    assert_type(run.report, Path)
    assert_type(run.evaluate("photos", split="test"), dict[str, float])
    assert_type(run.resume(epochs=2), tasks.Run)
    assert_type(tasks.Run.open("runs/a").finished, bool)
    assert_type(tasks.train("classification", (images, images), class_names=["a"]), tasks.Run)
    tasks.finetune(3, "photos")  # type: ignore[arg-type]
    tasks.train("gan", test=3)  # type: ignore[arg-type]


@tasks.register
class Custom(tasks.Task):
    rate: float = tasks.flag(0.1, "of noise", high=1.0)
    passes: int = tasks.flag("two", "over the images")  # type: ignore[assignment]


def configure(custom: type[Custom]) -> None:
    assert_type(custom(rate=0.2, epochs=3).rate, float)
    assert_type(tasks.register(custom), type[Custom])
    custom(rates=0.2)  # type: ignore[call-arg]


def paper(name: str) -> str:
    try:
        return zoo.spec(name).paper
    except zoo.UsageError as error:
        return str(error)
