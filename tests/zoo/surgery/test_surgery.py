"""All functions of `zoo.surgery`: invalid models, another backend, real weights."""

from __future__ import annotations

import keras
import pytest

import zoo
from tests.zoo.surgery.example_models import (
    freeze_batch_norm,
    predict,
    random_images,
    randomize_batch_norm,
    relative_error,
)
from zoo import UsageError, surgery


def check_surgery():
    """Checks functions of surgery on the current backend; `test_folding` runs it on JAX."""
    model = freeze_batch_norm(randomize_batch_norm(zoo.build("resnet20", input_shape=(32, 32, 3))))
    x = random_images()
    before, after = surgery.split(model, surgery.select_layers(model, "stage2"))
    assert relative_error(predict(after, predict(before, x)), predict(model, x)) < 1e-5
    assert relative_error(predict(surgery.fold(model), x), predict(model, x)) < 1e-5
    grey = random_images(channels=1)
    for count in (1, 4):
        adapted = surgery.channels(model, count)
        wanted = predict(model, grey.repeat(3, -1))
        assert relative_error(predict(adapted, grey.repeat(count, -1)), wanted) < 1e-4
    vit = zoo.build("vit_tiny", input_shape=(32, 32, 3), depth=1)
    assert predict(surgery.resize(vit, (48, 48)), random_images(48)).shape == (2, 1000)


def test_former_names_of_functions():
    assert surgery.learnable is surgery.select_layers
    assert surgery.flat is surgery.flatten


def test_models_without_graph_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    two = keras.Model([a, b], keras.layers.Add()([a, b]))
    for function in (surgery.fold, surgery.absorb, surgery.split, surgery.stages):
        for model in (Own(name="own"), keras.Sequential([keras.layers.Dense(2)], name="own")):
            with pytest.raises(UsageError, match="own is not a graph of layers; make it with"):
                function(model)
    with pytest.raises(UsageError, match=r"must have one input, the image, not 2 \(a, b\)"):
        surgery.channels(two, 4)
    pyramid = zoo.backbone("resnet20", input_shape=(32, 32, 3))
    with pytest.raises(UsageError, match=r"several outputs \(stage0, stage1, stage2\)"):
        surgery.head(pyramid, 3)
    with pytest.raises(UsageError, match=r"integer from 1 to .*, not 0"):
        surgery.head(zoo.build("lenet5"), 0)
    with pytest.raises(UsageError, match=r"integer from 1 to .*, not 0"):
        surgery.channels(zoo.build("lenet5"), 0)


def test_resnet50_classifies_a_photo_after_folding_and_with_other_channels(zoo_data):
    path = zoo_data / "weights" / "resnet50_imagenet.weights.h5"
    photo = keras.utils.load_img(zoo_data / "photos" / "chelsea.png", target_size=(224, 224))
    x = keras.utils.img_to_array(photo)[None]
    model = zoo.build("resnet50.imagenet", weights=path)
    wanted = predict(model, x)
    assert wanted.argmax() == 285
    assert relative_error(predict(surgery.fold(model), x), wanted) < 1e-4
    assert predict(surgery.fold(model, "bfloat16"), x).argmax() == 285
    four = zoo.build("resnet50.imagenet", weights=path, input_shape=(224, 224, 4))
    grey = x.mean(axis=-1, keepdims=True)
    wanted = predict(model, grey.repeat(3, -1))
    assert relative_error(predict(four, grey.repeat(4, -1)), wanted) < 1e-4
