"""The contract of a detector, and of the layers that its training uses, for every detector."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support import checks, networks
from tests.support.networks import EAGER
from zoo import graphs
from zoo.errors import UsageError
from zoo.parts import boxes

DETECTORS = zoo.names(kind="detector")
TWO_STAGE = [name for name in DETECTORS if "rcnn" in name]
WITH_ANCHORS = [name for name in DETECTORS if not zoo.spec(name).inputs]
CLASSES, SIDE, NUM_PROPOSALS = 3, 64, 9
# `make check` runs what `make test` runs for one of them.
FEW = [pytest.param(x, marks=() if x == "faster_rcnn" else pytest.mark.check) for x in DETECTORS]


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def outline(name, **options):
    """Builds a detector without allocating weights."""
    return networks.outline(name, backbone_weights="random", **options)


def small(name, **options):
    keras.utils.set_random_seed(0)
    inputs = {"proposals": NUM_PROPOSALS} if zoo.spec(name).inputs else {}
    options = {"num_classes": CLASSES, "input_shape": (SIDE, SIDE, 3), **inputs, **options}
    model = zoo.build(name, **options)
    model.run_eagerly = EAGER
    return model


def example_inputs(model, batch=2):
    """Returns images, and proposals if the model takes them; the last proposal is padding."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, SIDE, SIDE, 3)).astype("float32")
    if not isinstance(model.input, dict):
        return images
    low = rng.uniform(0, SIDE - 20, (batch, NUM_PROPOSALS, 2))
    regions = np.concatenate([low, low + rng.uniform(8, 20, (batch, NUM_PROPOSALS, 2))], -1)
    regions[:, -1] = 0
    return {"image": images, "proposals": regions.astype("float32")}


def shape(model, name):
    return tuple(model.get_layer(name).output.shape)


def training_model(model):
    """Returns a model whose outputs enter the losses of a detector, and a function of its inputs.

    In two-stage detectors, the regions are an input, in another number than the proposals.
    """
    names = ["anchor_logits", "anchor_deltas"] if model.name in WITH_ANCHORS else []
    names += ["roi_logits", "roi_deltas"] if model.name in TWO_STAGE else []
    ends = [model.get_layer(name).output for name in names]
    if model.name not in TWO_STAGE:
        return keras.Model(model.input, ends), lambda x: x
    old = model.get_layer("proposals").output
    image = model.input["image"] if isinstance(model.input, dict) else model.input
    images, regions = keras.Input(image.shape[1:]), keras.Input((5, 4))
    made = graphs.replay(model, {id(image): images, id(old): regions}, graphs.call_node)
    sampled = np.array([[[0, 0, 9, 9], [3, 4, 30, 20], [40, 40, 64, 64], [9, 0, 50, 50], [0] * 4]])

    def inputs(x):
        images = x["image"] if isinstance(x, dict) else x
        return [images, np.repeat(sampled, len(images), 0).astype("float32")]

    return keras.Model([images, regions], [made[id(end)] for end in ends]), inputs


@pytest.fixture(scope="module", params=DETECTORS)
def sample(request):
    """A detector for small images with inputs and detections; built once for all tests."""
    if zoo.spec(request.param).parameters > 5e6:
        pytest.skip("its smaller variant is tested")
    model = small(request.param)
    x = example_inputs(model)
    yield model, x, model.predict(x, verbose=0)
    keras.utils.clear_session()


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("float32", marks=pytest.mark.check)]
)
@pytest.mark.parametrize("name", DETECTORS)
def test_layers_for_the_losses_have_fixed_names_shapes_and_dtypes(name, policy):
    keras.config.set_dtype_policy(policy)
    model = outline(name, num_classes=CLASSES, input_shape=(SIDE, SIDE, 3))
    dtypes = {}
    if name in WITH_ANCHORS:
        [one, number, four] = shape(model, "anchors")
        assert (one, four) == (1, 4)
        width = 1 if name in TWO_STAGE else CLASSES
        assert shape(model, "anchor_logits") == (None, number, width)
        assert shape(model, "anchor_deltas") == (None, number, 4)
        dtypes |= dict.fromkeys(["anchors", "anchor_logits", "anchor_deltas"], "float32")
    if name in TWO_STAGE:
        _, number, four = shape(model, "proposals")
        assert four == 4
        assert shape(model, "roi_logits") == (None, number, CLASSES + 1)
        assert shape(model, "roi_deltas") == (None, number, CLASSES, 4)
        dtypes |= dict.fromkeys(["proposals", "roi_logits", "roi_deltas"], "float32")
        assert model.get_layer("detections").deviations == boxes.REGION_BOX_STD
    assert {layer: model.get_layer(layer).output.dtype for layer in dtypes} == dtypes
    assert model.layers[-1].name == "detections"
    found = model.output
    assert {key: (x.shape[2:], x.dtype) for key, x in found.items()} == {
        "boxes": ((4,), "float32"),
        "scores": ((), "float32"),
        "classes": ((), "int32"),
    }


def check(found, classes=CLASSES):
    """Asserts that detections are valid, and padded where there are fewer."""
    scores, class_ids, got = found["scores"], found["classes"], found["boxes"]
    padding = scores == 0
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(padding, class_ids == -1)
    assert not got[padding].any()
    assert ((class_ids[~padding] >= 0) & (class_ids[~padding] < classes)).all()
    assert ((got >= 0) & (got <= SIDE)).all()
    assert (got[..., 2:] >= got[..., :2]).all()


@pytest.mark.xdist_group("detectors")
def test_outputs_are_boxes_scores_and_classes(sample):
    _, _, found = sample
    assert set(found) == {"boxes", "scores", "classes"}
    assert (found["scores"] > 0).any()
    check(found)


@pytest.mark.xdist_group("detectors")
@pytest.mark.check
def test_detections_do_not_depend_on_the_other_images_of_the_batch(sample):
    model, x, together = sample
    alone = model.predict(keras.tree.map_structure(lambda x: x[1:], x), verbose=0)
    for key, value in alone.items():
        np.testing.assert_allclose(value[0], together[key][1], rtol=1e-3, atol=1e-3)


@pytest.mark.xdist_group("detectors")
@pytest.mark.check
def test_integer_and_float_pixels_give_the_same_detections(sample):
    model, x, found = sample
    integers = (
        x.astype("uint8") if not isinstance(x, dict) else x | {"image": x["image"].astype("uint8")}
    )
    for key, values in model.predict(integers, verbose=0).items():
        np.testing.assert_allclose(values, found[key], rtol=1e-4, atol=1e-4)


@pytest.mark.xdist_group("detectors")
@pytest.mark.check
def test_saved_model_predicts_the_same(sample, tmp_path):
    model, x, found = sample
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = model.run_eagerly
    for key, values in loaded.predict(x, verbose=0).items():
        np.testing.assert_array_equal(values, found[key])


@pytest.mark.xdist_group("detectors")
def test_a_gradient_reaches_every_weight(sample):
    model, x, _ = sample
    net, inputs = training_model(model)
    before = model.get_weights()
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)  # the first momentum is the gradient
    net.compile(optimizer, "mse", run_eagerly=model.run_eagerly)
    inputs = inputs(x)
    targets = [np.ones((2, *end.shape[1:]), "float32") for end in net.outputs]
    losses = net.fit(inputs, targets, batch_size=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert len(model.trainable_weights) == len(net.trainable_weights)
    checks.assert_reached(optimizer, model)
    model.set_weights(before)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.check
def test_half_precision_gives_valid_detections(name):
    if zoo.spec(name).parameters > 5e6:
        pytest.skip("its smaller variant is tested")
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small(name)
    check(model.predict(example_inputs(model), verbose=0))


@pytest.mark.parametrize("name", ["fast_rcnn", pytest.param("rcnn", marks=pytest.mark.check)])
def test_proposals_of_zeros_are_padding(name):
    model = small(name, proposals=None)
    x = example_inputs(model)
    found = model.predict({**x, "proposals": x["proposals"][:, -4:]}, verbose=0)  # of any number
    check(found)
    few = model.predict({**x, "proposals": x["proposals"][:, -4:-1]}, verbose=0)
    np.testing.assert_allclose(found["scores"], few["scores"], rtol=1e-3, atol=1e-4)
    none = model.predict({**x, "proposals": np.zeros((2, 3, 4), "float32")}, verbose=0)
    assert not none["scores"].any()


@pytest.mark.parametrize("name", FEW)
def test_a_backbone_is_chosen_by_name(name):
    model = outline(name, backbone="resnet18", num_classes=2)
    assert model.get_layer("conv5_block2_2_conv")


@pytest.mark.parametrize("name", FEW)
@pytest.mark.check
def test_the_default_backbone_has_the_embedded_weights(name):
    if not zoo.spec(name).builder.__kwdefaults__["backbone"].endswith(".cifar10"):
        pytest.skip("its weights are downloaded")
    found = small(name).get_layer("conv2_block1_1_conv").kernel
    expected = zoo.backbone("resnet20.cifar10").get_layer("conv2_block1_1_conv").kernel
    np.testing.assert_array_equal(to_numpy(found), to_numpy(expected))


@pytest.mark.parametrize(
    "side", [33, *(pytest.param(x, marks=pytest.mark.check) for x in (70, 100))]
)
@pytest.mark.parametrize("name", WITH_ANCHORS)
def test_image_sizes_need_not_be_multiples_of_the_strides(name, side):
    model = outline(name, input_shape=(side, SIDE, 3), num_classes=2)
    assert shape(model, "anchors")[1] == shape(model, "anchor_deltas")[1]


def test_retinanet_is_initialised_with_its_prior():
    """Focal loss, section 4.1: initially the score of every class at every anchor is 1%."""
    bias = to_numpy(small("retinanet").get_layer("class_answer").bias)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), 0.01, rtol=1e-5)


PAPERS = {  # detector, options beside 256 channels, layers: parameters as in torchvision's
    "region proposal network": ("faster_rcnn", {}, "rpn_", 593_935),
    "two dense layers": ("faster_rcnn", {"hidden": (1024, 1024)}, "roi_fc", 13_895_680),
    "classes": ("retinanet", {"depth": 4, "num_classes": 91}, "class_", 4_248_115),
    "boxes": ("retinanet", {"depth": 4}, "box_", 2_443_300),
}


@pytest.mark.parametrize("part", PAPERS)
def test_heads_of_the_papers_have_their_parameters(part):
    name, options, start, expected = PAPERS[part]
    model = outline(name, channels=256, **options)
    found = [layer for layer in model.layers if layer.name.startswith(start)]
    assert sum(layer.count_params() for layer in found) == expected


def test_anchors_belong_to_the_levels_in_use():
    model = outline("faster_rcnn", levels=(3, 4), anchor_scale=2, ratios=(1,), num_classes=2)
    layer = model.get_layer("anchors")
    assert (list(layer.sizes), list(layer.strides)) == ([16, 32], [8, 16])
    found = to_numpy(layer([np.zeros((1, 16, 16, 1)), np.zeros((1, 8, 8, 1))]))
    assert shape(model, "anchors") == found.shape == (1, 16 * 16 + 8 * 8, 4)
    np.testing.assert_array_equal(found[0, 1], [4, -4, 20, 12])
    np.testing.assert_array_equal(found[0, -1], [104, 104, 136, 136])


MISTAKES = [  # model, options, message
    ("faster_rcnn", {"input_shape": (None, None, 3)}, "a fixed size; pass input_shape"),
    ("retinanet", {"input_shape": (None, None, 3)}, "a fixed size; pass input_shape"),
    ("faster_rcnn", {"backbone": "mlp"}, "mlp has no feature pyramid"),
    ("faster_rcnn", {"backbone": "vit_small"}, "begins with stage4"),
    ("retinanet", {"levels": (5, 3)}, r"a first and a last one"),
    ("rcnn", {"backbone": "resnet21"}, "no model named 'resnet21'"),
    ("fast_rcnn", {"level": 7}, "has no stage7"),
    ("fast_rcnn", {"input_shape": (None, None, 3)}, "a fixed size; pass input_shape"),
    ("rcnn", {"crop_size": 8, "context": 4}, "crop_size"),
    ("faster_rcnn", {"proposal": 3}, "did you mean proposals"),
]


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES)
def test_mistakes_have_a_message_of_one_line(name, options, message):
    with pytest.raises(UsageError, match=message) as error:
        zoo.build(name, num_classes=2, **options)
    assert "\n" not in str(error.value)
