"""Exports of each task: what a user wants comes out of the file, as Keras computes it."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

import zoo
from tasks.captioning.vocabulary import SPECIAL_TOKENS
from tasks.deploy import predict
from tasks.export import converters, export
from tasks.inference import exported_file
from zoo import model_files

WORDS = [*SPECIAL_TOKENS, "a", "red", "ring", "blue", "square"]
CLASSES = ["disc", "ring", "star"]
NETWORKS = {  # task: model, options of its builder, metadata
    "segmentation": (
        *("unet", {"widths": [4, 8], "input_shape": (32, 32, 3), "num_classes": 3}),
        {
            "model": "unet",
            "options": {"widths": [4, 8]},
            "classes": CLASSES,
            "resize": "stretch",
            "size": [32, 32],
        },
    ),
    "detection": (
        "faster_rcnn",
        {
            "backbone": "lenet5",
            "input_shape": (64, 64, 3),
            "num_classes": 3,
            "levels": [2, 3],
            "channels": 8,
            "proposals": 12,
            "hidden": [8],
            "least": 0.0,
        },
        {"classes": CLASSES, "resize": "stretch", "least": 0.4},
    ),
    "captioning": (
        "show_attend_tell",
        {
            "backbone": "lenet5",
            "input_shape": (32, 32, 3),
            "num_classes": len(WORDS),
            "length": 6,
            "widths": [8],
            "embedding": 8,
            "units": 12,
            "attention": 8,
        },
        {"vocabulary": WORDS, "length": 6, "resize": "stretch", "beam": 2},
    ),
    "style_transfer": (
        *("fast_style", {"width": 4, "depth": 1, "input_shape": (None, None, 3)}),
        {"size": 32},
    ),
    "gan": (
        "dcgan_generator",
        {"input_shape": (8,), "width": 4, "image_size": 16, "channels": 1, "num_classes": 3},
        {"classes": CLASSES},
    ),
    "dqn": (
        *("vector_dqn", {"input_shape": (4,), "num_classes": 2, "widths": [8]}),
        {"environment": "CartPole-v1", "actions": 2},
    ),
}
OUTPUTS = {
    "segmentation": {"mask": ("uint8", (2, 32, 32)), "logits": ("float32", (2, 32, 32, 3))},
    "detection": {
        "boxes": ("float32", (2, 100, 4)),
        "scores": ("float32", (2, 100)),
        "classes": ("int32", (2, 100)),
    },
    "captioning": {"tokens": ("int32", (2, 6)), "log_probability": ("float32", (2,))},
    "style_transfer": {"stylized": ("uint8", (2, 32, 32, 3))},
    "gan": {"generated": ("uint8", (2, 16, 16, 1))},
    "dqn": {"action_values": ("float32", (2, 2))},
}
FORMATS = ("openvino", "onnx", "litert", "saved_model", "keras")
REFUSED = {  # what a format cannot do: its reason
    ("captioning", "keras"): "cannot hold beam search; .*; formats that can: onnx, openvino, ",
}
QUICK = ("gan", "dqn")  # in every test run; the other networks take 10 seconds or more


def cases():
    for task in NETWORKS:
        for name in FORMATS:
            mark = pytest.mark.check if name == "openvino" else pytest.mark.slow
            quick = name == "openvino" and task in QUICK
            yield pytest.param(task, name, marks=() if quick else mark)


@pytest.mark.parametrize(("task", "name"), [*cases()])
def test_outputs(task, name, tmp_path):
    own = converters.FORMATS[name]
    if missing := [each for each in own.packages if not importlib.util.find_spec(each)]:
        pytest.skip(f"needs {' and '.join(missing)}")
    if message := REFUSED.get((task, name)):
        with pytest.raises(zoo.UsageError, match=message):
            exported(task, name, tmp_path)
        return
    folder = exported(task, name, tmp_path)
    opened = exported_file.open_file(folder / own.file)
    random = np.random.default_rng(0)
    inputs = {
        key: random.integers(0, 3, [side or 32 for side in (2, *shape[1:])]).astype(
            opened.dtypes[key]
        )
        for key, shape in opened.shapes.items()
    }
    found = opened.run(inputs)
    kinds = {key: (value.dtype.name, value.shape) for key, value in found.items()}
    assert kinds == OUTPUTS[task]
    assert opened.metadata["task"] == task
    report = json.loads((folder / "export.json").read_text())
    assert set(OUTPUTS[task]) <= set(report["parity"])


def exported(task, name, folder):
    import keras

    keras.utils.set_random_seed(3)
    architecture, options, about = NETWORKS[task]
    model = zoo.build(architecture, weights="random", **options)
    model_files.save(model, folder / "net.keras", {"task": task, **about})
    export.export(folder / "net.keras", [name], out=folder)
    return folder / name


@pytest.mark.check
@pytest.mark.parametrize(
    "task",
    [
        *("segmentation", "style_transfer"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("detection", "captioning")),
    ],
)
def test_predictions_of_the_file_are_those_of_the_model(task, tmp_path):
    folder, photo = exported(task, "openvino", tmp_path), tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype="uint8")
    Image.fromarray(pixels).save(photo)
    one, other = (
        predict.predict(str(path), [photo], drawings_dir=tmp_path / path.stem)[0]
        for path in (tmp_path / "net.keras", folder / "model.xml")
    )
    assert one.keys() == other.keys()
    if task == "segmentation":
        found, expected = ({x["name"]: x["share"] for x in row["classes"]} for row in (other, one))
        assert found == pytest.approx(expected, abs=0.01)
    if task == "detection":
        scores = [[x["score"] for x in row["objects"]] for row in (one, other)]
        np.testing.assert_allclose(*scores, atol=1e-4)
    if task == "captioning":
        assert other["sentence"] == one["sentence"]
        assert other["probability"] == pytest.approx(one["probability"], rel=1e-3)
    for key in {"mask", "overlay", "picture", "stylized"} & one.keys():
        images = [np.asarray(Image.open(row[key]), "int32") for row in (one, other)]
        assert (np.abs(images[0] - images[1]) <= 1).mean() > 0.98


@pytest.mark.check
def test_a_segmenter_takes_images_of_any_size(tmp_path):
    folder = exported("segmentation", "openvino", tmp_path)
    opened = exported_file.open_file(folder / "model.xml")
    assert opened.shapes == {"image": (None, None, None, 3)}
    model, _ = model_files.load(tmp_path / "net.keras")
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype="uint8")
    wide = opened.run({"image": np.concatenate([images, images], axis=2)})
    assert wide["mask"].shape == (1, 32, 64)
    found = opened.run({"image": images})
    logits = np.asarray(model(images))
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_array_equal(found["mask"], found["logits"].argmax(axis=-1))


@pytest.mark.check
def test_a_vocabulary_is_beside_a_captioner(tmp_path):
    folder = exported("captioning", "openvino", tmp_path)
    assert (folder / "vocabulary.txt").read_text().splitlines() == WORDS
