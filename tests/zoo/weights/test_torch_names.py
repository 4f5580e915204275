"""Names and layouts of the tensors of PyTorch, and the preprocessing that they imply."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.support.torch_save import Storage, Tensor, save_zip, tensor
from zoo import graphs, weights
from zoo.errors import UsageError
from zoo.weights import formats, torch_conversion, torch_files, torch_names

# Names and layouts of tensors


def save_shapes(shapes, path, largest=2_400_000):
    """Saves a state dict with tensors of these shapes, all views of one storage."""
    numbers = np.random.default_rng(0).uniform(0.5, 1, largest).astype("float16")
    storage = Storage(numbers)
    save_zip({name: Tensor(storage, shape) for name, shape in shapes.items()}, path)
    return path


def normalised(name, width):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (width,) for part in parts}, f"{name}.num_batches_tracked": ()}


def resnet_shapes(depths, bottleneck, width=64, classes=1000):
    """Returns the shapes of the tensors of torchvision's ResNets, from table 1 of the paper."""
    found = {"conv1.weight": (width, 3, 7, 7), **normalised("bn1", width)}
    before = width
    for stage, depth in enumerate(depths):
        inner = width * 2**stage
        for index in range(depth):
            name, sizes, out = f"layer{stage + 1}.{index}", (3, 3), inner
            widths = (inner, inner)
            if bottleneck:
                sizes, out, widths = (1, 3, 1), 4 * inner, (inner, inner, 4 * inner)
            into = before
            for part, (size, wide) in enumerate(zip(sizes, widths, strict=True), start=1):
                found[f"{name}.conv{part}.weight"] = (wide, into, size, size)
                found |= normalised(f"{name}.bn{part}", wide)
                into = wide
            if index == 0 and (stage or bottleneck):
                found[f"{name}.downsample.0.weight"] = (out, before, 1, 1)
                found |= normalised(f"{name}.downsample.1", out)
            before = out
    return {**found, "fc.weight": (classes, before), "fc.bias": (classes,)}


def vgg_shapes(depths, widths=(64, 128, 256, 512, 512), hidden=8, classes=10, side=1):
    """Returns the shapes of the tensors of torchvision's VGGs: 3 x 3 convolutions and ReLUs."""
    found, index, before = {}, 0, 3
    for depth, width in zip(depths, widths, strict=True):
        for _ in range(depth):
            found[f"features.{index}.weight"] = (width, before, 3, 3)
            found[f"features.{index}.bias"] = (width,)
            before, index = width, index + 2
        index += 1
    ends = ((0, before * side * side, hidden), (3, hidden, hidden), (6, hidden, classes))
    for at, into, out in ends:
        found[f"classifier.{at}.weight"], found[f"classifier.{at}.bias"] = (out, into), (out,)
    return found


def outline(name, weights="random", **options):
    """The layers with weights of a model that is built without values."""
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.build(name, weights=weights, **options)
    return [layer for layer in graphs.leaf_layers(model) if layer.weights]


def test_every_layer_of_resnet18_gets_its_tensors(tmp_path):
    path = save_shapes(resnet_shapes((2, 2, 2, 2), bottleneck=False), tmp_path / "x.pth")
    layers = outline("resnet18")
    entries = torch_conversion.convert_state_dict(formats.read(path), layers, path)
    assert [entry.name for entry in entries] == [layer.name for layer in layers]
    assert weights.count_matching(weights.match_by_name(entries, layers)) == len(layers) == 41
    kernel = {entry.name: entry for entry in entries}["conv3_block1_0_conv"].arrays[0]
    torch_arrays = torch_files.read(path)["layer2.0.downsample.0.weight"]
    assert all(kernel[0, 0, i, o] == torch_arrays[o, i, 0, 0] for i in (0, 63) for o in (0, 1, 127))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_all_keys_are_removed(prefix, tmp_path):
    shapes = resnet_shapes((1, 1, 1, 1), bottleneck=True, width=4, classes=3)
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    path = save_shapes(shapes, tmp_path / "x.bin", 20_000)
    model = zoo.build(
        "resnet50_v1_5",
        depths=(1, 1, 1, 1),
        width=4,
        num_classes=3,
        input_shape=(32, 32, 3),
        weights=path,
    )
    bn, variance = model.get_layer("conv4_block1_3_bn"), torch_files.read(path)
    expected = variance[f"{prefix}layer3.0.bn3.running_var"].astype("float32") + 1e-5
    np.testing.assert_allclose(bn.moving_variance.numpy() + bn.epsilon, expected, rtol=1e-6)


def test_batch_norm_is_converted_to_another_epsilon(tmp_path):
    shapes = resnet_shapes((1, 1, 1, 1), bottleneck=False, width=4, classes=3)
    storage = Storage(np.random.default_rng(0).uniform(0, 1, 20_000).astype("float32"))
    small = Storage(np.array([0, 1e-9, 1e-7, 1e-5], "float32"))
    tensors = {name: Tensor(storage, shape) for name, shape in shapes.items()}
    tensors["bn1.running_var"] = Tensor(small, (4,))
    save_zip(tensors, tmp_path / "x.pth")
    options = {"depths": (1, 1, 1, 1), "width": 4, "num_classes": 3, "input_shape": (32, 32, 3)}
    bn = zoo.build("resnet18", **options, weights=tmp_path / "x.pth").get_layer("conv1_bn")
    x = np.random.default_rng(1).normal(0, 1e-3, (2, 5, 5, 4)).astype("float32")
    gamma, beta, mean = (storage.array[:4].astype("float64") for _ in range(3))
    expected = gamma * (x - mean) / np.sqrt(small.array.astype("float64") + 1e-5) + beta
    got = keras.ops.convert_to_numpy(bn(x, training=False))
    # Below 1e-8, where a variance cannot be lowered by the difference of the epsilons, 0.05 %.
    np.testing.assert_allclose(got[..., 2:], expected[..., 2:], rtol=1e-5)
    np.testing.assert_allclose(got[..., :2], expected[..., :2], rtol=6e-4)
    assert bn.moving_variance.numpy().min() >= 0


@pytest.mark.parametrize("form", ["torchvision", "timm"])
def test_dense_kernel_after_flattened_maps_is_permuted(form, tmp_path):
    widths, random = (2, 3, 2, 3, 5), np.random.default_rng(0)
    shapes = vgg_shapes((1, 1, 2, 2, 2), widths, hidden=6, classes=4, side=2)
    arrays = {
        name: random.normal(0, 0.5, shape).astype("float32") for name, shape in shapes.items()
    }
    torch_arrays = dict(arrays)
    if form == "timm":  # its hidden layers are convolutions
        for old, new, side in (
            ("classifier.0", "pre_logits.fc1", 2),
            ("classifier.3", "pre_logits.fc2", 1),
        ):
            torch_arrays[f"{new}.weight"] = torch_arrays.pop(f"{old}.weight").reshape(
                6, -1, side, side
            )
            torch_arrays[f"{new}.bias"] = torch_arrays.pop(f"{old}.bias")
        for part in ("weight", "bias"):
            torch_arrays[f"head.fc.{part}"] = torch_arrays.pop(f"classifier.6.{part}")
    save_zip({name: tensor(array) for name, array in torch_arrays.items()}, tmp_path / "x.pth")
    options = {"widths": widths, "input_shape": (64, 64, 3), "weights": tmp_path / "x.pth"}
    model = zoo.build("vgg11", hidden=(6, 6), num_classes=4, **options)
    images = random.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    maps = zoo.backbone("vgg11", **options)(images)["stage5"]
    x = keras.ops.convert_to_numpy(maps).transpose(0, 3, 1, 2).reshape(2, -1)  # as PyTorch flattens
    for at in (0, 3, 6):
        x = x @ arrays[f"classifier.{at}.weight"].T + arrays[f"classifier.{at}.bias"]
        x = np.maximum(x, 0) if at < 6 else x
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(images)), x, rtol=1e-4, atol=1e-4)


MODULE_NUMBERS = {  # as `print(model)` of torchvision shows them
    "vgg11": {"block1_conv1": 0, "block3_conv2": 8, "block5_conv2": 18},
    "vgg16": {"block2_conv1": 5, "block5_conv3": 28},
    "vgg16_bn": {"block1_bn2": 4, "block5_conv3": 40, "block5_bn3": 41},
    "vgg19_bn": {"block5_conv4": 49},
    "squeezenet": {"fire2_squeeze": "3.squeeze", "fire9_expand3x3": "12.expand3x3"},
    "squeezenet_v1_1": {"fire4_squeeze": "6.squeeze", "fire9_expand1x1": "12.expand1x1"},
    "alexnet": {"conv2": 3, "conv5": 10},
}


@pytest.mark.parametrize("name", MODULE_NUMBERS)
def test_module_numbers_of_torchvision(name):
    found = torch_names.NAME_TABLES[zoo.spec(name).family](outline(name))
    for layer, number in MODULE_NUMBERS[name].items():
        assert found[layer] == f"features.{number}"


@pytest.mark.parametrize(
    "name",
    ["alexnet", "googlenet", "resnet18", "resnet50_v1_5", "squeezenet", "vgg13_bn", "vit_tiny"],
)
def test_names_map_layers_to_modules_one_to_one(name):
    layers = outline(name, **({"auxiliary": True} if name == "googlenet" else {}))
    names = torch_names.NAME_TABLES[zoo.spec(name).family](layers)
    found = [names[layer.name] for layer in layers]
    assert len(set(found)) == len(found) == len(layers)


def cifar_shapes(blocks, projected=False, classes=10):
    """Returns the shapes of the tensors of akamaster/pytorch_resnet_cifar10."""
    shapes = resnet_shapes((blocks,) * 3, False, 16, classes)
    shapes["conv1.weight"] = (16, 3, 3, 3)
    shapes = {name: shape for name, shape in shapes.items() if projected or "down" not in name}
    new = {name.replace("downsample", "shortcut"): shape for name, shape in shapes.items()}
    return {name.replace("fc.", "linear."): shape for name, shape in new.items()}


@pytest.mark.parametrize("projected", [False, True])
def test_load_resnets_for_cifar(projected, tmp_path):
    shapes = {f"module.{name}": x for name, x in cifar_shapes(3, projected).items()}
    path = save_shapes(shapes, tmp_path / "resnet20.th")
    layers = outline("resnet20", shortcut="projection" if projected else "padding")
    entries = torch_conversion.convert_state_dict(formats.read(path), layers, path)
    assert {entry.name for entry in entries} == {layer.name for layer in layers}
    assert weights.count_matching(weights.match_by_name(entries, layers)) == len(layers)
    assert len(layers) == (43 if projected else 39)


def test_step_count_of_averaged_weights_is_ignored(tmp_path):
    shapes = {f"module.{name}": x for name, x in cifar_shapes(3).items()}
    path = save_shapes({"n_averaged": (), **shapes}, tmp_path / "x.pth")
    layers = outline("resnet20")
    entries = torch_conversion.convert_state_dict(formats.read(path), layers, path)
    assert weights.count_matching(weights.match_by_name(entries, layers)) == len(layers)


def test_unknown_shortcut_is_refused():
    with pytest.raises(UsageError, match="no shortcut named 'identity'; choose from padding, pro"):
        zoo.build("resnet20", shortcut="identity")


REFUSED = [
    (
        "resnet50",
        resnet_shapes((3, 4, 6, 3), True),
        r"conv1_conv has 1 .* 2 in the model.*of resnet50_v1_5",
    ),
    (
        "resnet34",
        resnet_shapes((2, 2, 2, 2), False),
        r"lacks conv2_block3_1_conv.*of resnet18; build",
    ),
    (
        "resnet18",
        resnet_shapes((3, 4, 6, 3), False),
        r"extra module layer1.2.conv1.*of resnet34; build",
    ),
    ("resnet18", vgg_shapes((2, 2, 3, 3, 3)), "they are of vgg16; build that"),
    ("vgg19", vgg_shapes((2, 2, 3, 3, 3)), "they are of vgg16; build that"),
    ("vgg11_bn", vgg_shapes((1, 1, 2, 2, 2)), "they are of vgg11; build that"),
    ("vgg11", {"features.0.weight": (64, 3, 11, 11)}, "they are of alexnet; build that"),
    (
        "resnet20",
        cifar_shapes(5),
        r"extra module layer1.3.conv1\): they are of resnet32; build that",
    ),
    ("resnet20", cifar_shapes(3, True), "they are of resnet20 with shortcut: projection; build"),
    ("resnet18", cifar_shapes(9), "they are of resnet56; build that"),
    ("resnet18", {"stem.weight": (3, 3)}, "family that cannot be converted; .*googlenet, resnet"),
    (
        "resnet50_v1_5",
        {**resnet_shapes((3, 4, 6, 3), True), "layer1.0.se.fc1.weight": (4, 4)},
        r"extra module layer1.0.se.fc1\), the most similar model is resnet50_v1_5: 99% of",
    ),
]


@pytest.mark.parametrize(("name", "shapes", "message"), REFUSED)
def test_weights_of_another_network_are_refused_with_its_name(name, shapes, message, tmp_path):
    path = save_shapes(shapes, tmp_path / "x.pth")
    with pytest.raises(UsageError, match=message) as error:
        outline(name, weights=path)
    assert "\n" not in str(error.value)


def test_unknown_network_is_compared_by_its_size(tmp_path):
    size = zoo.spec("mobilenet_025").parameters
    shapes = {"stem.weight": (size - 257 * 1000,), "classifier.weight": (10, 256)}
    path = save_shapes({**shapes, "classifier.bias": (10,)}, tmp_path / "x.pth")
    with pytest.raises(
        UsageError, match="cannot be converted, mobilenet_025 has about as many parameters; "
    ):
        zoo.build("resnet20", weights=path)


# Load results and preprocessing


def save_small_resnet(tmp_path, classes=3, **more):
    shapes = {**resnet_shapes((1, 1, 1, 1), False, 4, classes), **more}
    return save_shapes(shapes, tmp_path / "small.pth", 20_000)


SMALL = {"depths": (1, 1, 1, 1), "width": 4, "input_shape": (32, 32, 3)}


def test_load_result_lists_matched_skipped_and_unexpected(tmp_path):
    path = save_small_resnet(tmp_path, 5, **{"aux1.weight": (3, 3), "aux1.bias": (3,)})
    model = zoo.build("resnet18", num_classes=3, **SMALL, weights="random")
    loaded = weights.load(model, path)
    assert len(loaded.matched) == 24
    assert loaded.skipped == {"logits": "32x5 + 5 in the file, 32x3 + 3 here"}
    assert loaded.unexpected == ("aux1.weight", "aux1.bias")


def test_torch_head_is_not_loaded_into_a_new_head(tmp_path):
    widths = (2, 3, 2, 3, 5)
    path = save_shapes(vgg_shapes((1, 1, 2, 2, 2), widths, 6, 4, side=2), tmp_path / "x.pth", 999)
    options = {"widths": widths, "input_shape": (64, 64, 3)}
    model = zoo.build("vgg11.torchvision", num_classes=4, weights=path, **options)
    assert model.get_layer("logits").kernel.shape == (5, 4)
    torch_arrays = torch_files.read(path)["features.18.weight"]
    kernel = model.get_layer("block5_conv2").kernel.numpy()
    np.testing.assert_array_equal(kernel, torch_arrays.transpose(2, 3, 1, 0).astype("float32"))
    loaded = weights.load(model, path, fresh=("logits",))
    assert loaded.skipped == {"logits": "random initialization"}
    assert "classifier.0.weight" in loaded.unexpected


def pixels(model):
    return tuple(round(-value, 3) for value in np.ravel(model.get_layer("pixels").offset))


def test_state_dict_implies_pytorch_preprocessing(tmp_path):
    path = save_small_resnet(tmp_path)
    torch, plain = (123.675, 116.28, 103.53), (127.5,)
    assert pixels(zoo.build("resnet18", num_classes=3, **SMALL)) == plain
    assert pixels(zoo.build("resnet18", num_classes=3, **SMALL, weights=path)) == torch
    assert pixels(zoo.backbone("resnet18", **SMALL, weights=path)) == torch


def test_tag_with_other_preprocessing_refuses_a_state_dict(tmp_path):
    path = save_shapes(vgg_shapes((2, 2, 3, 3, 3)), tmp_path / "x.pth")
    with pytest.raises(
        UsageError, match=r"preprocessing 'caffe', the PyTorch weights .*'torch'; build vgg16"
    ):
        zoo.build("vgg16.imagenet", weights=path)


def test_googlenet_preprocessing_is_transform_input_of_torchvision():
    assert torch_conversion.infer_preprocessing("x.pth", zoo.spec("googlenet")) == "tf"
    assert zoo.spec("googlenet.torchvision").preprocessing == "tf"
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixel = np.array([0.1, 0.5, 0.9])
    again = (pixel - mean) / deviation * (deviation / 0.5) + (mean - 0.5) / 0.5  # `transform_input`
    np.testing.assert_allclose(again, (255 * pixel - 127.5) / 127.5)


def test_preprocessing_of_a_timm_vit_is_ambiguous(tmp_path):
    path = save_shapes({"patch_embed.proj.weight": (192, 3, 16, 16)}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"build vit_tiny.deit .* or vit_tiny.augreg"):
        torch_conversion.infer_preprocessing(path, zoo.spec("vit_tiny"))
    assert torch_conversion.infer_preprocessing(path, zoo.spec("vit_tiny.deit")) == "torch"
    assert torch_conversion.infer_preprocessing(path, zoo.spec("vit_tiny.augreg")) == "tf"
    path = save_shapes({"conv_proj.weight": (768, 3, 16, 16)}, tmp_path / "x.pth")
    assert torch_conversion.infer_preprocessing(path, zoo.spec("vit_base")) == "torch"


def test_other_files_keep_the_preprocessing():
    assert (
        torch_conversion.infer_preprocessing("x.weights.h5", zoo.spec("resnet50.imagenet"))
        == "caffe"
    )
    assert (
        torch_conversion.infer_preprocessing("x.pth", zoo.spec("lenet5"))
        == zoo.spec("lenet5").preprocessing
    )
    assert torch_conversion.infer_preprocessing(None, zoo.spec("resnet18.torchvision")) == "torch"
    assert torch_conversion.infer_preprocessing("random", zoo.spec("googlenet")) == "tf"


def test_sources_of_torchvision_tags():
    facts = zoo.spec("resnet18.torchvision").weights
    assert facts.source == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    for name in zoo.names(weights="torchvision"):
        spec = zoo.spec(name)
        assert spec.weights.source.endswith(f"-{spec.weights.digest[:8]}.pth")
        if spec.family != "vit":
            assert torch_conversion.infer_preprocessing("x.pth", spec) == spec.preprocessing
