"""Feature extractor of the perceptual losses: layers of a frozen model of the zoo."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import zoo
from zoo import graphs
from zoo.errors import unknown_name_error
from zoo.lazy import keras

POOLINGS = ("max", "average")

# Content and style layers of the papers, for VGG. Models without these layers use their stages.
GATYS_LAYERS = (  # Gatys et al., 2016, section 3.1
    ("block4_conv2",),
    tuple(f"block{number}_conv1" for number in range(1, 6)),
)
JOHNSON_LAYERS = (  # Johnson et al., 2016, section 3.2 and figure 3
    ("block3_conv3",),
    ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3"),
)


@dataclasses.dataclass(frozen=True)
class FeatureExtractor:
    """The options of a feature extractor.

    Attributes:
        backbone: a model of the zoo that has stages.
        weights: weights file in place of the tag's source, or `None`.
        pooling: one of `POOLINGS`: max pooling as in the model, or average pooling instead.
        content, style: names of layers or stages; if empty, those of `paper`.
        paper: `GATYS_LAYERS` or `JOHNSON_LAYERS`.
        seed: seed of random weights, so that an evaluation has those of the training.
    """

    backbone: str
    weights: str | None
    pooling: str
    content: tuple[str, ...]
    style: tuple[str, ...]
    paper: tuple
    seed: int = 0

    def build(self):
        """Builds the feature extractor.

        Returns:
            A frozen `keras.Model` from images of any size in [0, 255] to a dict of feature maps by
            layer, and the names of the content and of the style layers.

        Raises:
            UsageError: there is no such model, or it has no such layer.
        """
        with _initializer_seeds(self.seed):
            backbone = zoo.backbone(
                self.backbone, input_shape=(None, None, 3), weights=self.weights
            )
        net = graphs.flatten(backbone)
        if self.pooling == "average":
            net = graphs.rebuild(net, _to_average_pooling)
        tensors = {node.operation.name: node.output_tensors[0] for node in graphs.nodes(net)}
        stages = list(net.output)
        tensors.update(net.output)
        content, style = self._layers(tensors, stages)
        for name in (*content, *style):
            if name not in tensors or len(tensors[name].shape) != 4:
                layers = [key for key in tensors if len(tensors[key].shape) == 4]
                raise unknown_name_error(
                    f"layer or stage of {self.backbone}", name, [*stages, *layers]
                )
        names = dict.fromkeys((*content, *style))
        outputs = {name: tensors[name] for name in names}
        model = keras.Model(net.input, outputs, name="feature_extractor")
        model.trainable = False
        return model, content, style

    def _layers(self, tensors, stages):
        """Returns the names of the content and of the style layers."""
        content, style = self.paper
        if not {*content, *style} <= set(tensors):
            content, style = (stages[len(stages) // 2],), tuple(stages)
        return self.content or content, self.style or style


def _to_average_pooling(node, *args, **kwargs):
    """Calls a node, with average instead of max pooling (Gatys et al., 2016, section 2)."""
    layer = node.operation
    if isinstance(layer, keras.layers.MaxPooling2D):
        layer = keras.layers.AveragePooling2D(
            layer.pool_size, layer.strides, layer.padding, name=layer.name
        )
    return layer(*args, **kwargs)


@contextlib.contextmanager
def _initializer_seeds(seed):
    """Seeds the initializers of layers created within, without changing those created later."""
    state = random.getstate()  # initializers of Keras draw their seeds from this generator
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
