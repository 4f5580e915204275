"""Detection: what a detector learns by, on hand-made truth, and the task that teaches it."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tasks
import zoo
from tasks.detection import batches, dataset, train_model
from tasks.detection import metrics as measures
from tasks.distributed import strategies
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
CLASSES = 3


def small(name, **options):
    """A detector of the zoo, with few channels."""
    hidden = {} if name == "retinanet" else {"hidden": (8,)}
    options = {"backbone_weights": "random", **hidden, **SMALL[name], **options}
    keras.utils.set_random_seed(1)
    return zoo.build(name, num_classes=CLASSES, input_shape=SHAPE, **options)


def batch(model, size=4, *, seed=0):
    """Images with up to three objects, the last without any, and what else a learner takes."""
    random = np.random.default_rng(seed)
    low = random.integers(0, 40, (size, 3, 2))
    truth = np.concatenate([low, low + random.integers(8, 24, (size, 3, 2))], -1)
    labels = random.integers(0, CLASSES, (size, 3))
    labels[0, 1], labels[-1] = -1, -1
    truth[labels < 0] = 0
    given = {
        "image": random.integers(0, 256, (size, *SHAPE)).astype("uint8"),
        "boxes": truth.astype("float32"),
        "labels": labels.astype("int32"),
        "draw": random.random((size, 1)).astype("float32"),
    }
    if isinstance(model.input, dict):
        corners = np.sort(random.random((size, 12, 2, 2)) * 64, axis=2)
        given["proposals"] = corners.reshape(size, 12, 4).astype("float32")
        given["proposals"][:, 9:] = 0
    return given


def tensors(model, names, given):
    """What a model computes at some layers."""
    found = {node.operation.name: node.output_tensors[0] for node in graphs.nodes(model)}
    if isinstance(model.input, dict):
        given = {name: given[name] for name in model.input}
    else:
        given = given["image"]
    return [np.array(x) for x in keras.Model(model.input, [found[n] for n in names])(given)]


def overlap(one, two):
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    both = sides.clip(0).prod()
    either = (one[2:] - one[:2]).clip(0).prod() + (two[2:] - two[:2]).clip(0).prod() - both
    return both / either if either > 0 else 0.0


def target(box, reference, deviations):
    """Girshick et al., 2014, equations 6 to 9, for one box."""
    sides, units = box[2:] - box[:2], reference[2:] - reference[:2]
    moved = (box[:2] + box[2:] - reference[:2] - reference[2:]) / 2 / units
    return np.concatenate([moved, np.log(sides / units)]) / deviations


def far(found, wanted, beta):
    gap = abs(found - wanted)
    return np.where(gap < beta, gap**2 / beta / 2, gap - beta / 2).sum()


def test_what_is_strange_about_boxes_is_said_before_training():
    data = SimpleNamespace(parts=[SimpleNamespace(notes=("strange",))], notes=lambda: ["skipped"])
    assert tasks.get("detection")().notes(data) == ["skipped", "strange"]


@pytest.mark.parametrize("name", list(SMALL))
def test_a_learner_has_the_weights_of_its_model_and_a_loss_for_each_image(name):
    model = small(name)
    training_model = train_model.build_training_model(model, 3)
    assert {id(v) for v in training_model.trainable_variables} == {
        id(v) for v in model.trainable_variables
    }
    names = train_model.loss_names(model)
    assert names == train_model.loss_names(training_model)
    found = np.array(training_model(batch(model)))
    assert found.shape == (4, len(names))
    assert found.dtype == "float32"
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    boxed = [column for column, part in enumerate(names) if part.endswith("box")]
    assert (found[-1, boxed] == 0).all()  # nothing is there, and no box is wrong


def test_the_loss_of_a_dense_detector_is_the_formula():
    model = small("retinanet")
    given = batch(model)
    anchors, logits, deltas = tensors(model, train_model.ANCHOR_LAYERS, given)
    wanted = np.zeros((4, 2))
    for image, (truth, labels) in enumerate(zip(given["boxes"], given["labels"], strict=True)):
        real = labels >= 0
        shared = np.array(
            [
                [overlap(a, box) * there for box, there in zip(truth, real, strict=True)]
                for a in anchors[0]
            ]
        )
        best = shared.max(1)
        rescued = ((shared == shared.max(0)) & (shared > 0)).any(1)
        for place, anchor in enumerate(anchors[0]):
            positive = best[place] >= 0.5 or rescued[place]
            if not positive and best[place] >= 0.4:
                continue
            label = shared[place].argmax()
            for column in range(CLASSES):
                p = 1 / (1 + np.exp(-float(logits[image, place, column])))
                true = positive and labels[label] == column
                p, alpha = (p, 0.25) if true else (1 - p, 0.75)
                wanted[image, 0] -= alpha * (1 - p) ** 2 * np.log(p)
            if positive:
                aim = target(truth[label], anchor, np.ones(4))
                wanted[image, 1] += far(deltas[image, place], aim, 0.1)
        wanted[image] /= max(1, ((best >= 0.5) | rescued).sum())
    found = train_model.build_training_model(model, 3)(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_the_losses_of_regions_are_the_formula_where_all_regions_learn():
    """With room for all, nothing is left to chance: objects up to their share, and all ground."""
    model = small("fast_rcnn")
    given = batch(model)
    rules = train_model.MatchingConfig(0.5, 0.5, count=15, positive_fraction=1.0)
    found = np.array(train_model.build_training_model(model, 3, classifying=rules)(given))
    regions = np.concatenate([given["proposals"], given["boxes"]], axis=1)
    wide = small("fast_rcnn", proposals=15)
    wide.set_weights(model.get_weights())
    logits, deltas = tensors(wide, train_model.REGION_LAYERS[1:], {**given, "proposals": regions})
    for image, (truth, labels) in enumerate(zip(given["boxes"], given["labels"], strict=True)):
        named, placed, count = 0.0, 0.0, 0
        for place, region in enumerate(regions[image]):
            if (region[2:] <= region[:2]).any():
                continue
            count += 1
            shared = [
                overlap(region, box) if there >= 0 else -1
                for box, there in zip(truth, labels, strict=True)
            ]
            thing = int(np.argmax(shared))
            label = labels[thing] + 1 if shared[thing] >= 0.5 else 0
            scores = np.exp(logits[image, place].astype("float64"))
            named -= np.log(scores[label] / scores.sum())
            if label:
                aim = target(truth[thing], region, np.array(boxes.REGION_BOX_STD))
                placed += far(deltas[image, place, label - 1], aim, 1.0)
        np.testing.assert_allclose(found[image], [named / count, placed / count], rtol=1e-3)


def test_proposing_anchors_learn_as_sampled():
    """Few are objects, and all learn; of the ground, which says the same at first, a sample."""
    model = small("faster_rcnn")
    given = batch(model)
    anchors, logits, deltas = tensors(model, train_model.ANCHOR_LAYERS, given)
    truth = given["boxes"][1]
    assert (given["labels"][1] >= 0).all()
    shared = np.array([[overlap(anchor, box) for box in truth] for anchor in anchors[0]])
    rescued = ((shared == shared.max(0)) & (shared > 0)).any(1)
    positive = (shared.max(1) >= 0.7) | rescued
    ground = (shared.max(1) < 0.3) & ~positive
    assert 0 < positive.sum() <= 32 < ground.sum()
    rules = train_model.MatchingConfig(
        0.7, 0.3, allow_low_quality_matches=True, count=64, positive_fraction=0.5, beta=1 / 9
    )
    found = np.array(train_model.build_training_model(model, 3, proposing=rules)(given))[1]
    said = 1 / (1 + np.exp(-logits[1, :, 0].astype("float64")))
    positive_fraction = positive.sum() / 64
    wanted = (
        -positive_fraction * np.log(said[positive]).mean()
        - (1 - positive_fraction) * np.log(1 - said[ground]).mean()
    )
    np.testing.assert_allclose(found[0], wanted, rtol=0.01)
    placed = 0.0
    for place in np.flatnonzero(positive):
        aim = target(truth[shared[place].argmax()], anchors[0, place], np.ones(4))
        placed += far(deltas[1, place], aim, 1 / 9)
    np.testing.assert_allclose(found[1], placed / 64, rtol=1e-3)


@pytest.mark.parametrize("name", ["faster_rcnn", "fast_rcnn"])
def test_the_sample_follows_from_the_number_that_comes_with_an_image(name):
    model = small(name)
    rules = train_model.MatchingConfig(0.5, 0.5, count=4, positive_fraction=0.25)
    training_model = train_model.build_training_model(model, 3, classifying=rules)
    given = batch(model)
    first, again = np.array(training_model(given)), np.array(training_model(given))
    np.testing.assert_array_equal(first, again)
    other = np.array(training_model({**given, "draw": np.float32([[0.9]] * 4)}))
    assert (first != other).any()


@pytest.mark.parametrize("name", list(SMALL))
def test_an_image_without_objects_gives_finite_gradients(name):
    model = small(name)
    training_model = train_model.build_training_model(model, 3)
    train_model.compile_losses(training_model, keras.optimizers.SGD(0.01), jit_compile=False)
    given = batch(model)
    nothing = {**given, "boxes": 0 * given["boxes"], "labels": 0 * given["labels"] - 1}
    for _ in range(2):
        logs = training_model.train_on_batch(nothing, np.zeros(4), return_dict=True)
    assert set(logs) == {"loss", *train_model.loss_names(model)}
    assert np.isfinite(list(logs.values())).all()
    assert all(np.isfinite(np.array(v)).all() for v in model.variables)


def test_a_classifier_is_no_detector():
    with pytest.raises(UsageError, match="has no anchor_logits and no roi_logits"):
        train_model.build_training_model(zoo.build("lenet5"), 3)


TINY = {
    "model": "faster_rcnn",
    "backbone": "lenet5",
    "model_options": "{levels: [2, 3], channels: 8, proposals: 12, hidden: [8], least: 0.0}",
    "train_split": "train[:32]",
    "validation_split": "validation[:8]",
    "test_split": "test[:11]",
    "image_size": 64,
    "batch_size": 8,
    "epochs": 2,
    "augment": "light",
    "regions": 8,
    "precision": "float32",
}


def task(**flags):
    return tasks.get("detection")(**{**TINY, **flags})


@pytest.mark.slow
def test_killed_amid_an_epoch_a_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.engine.hardware.MAX_STEPS_PER_EXECUTION", 1)
    asked = task(checkpoint_steps=1)
    trainer.train(asked, tmp_path / "whole")
    checks.kill(asked, tmp_path / "cut", 6)
    assert resume.RunState(tmp_path / "cut").step == 2
    trainer.train(asked, tmp_path / "cut")
    checks.assert_same_checkpoint(tmp_path / "whole", tmp_path / "cut")


def test_two_replicas_judge_as_one_does_on_an_uneven_last_batch(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one replica alone")
    asked = task()
    data = asked.load()
    keras.utils.set_random_seed(0)
    one = asked.build(data)
    with strategies.create_strategy("mirrored").scope():
        two = asked.build(data)
    two.set_weights(one.get_weights())
    found = []
    for model in (one, two):
        answers = batches.predict(model, data.test, batch_size=4)
        found.append(measures.metrics_with_interval(data.test, answers, 6, seed=0))
    assert found[0]["ar"] > 0
    assert found[1] == pytest.approx(found[0], abs=1e-6)


def test_one_step_on_two_replicas_is_a_step_on_one(two_devices):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one replica alone")
    flags = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "constant"}
    # Batch normalisation looks at the rest of a replica's batch: here is none.
    flags["model_options"] = TINY["model_options"].replace("[2, 3]", "[1, 2], batch_norm: false")
    found = [checks.after_a_step(task(**flags), strategy) for strategy in ("one", "mirrored")]
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_losses_are_float32_whatever_the_layers_compute_in(policy):
    keras.config.set_dtype_policy(policy)
    model = small("faster_rcnn")
    training_model = train_model.build_training_model(model, 3)
    assert training_model.output.dtype == "float32"
    found = np.array(training_model(batch(model)))
    assert found.dtype == "float32"
    assert np.isfinite(found).all()


def test_an_image_without_objects_and_a_class_nobody_has_are_trained_with(tmp_path, monkeypatch):
    decode = dataset.decode

    def without(split, *args, **room):
        examples = decode(split, *args, **room)
        examples.labels[0], examples.boxes[0] = -1, 0
        examples.labels[examples.labels == 2] = -1
        return examples

    monkeypatch.setattr(dataset, "decode", without)
    figures = trainer.train(task(epochs=1), tmp_path / "run")["figures"]
    assert np.isfinite(list(figures.values())).all()
    report = (tmp_path / "run/report.html").read_text()
    assert "train[:32] has no object of the class" in report


def test_a_model_that_looks_at_proposals_gets_them_everywhere(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    options = "{region_size: 3, hidden: [8], least: 0.0}"
    asked = task(model="fast_rcnn", model_options=options, proposals=9, epochs=1)
    figures = trainer.train(asked, tmp_path / "run")["figures"]
    assert np.isfinite(list(figures.values())).all()
    assert 0 < figures["proposal_recall"] <= 1
    model, about = zoo.model_files.load(tmp_path / "run/model.keras")
    assert model.input["proposals"].shape == (None, 9, 4)
    again, _ = asked.evaluate(model, about, "")
    assert again["ap"] == pytest.approx(figures["ap"], abs=1e-6)


def test_what_is_wrong_is_said_before_training():
    with pytest.raises(UsageError, match="lenet5 is a classifier; detection needs a detector"):
        task(model="lenet5").load()
    with pytest.raises(UsageError, match="has 6 classes, not 4"):
        task(num_classes=4).load()
    asked = task(model_options="{depht: 3}")
    data = asked.load()
    with pytest.raises(UsageError, match="option of faster_rcnn"):
        asked.build(data)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(200, 100), (90, 160), (64, 64)])
def test_boxes_are_told_in_pixels_of_the_image_itself(resize, size):
    """What `placed` does to the boxes of a resized image is undone."""
    from tasks.detection import box_annotations as placing
    from tasks.detection import predictor

    own = np.array([[52.0, 40, 60, 60], [55, 37, 63, 62]])  # inside what `crop` keeps
    truth = placing.ground_truth([(box, 0, False) for box in own])
    moved, _ = placing.resize_ground_truth(truth, size, SHAPE, resize)
    again = predictor._to_original_size(moved.boxes, size, SHAPE[1::-1], resize)
    np.testing.assert_allclose(again, own, atol=1e-6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a detector that knows nothing, and finds something everywhere."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    about = {"task": "detection", "classes": ["one", "two", "three"], "least": 0.01}
    zoo.model_files.save(small("fast_rcnn", least=0.0, proposals=12), path, about)
    return path


def test_predict_draws_boxes_and_tells_them(saved, tmp_path):
    pytest.importorskip("cv2")
    from PIL import Image

    from tasks.data import shapes
    from tasks.deploy import model_loader, predict, prediction_writer

    for name, sides in (("wide", (150, 70)), ("tall", (64, 200))):
        drawn = Image.fromarray(shapes.draw("test", 0).image).resize(sides)
        drawn.save(tmp_path / f"{name}.png")
    model = model_loader.load_predictor(saved)
    paths = predict.find_images([str(tmp_path)])
    found = list(predict.predict_files(model, paths, drawings_dir=tmp_path / "drawn"))
    assert [answer["size"] for answer in found] == [[200, 64], [70, 150]]
    for answer in found:
        height, width = answer["size"]
        assert answer["objects"]
        scores = [thing["score"] for thing in answer["objects"]]
        assert scores == sorted(scores, reverse=True)
        for thing in answer["objects"]:
            x0, y0, x1, y1 = thing["box"]
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            assert thing["name"] in ("one", "two", "three")
        with Image.open(answer["picture"]) as picture:
            assert picture.width % width == 0
    for kind in prediction_writer.FORMATS:
        with prediction_writer.open_output(tmp_path / f"answers.{kind}") as file:
            tally = prediction_writer.write_predictions(iter(found), file, kind, model)
        assert (tally.images, tally.unreadable) == (2, 0)
    rows = (tmp_path / "answers.csv").read_text().splitlines()
    assert rows[0] == ",".join(model.columns)
    assert len(rows) == 1 + sum(len(answer["objects"]) for answer in found)


def test_a_picture_in_which_nothing_is_found_is_told_too(saved, tmp_path):
    pytest.importorskip("cv2")
    from tasks.deploy import model_loader, prediction_writer
    from tasks.detection import predictor

    model = model_loader.load_predictor(saved)
    assert isinstance(model, predictor.DetectionPredictor)
    answer = {"path": "a.png", "size": [9, 9], "objects": []}
    for kind in prediction_writer.FORMATS:
        with prediction_writer.open_output(tmp_path / f"answers.{kind}") as file:
            prediction_writer.write_predictions(iter([answer]), file, kind, model)
        assert "a.png" in (tmp_path / f"answers.{kind}").read_text()


def test_another_runtime_is_refused_for_a_detector(saved, tmp_path):
    from PIL import Image

    from tasks.deploy import model_loader, predict

    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    model = model_loader.load_predictor(saved)
    with pytest.raises(UsageError, match="runs in Keras only; leave out --runtime onnx"):
        predict.predict_files(model, [tmp_path / "grey.png"], runtime="onnx")
