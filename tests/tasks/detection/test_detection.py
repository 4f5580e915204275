"""Detection: the losses of training models against slow formulas, training runs, and inference."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tasks
import zoo
from tasks.detection import (
    batches,
    box_annotations,
    dataset,
    head_losses,
    metrics,
    predictor,
    train_model,
)
from tasks.engine import resume, trainer
from tests.support import checks
from zoo import graphs
from zoo.errors import UsageError
from zoo.parts import boxes

SMALL = {
    "faster_rcnn": {"levels": (3, 4), "channels": 8, "proposals": 12, "candidates": 30},
    "retinanet": {"levels": (3, 4), "channels": 8, "depth": 1, "octave": 1},
    "fast_rcnn": {"proposals": 12, "region_size": 3},
    "rcnn": {"proposals": 12, "crop_size": 16},
}
SHAPE = (64, 64, 3)
NUM_CLASSES = 3
CHECK = pytest.mark.check


def build_detector(name, **options):
    """Builds a detector of the zoo with few channels and random weights."""
    hidden = {} if name == "retinanet" else {"hidden": (8,)}
    options = {"backbone_weights": "random", **hidden, **SMALL[name], **options}
    keras.utils.set_random_seed(1)
    return zoo.build(name, num_classes=NUM_CLASSES, input_shape=SHAPE, **options)


@functools.cache
def shared_detector(name):
    """Returns a detector that several tests use; none may change its weights."""
    return build_detector(name)


def make_batch(model, size=4, *, seed=0):
    """Returns inputs of a training model: up to three objects per image, none in the last."""
    random = np.random.default_rng(seed)
    low = random.integers(0, 40, (size, 3, 2))
    true_boxes = np.concatenate([low, low + random.integers(8, 24, (size, 3, 2))], -1)
    labels = random.integers(0, NUM_CLASSES, (size, 3))
    labels[0, 1], labels[-1] = -1, -1
    true_boxes[labels < 0] = 0
    inputs = {
        "image": random.integers(0, 256, (size, *SHAPE)).astype("uint8"),
        "boxes": true_boxes.astype("float32"),
        "labels": labels.astype("int32"),
        head_losses.RANDOM_INPUT: random.random((size, 1)).astype("float32"),
    }
    if isinstance(model.input, dict):
        corners = np.sort(random.random((size, 12, 2, 2)) * 64, axis=2)
        inputs["proposals"] = corners.reshape(size, 12, 4).astype("float32")
        inputs["proposals"][:, 9:] = 0
    return inputs


def layer_outputs(model, names, inputs):
    """Returns the outputs of some layers of a model."""
    found = {node.operation.name: node.output_tensors[0] for node in graphs.nodes(model)}
    if isinstance(model.input, dict):
        inputs = {name: inputs[name] for name in model.input}
    else:
        inputs = inputs["image"]
    return [np.array(x) for x in keras.Model(model.input, [found[n] for n in names])(inputs)]


def slow_iou(one, two):
    """Returns the intersection over union of two boxes."""
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    both = sides.clip(0).prod()
    either = (one[2:] - one[:2]).clip(0).prod() + (two[2:] - two[:2]).clip(0).prod() - both
    return both / either if either > 0 else 0.0


def slow_deltas(box, reference, box_std):
    """Girshick et al., 2014, equations 6 to 9, for one box."""
    sides, units = box[2:] - box[:2], reference[2:] - reference[:2]
    moved = (box[:2] + box[2:] - reference[:2] - reference[2:]) / 2 / units
    return np.concatenate([moved, np.log(sides / units)]) / box_std


def slow_smooth_l1(deltas, targets, beta):
    difference = abs(deltas - targets)
    return np.where(difference < beta, difference**2 / beta / 2, difference - beta / 2).sum()


def test_warnings_about_boxes_are_printed_before_training():
    data = SimpleNamespace(parts=[SimpleNamespace(notes=("strange",))], notes=lambda: ["skipped"])
    assert tasks.get("detection")().notes(data) == ["skipped", "strange"]


@pytest.mark.parametrize(
    "name",
    ["faster_rcnn", *(pytest.param(x, marks=CHECK) for x in ("retinanet", "fast_rcnn", "rcnn"))],
)
def test_a_training_model_has_the_weights_of_its_detector_and_a_loss_per_image(name):
    model = shared_detector(name)
    training_model = train_model.build_training_model(model, 3)
    assert {id(v) for v in training_model.trainable_variables} == {
        id(v) for v in model.trainable_variables
    }
    names = train_model.loss_names(model)
    assert names == train_model.loss_names(training_model)
    losses = np.array(training_model(make_batch(model)))
    assert losses.shape == (4, len(names))
    assert losses.dtype == "float32"
    assert np.isfinite(losses).all()
    assert (losses >= 0).all()
    box_columns = [column for column, part in enumerate(names) if part.endswith("box")]
    assert (losses[-1, box_columns] == 0).all()  # no objects, no box regression


def test_the_losses_of_a_dense_head_match_a_slow_formula():
    model = shared_detector("retinanet")
    inputs = make_batch(model)
    anchors, logits, deltas = layer_outputs(model, train_model.ANCHOR_LAYERS, inputs)
    expected = np.zeros((4, 2))
    for image, (truth, labels) in enumerate(zip(inputs["boxes"], inputs["labels"], strict=True)):
        present = labels >= 0
        ious = np.array(
            [
                [slow_iou(a, box) * valid for box, valid in zip(truth, present, strict=True)]
                for a in anchors[0]
            ]
        )
        best = ious.max(1)
        low_quality = ((ious == ious.max(0)) & (ious > 0)).any(1)
        for n, anchor in enumerate(anchors[0]):
            positive = best[n] >= 0.5 or low_quality[n]
            if not positive and best[n] >= 0.4:
                continue
            label = ious[n].argmax()
            for column in range(NUM_CLASSES):
                p = 1 / (1 + np.exp(-float(logits[image, n, column])))
                true = positive and labels[label] == column
                p, alpha = (p, 0.25) if true else (1 - p, 0.75)
                expected[image, 0] -= alpha * (1 - p) ** 2 * np.log(p)
            if positive:
                targets = slow_deltas(truth[label], anchor, np.ones(4))
                expected[image, 1] += slow_smooth_l1(deltas[image, n], targets, 0.1)
        expected[image] /= max(1, ((best >= 0.5) | low_quality).sum())
    losses = train_model.build_training_model(model, 3)(inputs)
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


def test_the_losses_of_regions_match_a_slow_formula_without_sampling():
    """With a count of all regions nothing is left out, so that the result is not random."""
    model = shared_detector("fast_rcnn")
    inputs = make_batch(model)
    config = head_losses.MatchingConfig(0.5, 0.5, count=15, positive_fraction=1.0)
    losses = np.array(train_model.build_training_model(model, 3, classifying=config)(inputs))
    regions = np.concatenate([inputs["proposals"], inputs["boxes"]], axis=1)
    wide = build_detector("fast_rcnn", proposals=15)
    wide.set_weights(model.get_weights())
    logits, deltas = layer_outputs(
        wide, train_model.REGION_LAYERS[1:], {**inputs, "proposals": regions}
    )
    for image, (truth, labels) in enumerate(zip(inputs["boxes"], inputs["labels"], strict=True)):
        class_loss, box_loss, count = 0.0, 0.0, 0
        for n, region in enumerate(regions[image]):
            if (region[2:] <= region[:2]).any():
                continue
            count += 1
            ious = [
                slow_iou(region, box) if label >= 0 else -1
                for box, label in zip(truth, labels, strict=True)
            ]
            best = int(np.argmax(ious))
            label = labels[best] + 1 if ious[best] >= 0.5 else 0
            scores = np.exp(logits[image, n].astype("float64"))
            class_loss -= np.log(scores[label] / scores.sum())
            if label:
                targets = slow_deltas(truth[best], region, np.array(boxes.REGION_BOX_STD))
                box_loss += slow_smooth_l1(deltas[image, n, label - 1], targets, 1.0)
        expected = [class_loss / count, box_loss / count]
        np.testing.assert_allclose(losses[image], expected, rtol=1e-3)


def test_the_losses_of_the_rpn_are_means_over_sampled_anchors():
    """All positive anchors are sampled; of the background, whose loss is uniform at first, some."""
    model = shared_detector("faster_rcnn")
    inputs = make_batch(model)
    anchors, logits, deltas = layer_outputs(model, train_model.ANCHOR_LAYERS, inputs)
    truth = inputs["boxes"][1]
    assert (inputs["labels"][1] >= 0).all()
    ious = np.array([[slow_iou(anchor, box) for box in truth] for anchor in anchors[0]])
    low_quality = ((ious == ious.max(0)) & (ious > 0)).any(1)
    positive = (ious.max(1) >= 0.7) | low_quality
    negative = (ious.max(1) < 0.3) & ~positive
    assert 0 < positive.sum() <= 32 < negative.sum()
    config = head_losses.MatchingConfig(
        0.7, 0.3, allow_low_quality_matches=True, count=64, positive_fraction=0.5, beta=1 / 9
    )
    losses = np.array(train_model.build_training_model(model, 3, proposing=config)(inputs))[1]
    p = 1 / (1 + np.exp(-logits[1, :, 0].astype("float64")))
    fraction = positive.sum() / 64
    expected = -fraction * np.log(p[positive]).mean() - (1 - fraction) * (
        np.log(1 - p[negative]).mean()
    )
    np.testing.assert_allclose(losses[0], expected, rtol=0.01)
    box_loss = 0.0
    for n in np.flatnonzero(positive):
        targets = slow_deltas(truth[ious[n].argmax()], anchors[0, n], np.ones(4))
        box_loss += slow_smooth_l1(deltas[1, n], targets, 1 / 9)
    np.testing.assert_allclose(losses[1], box_loss / 64, rtol=1e-3)


@pytest.mark.parametrize("name", ["fast_rcnn", pytest.param("faster_rcnn", marks=CHECK)])
@pytest.mark.check
def test_sampling_is_a_function_of_the_random_input(name):
    model = shared_detector(name)
    config = head_losses.MatchingConfig(0.5, 0.5, count=4, positive_fraction=0.25)
    training_model = train_model.build_training_model(model, 3, classifying=config)
    inputs = make_batch(model)
    first, again = np.array(training_model(inputs)), np.array(training_model(inputs))
    np.testing.assert_array_equal(first, again)
    other = {**inputs, head_losses.RANDOM_INPUT: np.float32([[0.9]] * 4)}
    assert (first != np.array(training_model(other))).any()


@pytest.mark.parametrize(
    "name",
    ["faster_rcnn", "retinanet", *(pytest.param(n, marks=CHECK) for n in ("fast_rcnn", "rcnn"))],
)
@pytest.mark.check
def test_an_image_without_objects_gives_finite_gradients(name):
    model = build_detector(name)
    training_model = train_model.build_training_model(model, 3)
    train_model.compile_losses(training_model, keras.optimizers.SGD(0.01), jit_compile=False)
    training_model.run_eagerly = keras.config.backend() == "tensorflow"  # faster for one step
    inputs = make_batch(model, 2)
    empty = {**inputs, "boxes": 0 * inputs["boxes"], "labels": 0 * inputs["labels"] - 1}
    logs = training_model.train_on_batch(empty, np.zeros(2), return_dict=True)
    assert set(logs) == {"loss", *train_model.loss_names(model)}
    assert np.isfinite(list(logs.values())).all()
    assert all(np.isfinite(np.array(v)).all() for v in model.variables)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=CHECK)])
@pytest.mark.check
def test_losses_are_float32_under_every_dtype_policy(policy):
    keras.config.set_dtype_policy(policy)
    model = build_detector("faster_rcnn")
    training_model = train_model.build_training_model(model, 3)
    assert training_model.output.dtype == "float32"
    losses = np.array(training_model(make_batch(model)))
    assert losses.dtype == "float32"
    assert np.isfinite(losses).all()


def test_a_classifier_is_no_detector():
    with pytest.raises(UsageError, match="has no layer anchor_logits and no layer roi_logits"):
        train_model.build_training_model(zoo.build("lenet5"), 3)


TINY = {
    "model": "faster_rcnn",
    "backbone": "lenet5",
    "model_options": "{levels: [2, 3], channels: 8, proposals: 12, hidden: [8], least: 0.0}",
    "train_split": "train[:16]",
    "validation_split": "validation[:8]",
    "test_split": "test[:11]",
    "image_size": 64,
    "batch_size": 8,
    "epochs": 2,
    "augment": "light",
    "regions_per_image": 8,
    "precision": "float32",
}


def task(**flags):
    return tasks.get("detection")(**{**TINY, **flags})


@pytest.mark.slow
def test_a_run_killed_inside_an_epoch_resumes_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    detection = task(checkpoint_steps=1, train_split="train[:32]")
    trainer.train(detection, tmp_path / "whole")
    checks.kill(detection, tmp_path / "cut", 6)
    assert resume.RunState(tmp_path / "cut").step == 2
    trainer.train(detection, tmp_path / "cut")
    checks.assert_same_checkpoint(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.check
def test_metrics_are_the_same_on_two_replicas_with_an_uneven_last_batch(two_devices):
    detection = task()
    data = detection.load()
    found = []
    for model in checks.on_one_and_on_two_replicas(detection, data):
        predictions = batches.predict(model, data.test, batch_size=4)
        found.append(metrics.metrics_with_interval(data.test, predictions, 6, seed=0))
    assert found[0]["ar"] > 0
    assert found[1] == pytest.approx(found[0], abs=1e-6)


@pytest.mark.check
def test_a_step_on_two_replicas_equals_a_step_on_one(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the backend has one replica only")
    flags = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant"}
    # Without batch normalization, whose statistics differ between parts of a batch.
    flags["model_options"] = TINY["model_options"].replace("[2, 3]", "[1, 2], batch_norm: false")
    found = [checks.after_a_step(task(**flags), strategy) for strategy in ("one", "mirrored")]
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


@pytest.mark.check
def test_a_run_with_proposals_an_empty_image_and_an_absent_class(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    decode = dataset.decode

    def decode_with_faults(split, *args, **room):
        examples = decode(split, *args, **room)
        if split.name.startswith("train"):
            examples.labels[0], examples.boxes[0] = -1, 0
            examples.labels[examples.labels == 2] = -1
        return examples

    monkeypatch.setattr(dataset, "decode", decode_with_faults)
    detection = task(
        model="fast_rcnn",
        model_options="{region_size: 3, hidden: [8], least: 0.0}",
        proposals=9,
        epochs=1,
        validation_split="none",
        test_split="test[:5]",
    )
    figures = trainer.train(detection, tmp_path / "run")["figures"]
    assert np.isfinite(list(figures.values())).all()
    assert 0 < figures["proposal_recall"] <= 1
    report = (tmp_path / "run/report.html").read_text()
    assert "train[:16] has no object of the class" in report
    model, about = zoo.model_files.load(tmp_path / "run/model.keras")
    assert model.input["proposals"].shape == (None, 9, 4)
    again, *_ = detection.evaluate(model, about, "")
    assert again["ap"] == pytest.approx(figures["ap"], abs=1e-6)


def test_wrong_flags_are_refused_before_training():
    with pytest.raises(UsageError, match="lenet5 is a classifier; detection needs a detector"):
        task(model="lenet5").load()
    with pytest.raises(UsageError, match="has 6 classes, not 4"):
        task(num_classes=4).load()
    data = SimpleNamespace(image_shape=SHAPE, source=SimpleNamespace(classes=tuple("abcdef")))
    with pytest.raises(UsageError, match="option of faster_rcnn"):
        task(model_options="{depht: 3}").build(data)


def test_the_number_of_sampled_regions_depends_on_the_model():
    counts = {name: task(model=name, regions_per_image=0)._num_sampled_regions() for name in SMALL}
    assert counts == {"faster_rcnn": 64, "retinanet": 64, "fast_rcnn": 64, "rcnn": 32}
    assert task(model="rcnn")._num_sampled_regions() == 8


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(200, 100), (90, 160), (64, 64)])
def test_predicted_boxes_are_in_pixels_of_the_original_image(resize, size):
    original = np.array([[52.0, 40, 60, 60], [55, 37, 63, 62]])  # inside what `crop` keeps
    truth = box_annotations.ground_truth([(box, 0, False) for box in original])
    resized, _ = box_annotations.resize_ground_truth(truth, size, SHAPE, resize)
    restored = predictor._to_original_size(resized.boxes, size, SHAPE[1::-1], resize)
    np.testing.assert_allclose(restored, original, atol=1e-6)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Returns the predictor of an untrained detector that finds objects everywhere."""
    from tasks.deploy import model_loader

    path = tmp_path_factory.mktemp("saved") / "model.keras"
    about = {"task": "detection", "classes": ["one", "two", "three"], "least": 0.01}
    zoo.model_files.save(build_detector("fast_rcnn", least=0.0, proposals=12), path, about)
    return model_loader.load_predictor(path)


@pytest.mark.xdist_group("detection_predictor")
def test_predict_writes_boxes_and_pictures(loaded, tmp_path):
    pytest.importorskip("cv2")
    from PIL import Image

    from tasks.data import shapes
    from tasks.deploy import predict, prediction_writer

    for name, sides in (("wide", (150, 70)), ("tall", (64, 200))):
        drawn = Image.fromarray(shapes.draw("test", 0).image).resize(sides)
        drawn.save(tmp_path / f"{name}.png")
    paths = predict.find_images([str(tmp_path)])
    found = list(predict.predict_files(loaded, paths, drawings_dir=tmp_path / "drawn"))
    assert [prediction["size"] for prediction in found] == [[200, 64], [70, 150]]
    for prediction in found:
        height, width = prediction["size"]
        assert prediction["objects"]
        scores = [each["score"] for each in prediction["objects"]]
        assert scores == sorted(scores, reverse=True)
        for each in prediction["objects"]:
            x0, y0, x1, y1 = each["box"]
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            assert each["name"] in ("one", "two", "three")
        with Image.open(prediction["picture"]) as picture:
            assert picture.width % width == 0
    for kind in prediction_writer.FORMATS:
        with prediction_writer.open_output(tmp_path / f"predictions.{kind}") as file:
            tally = prediction_writer.write_predictions(iter(found), file, kind, loaded)
        assert (tally.images, tally.unreadable) == (2, 0)
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert rows[0] == ",".join(loaded.columns)
    assert len(rows) == 1 + sum(len(prediction["objects"]) for prediction in found)


@pytest.mark.xdist_group("detection_predictor")
def test_an_image_without_detections_is_written_too(loaded, tmp_path):
    from tasks.deploy import prediction_writer

    assert isinstance(loaded, predictor.DetectionPredictor)
    prediction = {"path": "a.png", "size": [9, 9], "objects": []}
    for kind in prediction_writer.FORMATS:
        with prediction_writer.open_output(tmp_path / f"predictions.{kind}") as file:
            prediction_writer.write_predictions(iter([prediction]), file, kind, loaded)
        assert "a.png" in (tmp_path / f"predictions.{kind}").read_text()


@pytest.mark.xdist_group("detection_predictor")
def test_another_runtime_is_refused_for_a_detector(loaded, tmp_path):
    from PIL import Image

    from tasks.deploy import predict

    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    with pytest.raises(UsageError, match="runs in Keras only; leave out --runtime onnx"):
        predict.predict_files(loaded, [tmp_path / "grey.png"], runtime="onnx")
