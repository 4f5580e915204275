"""Accuracy and predictions of pretrained weights. Most tests need the real data of `ZOO_DATA`."""

import hashlib

import pytest

import zoo
from tasks.classification import metrics
from tasks.data import batches, decoding, sources
from tasks.deploy import predict
from zoo import weights


def test_digest_of_weights_in_the_package():
    facts = zoo.spec("resnet20.cifar10").weights
    path = weights.fetch("resnet20.cifar10", facts)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == facts.digest
    assert path.stat().st_size <= 1_200_000
    assert len(zoo.class_names(facts.classes)) == facts.num_classes


def test_accuracy_of_weights_in_the_package(zoo_data):
    spec = zoo.spec("resnet20.cifar10")
    source = sources.load("tfds:cifar10", zoo_data / "tfds")
    assert len(source.classes) == len(zoo.class_names("cifar10"))
    examples = decoding.decode(source.splits["test"], spec.input_shape, "stretch")
    logits = batches.predict(zoo.build(spec.name), examples, batch_size=100)
    found = metrics.classification_metrics(logits, examples.labels)
    # On another processor, the prediction for one image of 10,000 may differ.
    assert found["accuracy"] == pytest.approx(spec.weights.figures["accuracy"], abs=2e-4)
    assert found["accuracy"] >= 0.915


@pytest.mark.parametrize(
    ("photo", "first"), [("chelsea.png", "Egyptian cat"), ("coffee.png", "espresso")]
)
def test_predict_class_of_a_photo_with_resnet50(zoo_data, photo, first):
    path = zoo_data / "weights" / "resnet50_imagenet.weights.h5"
    (prediction,) = predict.predict(
        "resnet50.imagenet", [zoo_data / "photos" / photo], weights=path
    )
    assert prediction["classes"][0]["name"] == first
    assert prediction["classes"][0]["probability"] > 0.9
