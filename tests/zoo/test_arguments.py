"""Invalid arguments of public functions: each raises a `UsageError` with a one-line message."""

from __future__ import annotations

import pytest

import tasks
import zoo
from zoo import flops, model_files, surgery, weights
from zoo.errors import UsageError

NAN = float("nan")
VALUES = (None, 0.5, "x", [], {}, NAN, -1, 10**30, (1, 2, 3, 4), b"x", True, object())


@pytest.fixture(scope="module")
def model():
    return zoo.build("lenet5", num_classes=2)


CALLS = {  # by name of the argument: calls with a model and a value
    "name of build": lambda model, value: zoo.build(value),
    "name of backbone": lambda model, value: zoo.backbone(value),
    "name of spec": lambda model, value: zoo.spec(value),
    "name of class_names": lambda model, value: zoo.class_names(value),
    "name of a task": lambda model, value: tasks.get(value),
    "input_shape": lambda model, value: zoo.build("lenet5", input_shape=value),
    "input_shape of a backbone": lambda model, value: zoo.backbone("resnet20", input_shape=value),
    "channels": lambda model, value: zoo.build("lenet5", input_shape=(32, 32, value)),
    "num_classes": lambda model, value: zoo.build("lenet5", num_classes=value),
    "classes": lambda model, value: zoo.build("lenet5", classes=value),
    "weights": lambda model, value: zoo.build("lenet5", weights=value),
    "weights of a backbone": lambda model, value: zoo.backbone("resnet20", weights=value),
    "option of a builder": lambda model, value: zoo.build("mlp", widths=value),
    "rate of a builder": lambda model, value: zoo.build("mlp", dropout=value),
    "pattern of names": lambda model, value: zoo.names(value),
    "kind of names": lambda model, value: zoo.names(kind=value, weights=value),
    "model of head": lambda model, value: surgery.head(value, 3),
    "num_classes of head": surgery.head,
    "dropout of head": lambda model, value: surgery.head(model, 3, dropout=value),
    "model of resize": lambda model, value: surgery.resize(value, (32, 32)),
    "size": surgery.resize,
    "height": lambda model, value: surgery.resize(model, (value, 32)),
    "model of channels": lambda model, value: surgery.channels(value, 3),
    "count of channels": surgery.channels,
    "model of fold": lambda model, value: surgery.fold(value),
    "dtype of fold": surgery.fold,
    "model of absorb": lambda model, value: surgery.absorb(value),
    "model of flatten": lambda model, value: surgery.flatten(value),
    "model of split": lambda model, value: surgery.split(value),
    "trainable of split": surgery.split,
    "model of stages": lambda model, value: surgery.stages(value),
    "model of depths": lambda model, value: surgery.depths(value),
    "model of freeze": lambda model, value: surgery.freeze(value, "all"),
    "layers of freeze": surgery.freeze,
    "model of select_layers": lambda model, value: surgery.select_layers(value, "all"),
    "layers of select_layers": surgery.select_layers,
    "file of load": lambda model, value: model_files.load(value),
    "model of save": lambda model, value: model_files.save(value, "x.keras", {}),
    "file of save": lambda model, value: model_files.save(model, value, {}),
    "metadata of save": lambda model, value: model_files.save(model, "x.keras", {"classes": value}),
    "model of weights": lambda model, value: weights.load(value, "x.npz"),
    "file of weights": weights.load,
    "model of count": lambda model, value: flops.count_params_and_flops(value),
}
INVALID = {  # values that are always invalid
    **{name: VALUES for name in CALLS if name.startswith(("name of", "model of", "file of"))},
    "input_shape": (5, "x", [], {}, NAN, -1, 10**30, (1, 2, 3, 4), (32, 32, 0), (32, NAN, 1)),
    "channels": (None, 0, 0.5, "x", [], NAN, -1, 10**30),
    "num_classes": (0, 0.5, "x", [], {}, NAN, -1, 10**30, True),
    "weights": (5, "x", [], {}, NAN, b"x", object()),
    "option of a builder": (None, 5, "x", NAN, -1, 10**30, [NAN], ["x"]),
    "rate of a builder": (5, "x", NAN, -1, [1]),
    "pattern of names": (None, 5, [], {}, NAN, b"x"),
    "num_classes of head": (None, 0, 0.5, "x", [], {}, NAN, -1, 10**30, True),
    "dropout of head": (5, 1, "x", [], {}, NAN, -1, True),
    "size": (None, 0, 5, "x", [], {}, NAN, (1, 2, 3), (0, 32), (NAN, 32), (-1, 32)),
    "count of channels": (None, 0, 0.5, "x", [], {}, NAN, -1, 10**30),
    "layers of freeze": (None, {}, NAN, -1, 10**30, [1], object()),
    "layers of select_layers": (None, [], {}, NAN, -1, 10**30, object()),
}


@pytest.mark.parametrize("name", CALLS)
def test_invalid_arguments_raise_only_usage_errors(name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages = []
    for value in VALUES:
        try:
            CALLS[name](model, value)
        except UsageError as error:
            messages.append(str(error))
    assert not [text for text in messages if "\n" in text]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_arguments_are_refused(name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in INVALID[name]:
        with pytest.raises(UsageError):
            CALLS[name](model, value)
