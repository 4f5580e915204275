"""A zoo of image models for Keras 3.

import zoo

zoo.names("resnet*")                              # what there is
zoo.build("vgg16", num_classes=10)                # image -> logits
zoo.build("unet", num_classes=7)                  # image -> logits of each pixel
zoo.backbone("resnet20.cifar10")                  # image -> feature pyramid
zoo.surgery.head(model, num_classes=5)            # and other changes to any functional model
"""

from zoo import surgery
from zoo.builder import backbone, build
from zoo.catalog import Spec, names, register, spec
from zoo.errors import UsageError
from zoo.weights import Weights, class_names

__version__ = "0.1.0"

__all__ = [
    "Spec",
    "UsageError",
    "Weights",
    "backbone",
    "build",
    "class_names",
    "names",
    "register",
    "spec",
    "surgery",
]
