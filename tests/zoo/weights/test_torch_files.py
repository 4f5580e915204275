"""PyTorch files read without PyTorch: valid and malicious files, and the names of tensors."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import keras
import numpy as np
import pytest

import zoo
from zoo import graphs, weights
from zoo.errors import UsageError
from zoo.weights import formats, torch_conversion, torch_files, torch_names

# An implementation of `torch.save`, so that these tests do not need PyTorch

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u1": "Byte", "b1": "Bool"}


class Storage:
    def __init__(self, array, kind=None, length=None):
        self.array = np.ascontiguousarray(array).ravel()
        self.kind = kind or KINDS[self.array.dtype.str[1:]]
        self.length = self.array.size if length is None else length


class Tensor:
    def __init__(self, storage, sizes, strides=None, offset=0, parameter=False):
        if strides is None:
            strides = [int(np.prod(sizes[index + 1 :])) for index in range(len(sizes))]
        self.parameter = parameter
        self.view = (
            storage,
            offset,
            tuple(sizes),
            tuple(strides),
            False,
            collections.OrderedDict(),
        )

    def __reduce__(self):
        utils = sys.modules["torch._utils"]
        if self.parameter:
            plain = Tensor(self.view[0], self.view[2], self.view[3], self.view[1])
            return utils._rebuild_parameter, (plain, True, collections.OrderedDict())
        return utils._rebuild_tensor_v2, self.view


@contextlib.contextmanager
def names_of_torch():
    """Provides the modules that `pickle` looks names up in when it writes them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in (*KINDS.values(), "BFloat16"):
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module


def pickled(content, protocol=2):
    """Returns the pickle of a checkpoint and its storages in order."""
    storages, out = [], io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            if thing not in storages:
                storages.append(thing)
            kind = getattr(sys.modules["torch"], f"{thing.kind}Storage")
            return "storage", kind, str(storages.index(thing)), "cpu", thing.length, *extra

    extra = ()
    with names_of_torch():
        Pickler(out, protocol).dump(content)
    return out.getvalue(), storages


def save_zip(content, path, protocol=2, pack=zipfile.ZIP_STORED):
    program, storages = content if isinstance(content, tuple) else pickled(content, protocol)
    with zipfile.ZipFile(path, "w", pack) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", "little")
        for index, storage in enumerate(storages):
            archive.writestr(f"archive/data/{index}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")


def save_legacy(content, path, protocol=2):
    program, storages = content if isinstance(content, tuple) else pickled(content, protocol)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            pickle.dump(value, file, 2)
        file.write(program)
        pickle.dump([str(index) for index in range(len(storages))], file, 2)
        for storage in storages:
            file.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())


SAVE = {"zip": save_zip, "legacy": save_legacy}


@pytest.fixture(params=SAVE)
def save(request):
    return SAVE[request.param]


def tensor(array, **options):
    return Tensor(Storage(array), np.shape(array), **options)


def sample():
    """Returns a state dict with tensors of all kinds, and the expected arrays."""
    random = np.random.default_rng(0)
    block = random.normal(size=24).astype("float32")
    shared = Storage(block)
    upper = (random.normal(size=6).astype("float32").view("<u4") >> 16).astype("<u2")
    content = collections.OrderedDict(
        plain=Tensor(shared, (4, 6)),
        turned=Tensor(shared, (6, 4), (1, 6)),
        inner=Tensor(shared, (2, 3), (6, 2), offset=7),
        parameter=tensor(random.normal(size=(2, 1, 3)).astype("float32"), parameter=True),
        half=tensor(random.normal(size=5).astype("float16")),
        double=tensor(random.normal(size=5)),
        brain=Tensor(Storage(upper, "BFloat16"), (2, 3)),
        count=tensor(np.array(7)),
        mask=tensor(np.array([True, False])),
        empty=Tensor(Storage(np.zeros(0, "float32")), (0, 4)),
    )
    content._metadata = {"": {"version": 1}}
    rows = block.reshape(4, 6)
    arrays = {
        "plain": rows,
        "turned": rows.T,
        "inner": np.array([[block[7 + 6 * i + 2 * j] for j in range(3)] for i in range(2)]),
        "parameter": content["parameter"].view[0].array.reshape(2, 1, 3),
        "half": content["half"].view[0].array,
        "double": content["double"].view[0].array,
        "brain": (upper.astype("<u4") << 16).view("<f4").reshape(2, 3),
        "count": np.array(7),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 4), "float32"),
    }
    return content, arrays


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_read_tensors_of_every_dtype(save, protocol, tmp_path):
    content, arrays = sample()
    save(content, tmp_path / "x.pth", protocol)
    found = torch_files.read(tmp_path / "x.pth")
    assert list(found) == list(arrays)
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert found[name].dtype == expected.dtype


def test_state_dict_is_found_in_a_checkpoint(save, tmp_path):
    inner, ema = ({"w": tensor(np.full(3, value, "float32"))} for value in (1, 2))
    others = {
        "epoch": 3,
        "best": 0.5,
        "name": "x",
        "done": True,
        "lr": [1e-3, None],
        "shape": (1, 2),
    }
    save(
        {**others, "optimizer": {"state": {0: dict(inner)}}, "state_dict": inner},
        tmp_path / "a.pth",
    )
    assert torch_files.read(tmp_path / "a.pth")["w"].tolist() == [1, 1, 1]
    save({"model": inner, "model_ema": ema, **others}, tmp_path / "b.pth")
    assert torch_files.read(tmp_path / "b.pth")["w"].tolist() == [2, 2, 2]
    save({"epoch": 3, "w": inner["w"]}, tmp_path / "c.pth")
    assert list(torch_files.read(tmp_path / "c.pth")) == ["w"]


def refused(path, match):
    with pytest.raises(UsageError, match=match) as error:
        formats.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


# Malicious files


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"w": x}, lambda x: {"epoch": [x]}])
def test_malicious_pickle_is_refused_and_not_executed(save, wrap, protocol, tmp_path):
    mark = tmp_path / "mark"
    content = wrap(Malicious(os.system, f"touch {mark}"))
    save(content, tmp_path / "x.pth", protocol)
    what = f"{os.system.__module__}.system, which is refused" if protocol > 1 else ""
    refused(tmp_path / "x.pth", what or "which is refused|opcode DICT")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(content, protocol))
    refused(tmp_path / "bare.bin", what or "which is refused|opcode DICT")
    assert not mark.exists()
    os.system(f"touch {mark}")  # the call would have had this effect
    assert mark.exists()


GLOBAL = b"cbuiltins\neval\n"
PROGRAMS = {
    "global": b"\x80\x02" + GLOBAL + b"X\x01\x00\x00\x001\x85R.",
    "stack global": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
    "instance": b"(X\x01\x00\x00\x001ibuiltins\neval\n.",
    "object": b"(" + GLOBAL + b"X\x01\x00\x00\x001o.",
    "new object": b"\x80\x02" + GLOBAL + b")\x81.",
    "extension": b"\x80\x02\x82\x01.",
    "attribute of an allowed one": b"\x80\x04\x8c\x05torch\x8c\x10Size.__class__.x\x93.",
    "call of a class": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "call of a number": b"\x80\x02K\x01)R.",
    "arguments in a word": b"\x80\x02ctorch\nSize\nX\x01\x00\x00\x001R.",
    "attributes of a function": b"\x80\x02ctorch\nSize\n}X\x01\x00\x00\x00ac" + GLOBAL[1:] + b"sb.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a large claim": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
    "a large place": b"\x80\x02}r\xff\xff\xff\xff.",
    "a mark without end": b"\x80\x02((((.",
    "nothing on the stack": b"\x80\x02R.",
    "a storage of nothing": b"\x80\x02K\x01Q.",
    "tuples too deep to hash": b"\x80\x02})" + b"\x85" * 30_000 + b"K\x01s.",
    "a table in itself": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_unsupported_pickle_programs_are_refused(save, program, tmp_path):
    save((PROGRAMS[program], []), tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "cannot be read as weights")


TEN = Storage(np.arange(10, dtype="float32"))
IMPOSSIBLE = {
    "beyond the end": Tensor(TEN, (11,)),
    "beyond by its offset": Tensor(TEN, (5,), offset=6),
    "beyond by its strides": Tensor(TEN, (2, 2), (9, 1)),
    "far beyond": Tensor(TEN, (1 << 40, 1 << 40)),
    "one number many times": Tensor(TEN, (1 << 40,), (0,)),
    "backwards": Tensor(TEN, (3,), (-1,), offset=4),
    "of negative size": Tensor(TEN, (-3, -3)),
    "before the start": Tensor(TEN, (3,), offset=-2),
    "of words": Tensor(TEN, ("a",), (1,)),
    "of truths": Tensor(TEN, (True,), (1,)),
    "of too few strides": Tensor(TEN, (2, 2), (1,)),
    "of many sides": Tensor(TEN, (1,) * 200),
    "of no storage": Tensor("storage", (1,)),
    "of a storage that claims more": Tensor(
        Storage(np.arange(10, dtype="float32"), length=1 << 50), (1 << 50,)
    ),
    "of a storage less than empty": Tensor(Storage(np.zeros(3, "float32"), length=-3), (1,)),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_invalid_tensor_is_refused(save, name, tmp_path):
    save({"w": IMPOSSIBLE[name]}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "cannot be read as weights")


@pytest.mark.parametrize("left", [*np.linspace(0, 0.999, 12), "almost"])
def test_truncated_file_is_refused(save, left, tmp_path):
    save(sample()[0], tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    keep = len(whole) - 1 if left == "almost" else int(left * len(whole))
    (tmp_path / "x.pth").write_bytes(whole[:keep])
    refused(tmp_path / "x.pth", "cannot be read as weights")


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.check) for seed in range(8, 40))]
)
def test_random_damage_raises_only_usage_errors(save, seed, tmp_path):
    save(sample()[0], tmp_path / "x.pth")
    random, content = np.random.default_rng(seed), bytearray((tmp_path / "x.pth").read_bytes())
    start = random.integers(len(content))
    content[start : start + 8] = random.bytes(len(content[start : start + 8]))
    (tmp_path / "x.pth").write_bytes(content)
    with contextlib.suppress(UsageError):  # damaged values in a legacy file are not detected
        formats.read(tmp_path / "x.pth")


def test_compressed_torch_archive_is_refused(tmp_path):
    bomb = {"w": Tensor(Storage(np.zeros(1 << 20, "float32")), (1 << 20,))}
    save_zip(bomb, tmp_path / "x.pth", pack=zipfile.ZIP_DEFLATED)
    refused(
        tmp_path / "x.pth", "data/0 is missing or compressed|byteorder is missing or compressed"
    )


def test_archives_without_tensors_are_refused(save, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "x.pt", r"has no data.pkl, so it is not a PyTorch file")
    save({"epoch": 3}, tmp_path / "y.pt")
    refused(tmp_path / "y.pt", "holds no tensors by name")


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
    assert loaded.skipped == {"logits": "fresh"}
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
