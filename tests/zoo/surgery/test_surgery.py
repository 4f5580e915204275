"""Surgery against the network as it was: the same outputs, the same steps, the same variables."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tests.support.paths import ROOT
from zoo import UsageError, graphs, layers, surgery
from zoo.parts import blocks

BATCH_NORM = keras.layers.BatchNormalization


def image(size=32, channels=3, batch=2, seed=0):
    shape = (batch, size, size, channels)
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def run(model, x, **kwargs):
    outputs = model(x, **kwargs)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def distance(a, b):
    """The largest difference, as a share of the largest value."""
    return np.abs(np.asarray(a, "float64") - b).max() / np.abs(b).max()


def shaken(model, seed=0):
    """Gives a model statistics, scales and shifts as after training; returns it."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, BATCH_NORM):
            count = layer.moving_mean.shape[0]
            layer.moving_mean.assign(rng.normal(0, 0.3, count))
            layer.moving_variance.assign(rng.uniform(0.5, 2, count))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1, count))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.3, count))
    return model


def frozen(model):
    """Freezes a model's batch normalisation; returns the model."""
    for layer in model._flatten_layers():
        if isinstance(layer, BATCH_NORM):
            layer.trainable = False
    return model


def kinds(model):
    return {type(layer).__name__ for layer in model.layers}


def names(found):
    return [layer.name for layer in found]


def tutorial(size=32):
    """A model as tutorials make it: augmentation, a network of Keras inside, a new head."""
    base = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(size, size, 3), alpha=0.35
    )
    inputs = keras.Input((size, size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.Sequential([keras.layers.Dropout(0.2), keras.layers.Dense(5)], name="head")
    return shaken(keras.Model(inputs, head(x), name="tutorial"))


# Folding


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_025", "xception", "densenet", "vgg11_bn"])
def test_folding_keeps_the_outputs(name):
    if name == "densenet":  # blocks that normalise before they convolve
        model = keras.applications.DenseNet121(
            weights=None, input_shape=(32, 32, 3), pooling="avg", include_top=False
        )
    elif name == "xception":
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.SeparableConv2D(8, 3, use_bias=False)(inputs)
        x = keras.layers.ReLU()(BATCH_NORM()(x))
        x = keras.layers.Conv2DTranspose(6, 3, strides=2)(x)
        x = keras.layers.ReLU(max_value=6)(BATCH_NORM(scale=False)(x))
        x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
        model = keras.Model(inputs, BATCH_NORM(center=False)(x))
    else:
        kwargs = {"hidden": ()} if name.startswith("vgg") else {}
        model = zoo.build(name, input_shape=(32, 32, 3), num_classes=7, **kwargs)
    before = [np.array(w) for w in shaken(model).get_weights()]
    x = image()
    folded = surgery.fold(model)
    assert distance(run(folded, x), run(model, x)) < 1e-5
    assert not {id(v) for v in folded.variables} & {id(v) for v in model.variables}
    if name == "densenet":
        assert len(folded.layers) < len(model.layers)
    else:
        assert not kinds(folded) & {"BatchNormalization"}
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_folding_flattens_models_and_supports_half_precision():
    model = tutorial()
    x = image().astype("uint8")
    whole = surgery.fold(model)
    assert distance(run(whole, x), run(model, x)) < 1e-5
    assert not kinds(whole) & {"BatchNormalization", "Functional", "Sequential"}
    half = surgery.fold(model, "bfloat16")
    assert half.get_layer("Conv1").compute_dtype == "bfloat16"
    assert half.get_layer("rescaling").compute_dtype == "float32"
    assert half.output.dtype == "float32"
    assert 0 < distance(run(half, x), run(model, x)) < 0.05


def test_batch_norm_that_cannot_be_folded_is_kept():
    """A normalisation of maps that something else reads too, or behind an activation."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    outputs = keras.layers.Add()([BATCH_NORM(name="a")(x), x, BATCH_NORM(name="b")(y)])
    model = shaken(keras.Model(inputs, outputs))
    folded = surgery.fold(model)
    assert [x.name for x in folded.layers if isinstance(x, BATCH_NORM)] == ["a", "b"]
    assert distance(run(folded, image(8)), run(model, image(8))) < 1e-6


def test_shared_convolution_is_folded_per_call():
    inputs = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    x = keras.layers.ReLU()(BATCH_NORM()(conv(inputs)))
    model = shaken(keras.Model(inputs, BATCH_NORM()(conv(x))))
    folded = surgery.fold(model)
    assert names(folded.layers)[1:] == ["twice", "twice_fold2"]
    assert distance(run(folded, image(8)), run(model, image(8))) < 1e-5


# Absorbing


def trained(name, optimizer, absorbed, policy="float32", steps=5):
    """Returns how a network's weights changed in some steps, its losses and its outputs."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(3)
    options = {"dropout": 0.0, "input_shape": (64, 64, 3), "num_classes": 7}
    model = frozen(shaken(zoo.build(name, **options)))
    before = model.get_weights()
    taught = surgery.absorb(model) if absorbed else model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    jit = "auto" if keras.backend.backend() == "jax" else False  # TensorFlow's takes long
    taught.compile(optimizer(), loss, jit_compile=jit)
    x, y = image(64, batch=4 * steps), np.arange(4 * steps) % 7
    losses = taught.fit(x, y, batch_size=4, shuffle=False, verbose=0).history["loss"]
    changes = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
    return np.concatenate([change.ravel() for change in changes]), losses, run(model, x[:4])


RATES = {"SGD": 1e-3, "Adam": 1e-4}


def check_trajectory(name, optimizer):
    def start():
        return getattr(keras.optimizers, optimizer)(RATES[optimizer])

    # In float64: Adam makes whole steps of gradients near zero, and in float32 their sign is a
    # matter of rounding, which differs between processors.
    (wanted, *expected), (changes, *got) = (
        trained(name, start, absorbed, "float64") for absorbed in (False, True)
    )
    assert changes.dtype == "float64"
    assert np.linalg.norm(changes - wanted) < 1e-9 * np.linalg.norm(wanted)
    for a, b in zip(expected, got, strict=True):
        assert distance(a, b) < 1e-6  # logits and losses are float32


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("name", ["resnet20.cifar10", "mobilenet_025"])
def test_absorbed_network_gets_the_same_updates(name, optimizer):
    check_trajectory(name, optimizer)


@pytest.mark.slow
def test_absorbed_network_gets_the_same_updates_on_jax():
    pytest.importorskip("jax")
    code = "from tests.zoo.surgery import test_surgery as t; "
    code += "t.check_trajectory('resnet20.cifar10', 'Adam'); "
    code += "t.check_trajectory('mobilenet_025', 'SGD'); t.check_surgery(); print('done')"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith("done"), done.stderr[-3000:]


def check_surgery():
    """What the other backends need to be able to do besides."""
    model = frozen(shaken(zoo.build("resnet20", input_shape=(32, 32, 3))))
    before, after = surgery.split(model, surgery.learnable(model, "stage2"))
    assert distance(run(after, run(before, image())), run(model, image())) < 1e-5
    assert distance(run(surgery.fold(model), image()), run(model, image())) < 1e-5
    grey = image(channels=1)
    for count in (1, 4):
        adapted = surgery.channels(model, count)
        wanted = run(model, grey.repeat(3, -1))
        assert distance(run(adapted, grey.repeat(count, -1)), wanted) < 1e-4
    vit = zoo.build("vit_tiny", input_shape=(32, 32, 3), depth=1)
    assert run(surgery.resize(vit, (48, 48)), image(48)).shape == (2, 1000)


def test_absorbed_network_shares_variables():
    model = frozen(zoo.build("mobilenet_025", input_shape=(32, 32, 3), num_classes=5))
    model.get_layer("conv_pw_3").trainable = False
    taught = surgery.absorb(model)
    assert {id(v) for v in taught.variables} == {id(v) for v in model.variables}
    paths = [[v.path for v in net.trainable_variables] for net in (taught, model)]
    assert paths[0] == paths[1]
    assert not any("conv_pw_3" in path for path in paths[0])
    assert "BatchNormalization" not in kinds(taught)
    assert distance(run(taught, image()), run(model, image())) < 1e-5


def test_trainable_batch_norm_is_not_absorbed():
    model = zoo.build("resnet20", input_shape=(32, 32, 3))
    model.get_layer("conv1_bn").trainable = False
    taught = surgery.absorb(model)
    assert sum(isinstance(layer, BATCH_NORM) for layer in taught.layers) == 18
    assert isinstance(taught.get_layer("conv1_conv_conv1_bn"), layers.AbsorbedConv2D)


def test_absorbing_works_in_half_precision():
    full = trained("mobilenet_025", lambda: keras.optimizers.SGD(1e-3), False)
    half = [
        trained("mobilenet_025", lambda: keras.optimizers.SGD(1e-3), absorbed, "mixed_bfloat16")
        for absorbed in (False, True)
    ]
    assert all(w.dtype == "float32" for w in half[1][0])
    errors = [distance(found[2], full[2]) for found in half]
    assert 0 < errors[1] < max(2 * errors[0], 0.02)


def test_absorbed_nested_model_can_be_saved(tmp_path):
    model = frozen(tutorial())
    taught = surgery.absorb(model)
    x = image().astype("uint8")
    assert distance(run(taught, x), run(model, x)) < 1e-5
    taught.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        run(keras.saving.load_model(tmp_path / "model.keras"), x), run(taught, x)
    )


# Splitting


def test_split_after_the_frozen_layers():
    model = shaken(zoo.build("resnet20", input_shape=(32, 32, 3)))
    x, head = image(), lambda layer: layer.name == "logits"
    before, _ = surgery.split(model, head)
    assert before.layers[-1].name == "conv1_conv"  # the normalisation behind it is not frozen
    before, after = surgery.split(frozen(model), head)
    assert before.output.shape == (None, 64)
    assert names(after.layers)[1:] == ["logits"]
    np.testing.assert_array_equal(run(after, run(before, x)), run(model, x))
    before, after = surgery.split(model, surgery.learnable(model, "stage2"))
    assert before.output.shape == (None, 16, 16, 32)
    assert before.layers[-1].name == "conv3_block3_out"  # it is padded behind the cut
    assert surgery.split(model) is surgery.split(model, surgery.learnable(model, "all")) is None
    model.trainable = False
    assert surgery.split(model) is None


def test_split_at_the_smallest_tensor():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.ZeroPadding2D(1)(x)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv2")(x))
    before, _ = surgery.split(model, {model.get_layer("conv2")})
    assert before.output.shape == (None, 7, 7, 4)


def test_split_is_between_residual_blocks():
    model = frozen(zoo.build("resnet20", input_shape=(32, 32, 3)))
    before, after = surgery.split(model, {model.get_layer("conv3_block2_2_conv")})
    assert before.layers[-1].name == "conv3_block1_out"
    assert run(after, run(before, image())).shape == (2, 10)


def test_split_parts_share_variables_of_nested_and_shared_layers():
    model = frozen(tutorial())
    before, after = surgery.split(model, lambda layer: "block_16" in layer.name)
    x = image().astype("uint8")
    assert distance(run(after, run(before, x)), run(model, x)) < 1e-6
    ids = [{id(v) for v in net.weights} for net in (model, before, after)]
    assert ids[1] | ids[2] == ids[0]
    assert not ids[1] & ids[2]

    relu = keras.layers.ReLU()  # whose first output is the cut
    inputs = keras.Input((8, 8, 3))
    y = relu(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, relu(keras.layers.Conv2D(4, 3, name="last")(y)))
    before, after = surgery.split(model, {model.get_layer("last")})
    np.testing.assert_array_equal(run(after, run(before, image(8))), run(model, image(8)))


def test_split_and_fold_keep_dicts_of_outputs():
    model = zoo.build("googlenet", input_shape=(64, 64, 3), num_classes=4, auxiliary=True)
    frozen(model)
    heads = {layer for layer in model.layers if layer.name.startswith(("aux", "logits"))}
    before, after = surgery.split(model, heads)
    assert before.layers[-1].name == "inception4a_concat"
    got, wanted = run(after, run(before, image(64))), run(model, image(64))
    assert list(got) == list(wanted) == ["auxiliary1", "auxiliary2", "logits"]
    assert all(distance(got[name], wanted[name]) < 1e-6 for name in wanted)
    folded = run(surgery.fold(model), image(64))
    assert all(distance(folded[name], wanted[name]) < 1e-4 for name in wanted)


@pytest.mark.parametrize("kind", ["Dropout", "SpatialDropout2D", "GaussianNoise", "RandomFlip"])
def test_random_layers_are_after_the_split(kind):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    x = getattr(keras.layers, kind)(*([] if kind == "RandomFlip" else [0.5]))(x)
    x = keras.layers.Conv2D(4, 3, name="conv2")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    before, _ = surgery.split(model, lambda layer: layer.name == "logits")
    assert before.layers[-1].name == "conv1"


# Choosing layers


@pytest.mark.parametrize(
    "name",
    [
        *("lenet5", "alexnet", "vgg11", "convnet", "nin", "nin_imagenet", "squeezenet"),
        *("googlenet", "googlenet_paper", "resnet20", "resnet18", "resnet20_v2", "resnet18_v2"),
        *("vit_tiny", "mobilenet_025", "mobilenet_v2", "mobilenet_v3_small", "convnext_tiny"),
        *("efficientnet_b0", "efficientnet_v2_b0"),
    ],
)
def test_stages_are_inferred_from_the_graph(name):
    spec = zoo.spec(name)
    size = max(spec.min_size, 32)
    options = {"input_shape": (size, size, spec.input_shape[-1])}
    whole, backbone = (
        graphs.flatten(build(name, **options)) for build in (zoo.build, zoo.backbone)
    )

    def needed(net, x):
        operations = [node.operation for node in graphs.ancestors(net, [x])]
        return {x.name for x in operations if getattr(x, "weights", ())}

    for net in (whole, backbone):
        found = surgery.stages(net)
        assert tuple(found) == spec.stages
        for stage, x in found.items():
            wanted = needed(backbone, backbone.output[stage])
            # ConvNeXt normalises inside what Keras writes as one block with the convolution.
            extra = {name for name in needed(net, x) - wanted if "downsampling_layer" not in name}
            assert not extra, stage
            assert not wanted - needed(net, x), stage


def test_select_layers_by_stage_number_and_name():
    model = zoo.build("resnet20", input_shape=(None, None, 3))

    def chosen(what):
        return names(surgery.learnable(model, what))

    assert chosen("head") == ["logits"]
    assert all(name.startswith(("conv4", "logits")) for name in chosen("stage2"))
    assert len(chosen("stage2")) == 13
    assert chosen("stage0") == chosen("all") == chosen(19 + 1)
    assert chosen(2) == ["conv4_block3_2_conv", "conv4_block3_2_bn", "logits"]
    assert chosen(0.1) == chosen(2)
    assert chosen("conv4_block1_*") == chosen(r"conv4_block1_\d_(conv|bn)")
    assert len(chosen("conv4_block1_*")) == 4
    with pytest.raises(UsageError, match="no layers named 'stage3'; did you mean stage2"):
        chosen("stage3")
    with pytest.raises(UsageError, match="20 convolutions and dense layers, so 30"):
        chosen(30)


def test_depths_count_from_the_head():
    depths = surgery.depths(zoo.build("resnet20", input_shape=(32, 32, 3)))
    assert depths["logits"] == 0
    assert depths["conv4_block1_1_conv"] == 1
    assert depths["conv3_block1_1_bn"] == 2
    assert depths["conv1_conv"] == 3
    depths = surgery.depths(zoo.build("mlp", widths=(8, 8)))
    assert sorted(set(depths.values())) == [0, 1, 2]
    assert depths["logits"] == 0


def test_freeze_changes_nested_models():
    model = tutorial()
    model.layers[2].trainable = False
    learned = surgery.freeze(model, "Conv_1*")
    assert names(learned) == ["Conv_1", "Conv_1_bn"]
    assert {v.path.split("/")[-2] for v in model.trainable_variables} == {"Conv_1", "Conv_1_bn"}


# Another head


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV3Small", "VGG16", "ResNet50V2"])
def test_new_head_on_keras_applications(name):
    options = {} if name == "VGG16" else {"alpha": 0.75} if "Mobile" in name else {}
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=9, classifier_activation="softmax", **options
    )
    changed = surgery.head(model, 4)
    logits = run(changed, image())
    assert logits.shape == (2, 4)
    assert logits.dtype == "float32"
    assert not np.allclose(logits.sum(axis=-1), 1)
    assert "logits" in names(changed.layers)
    assert "predictions" not in names(changed.layers)
    mine, theirs = ({id(v) for v in net.weights} for net in (changed, model))
    assert len(mine - theirs) == 2


def test_new_head_on_maps_and_on_features():
    squeezenet = surgery.head(zoo.build("squeezenet_v1_1", input_shape=(64, 64, 3)), 4, 0.3)
    assert names(squeezenet.layers)[-3:] == ["logits", "logits_relu", "pool"]
    drops = [x.rate for x in squeezenet.layers if isinstance(x, keras.layers.Dropout)]
    assert drops == [0.3]
    features = zoo.backbone("resnet20", input_shape=(32, 32, 3))
    features = keras.Model(features.input, features.output["stage2"])
    model = surgery.head(features, 4, dropout=0.2)
    assert names(model.layers)[-3:] == ["pool", "dropout", "logits"]


def test_separate_softmax_is_removed_with_the_head():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(3), keras.layers.Softmax()]
    )
    changed = surgery.head(model, 2)
    hidden, fresh = model.layers[0], changed.get_layer("logits")
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    expected = (x @ hidden.kernel + hidden.bias) @ fresh.kernel + fresh.bias
    np.testing.assert_allclose(run(changed, x), expected, rtol=1e-4, atol=1e-5)


# Another size


@pytest.mark.parametrize(("name", "size"), [("resnet20", (48, 40)), ("mobilenet_025", (64, 96))])
def test_resized_network_equals_one_built_for_the_size(name, size):
    model = zoo.build(name, input_shape=(32, 32, 3))
    resized = surgery.resize(model, size)
    built = zoo.build(name, input_shape=(*size, 3))
    built.set_weights(model.get_weights())
    x = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    assert distance(run(resized, x), run(built, x)) < 1e-5
    assert {id(v) for v in resized.weights} == {id(v) for v in model.weights}


def test_position_embeddings_are_interpolated():
    model = zoo.build("vit_tiny", input_shape=(64, 64, 3), depth=2)
    layer = model.get_layer("positions")
    rows, columns = np.mgrid[:4, :4]
    values = np.zeros((1, 17, 192), "float32")
    values[0, 0], values[0, 1:, 0], values[0, 1:, 1] = 7, rows.ravel(), columns.ravel()
    layer.kernel.assign(values)
    resized = surgery.resize(model, (128, 96))
    assert run(resized, image(128)[:, :, :96]).shape == (2, 1000)
    new = np.array(resized.get_layer("positions").kernel)
    assert new.shape == (1, 49, 192)
    assert (new[0, 0] == 7).all()
    maps = new[0, 1:].reshape(8, 6, 192)
    # A ramp stays one: its middle rows lie where rows of half the pitch lie.
    np.testing.assert_allclose(maps[3:5, 0, 0], [1.25, 1.75], atol=0.05)
    np.testing.assert_allclose(maps[0, 2:4, 1], [7 / 6, 11 / 6], atol=0.05)
    same = surgery.resize(model, (64, 64))
    np.testing.assert_array_equal(run(same, image(64)), run(model, image(64)))


def test_dense_layer_on_flattened_maps_cannot_be_resized():
    with pytest.raises(
        UsageError, match="cannot be resized to images of 64 x 64: its layer c5 needs"
    ):
        surgery.resize(zoo.build("lenet5"), (64, 64))


# Other channels


def grey_alike(model, counts=(1, 2, 4, 5, 6)):
    _, *size, _ = model.input_shape
    grey = image(size[0], 1)
    wanted = run(model, grey.repeat(3, -1))
    for count in counts:
        adapted = surgery.channels(model, count)
        assert adapted.input_shape[-1] == count
        assert distance(run(adapted, grey.repeat(count, -1)), wanted) < 1e-4, count


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch", "efficientnet"])
def test_equal_channels_have_the_outputs_of_grey(mode):
    inputs = keras.Input((16, 16, 3))
    x = blocks.preprocess(inputs, mode)
    x = keras.layers.ZeroPadding2D(2)(x)
    x = keras.layers.Conv2D(6, 5, 2, padding="same", activation="relu")(x)
    grey_alike(keras.Model(inputs, keras.layers.Conv2D(3, 3, padding="same")(x)))


@pytest.mark.parametrize("name", ["EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"])
def test_channels_of_keras_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            values = [[124.0, 116.0, 104.0], [3400.0, 3200.0, 3300.0], 9]
            layer.set_weights([np.array(value) for value in values])
            layer.finalize_state()
    grey_alike(model, (2, 4))


def test_channels_are_assigned_to_colours():
    """Two reds of four channels count half each, in BGR too."""
    model = zoo.build("resnet20.cifar10", input_shape=(32, 32, 3))
    inputs = keras.Input((32, 32, 3))
    pixels = blocks.preprocess(inputs, "caffe")
    bgr = keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same")(pixels))
    x = image()
    for net in (model, bgr):
        four = np.concatenate([x, x[..., :1]], axis=-1)
        assert distance(run(surgery.channels(net, 4), four), run(net, x)) < 1e-4
        two = x[..., [0, 2]]
        three = np.stack([two[..., 0], two.mean(-1), two[..., 1]], axis=-1)
        assert distance(run(surgery.channels(net, 2), two), run(net, three)) < 1e-5


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_build_pretrained_network_with_other_channels(count):
    rgb = zoo.build("resnet20.cifar10")
    model = zoo.build("resnet20.cifar10", input_shape=(32, 32, count))
    grey = image(channels=1)
    wanted = run(rgb, grey.repeat(3, -1))
    assert distance(run(model, grey.repeat(count, -1)), wanted) < 1e-4
    pyramid = zoo.backbone("resnet20.cifar10", input_shape=(32, 32, count))
    assert list(pyramid.output) == ["stage0", "stage1", "stage2"]


def test_grey_network_is_adapted_to_rgb():
    model = zoo.build("lenet5")
    grey = image(channels=1)
    assert distance(run(surgery.channels(model, 3), grey.repeat(3, -1)), run(model, grey)) < 1e-4


def test_networks_with_other_channels_can_be_saved(tmp_path):
    for count in (1, 4):
        model = zoo.build("resnet20.cifar10", input_shape=(32, 32, count))
        model.save(tmp_path / "model.keras")
        x = image(channels=count)
        np.testing.assert_array_equal(
            run(keras.saving.load_model(tmp_path / "model.keras"), x), run(model, x)
        )


# Refusing


def test_layers_that_mix_channels_cannot_be_adapted():
    inputs = keras.Input((16, 16, 3))
    x = keras.applications.resnet50.preprocess_input(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(x), name="flipped")
    grey_alike(model, (1, 2))
    with pytest.raises(UsageError, match="flipped cannot be adapted to 4 channels"):
        surgery.channels(model, 4)


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


# Real weights


def test_resnet50_classifies_a_photo_after_folding_and_with_other_channels(zoo_data):
    path = zoo_data / "weights" / "resnet50_imagenet.weights.h5"
    photo = keras.utils.load_img(zoo_data / "photos" / "chelsea.png", target_size=(224, 224))
    x = keras.utils.img_to_array(photo)[None]
    model = zoo.build("resnet50.imagenet", weights=path)
    wanted = run(model, x)
    assert wanted.argmax() == 285
    assert distance(run(surgery.fold(model), x), wanted) < 1e-4
    assert run(surgery.fold(model, "bfloat16"), x).argmax() == 285
    four = zoo.build("resnet50.imagenet", weights=path, input_shape=(224, 224, 4))
    grey = x.mean(axis=-1, keepdims=True)
    wanted = run(model, grey.repeat(3, -1))
    assert distance(run(four, grey.repeat(4, -1)), wanted) < 1e-4
