"""A model zoo for Keras 3.

import zoo

zoo.names("resnet*")                              # list models
zoo.build("vgg16", num_classes=10)                # image -> logits
zoo.build("unet", num_classes=7)                  # image -> logits per pixel
zoo.backbone("resnet20.cifar10")                  # image -> feature pyramid
zoo.surgery.head(model, num_classes=5)            # change any functional model

Public names are imported on first use, so that `import zoo` takes milliseconds.
"""

from __future__ import annotations

from zoo import keras_registration

TYPE_CHECKING = False  # as `typing.TYPE_CHECKING`; importing `typing` would take longer than this
if TYPE_CHECKING:
    from zoo import surgery
    from zoo.builder import backbone, build
    from zoo.catalog import Spec, names, register, spec
    from zoo.errors import UsageError
    from zoo.hypermodels import hypermodel
    from zoo.weights import Weights, class_names

__version__ = "0.1.0"

__all__ = [
    "Spec",
    "UsageError",
    "Weights",
    "backbone",
    "build",
    "class_names",
    "hypermodel",
    "names",
    "register",
    "spec",
    "surgery",
]

_MODULES = {  # the module of each name; other names are modules of this package
    "Spec": "catalog",
    "UsageError": "errors",
    "Weights": "weights",
    "backbone": "builder",
    "build": "builder",
    "class_names": "weights",
    "hypermodel": "hypermodels",
    "names": "catalog",
    "register": "catalog",
    "spec": "catalog",
}

keras_registration.register_layers()


def __getattr__(name):
    import importlib

    module = f"{__name__}.{_MODULES.get(name, name)}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(found, name) if name in _MODULES else found
    return value


def __dir__():
    return sorted(__all__)  # what completion and `help` show: no module of the implementation
