"""Stages inferred from the graph, and layers selected by stage, number and name."""

from __future__ import annotations

import keras
import pytest

import zoo
from tests.zoo.surgery.example_models import (
    layer_names,
    transfer_model,
)
from zoo import UsageError, graphs, surgery

NETWORKS = ("lenet5", "vgg11", "nin_imagenet", "squeezenet", "googlenet", "resnet20")
NETWORKS += ("resnet18_v2", "vit_tiny", "mobilenet_v2", "mobilenet_v3_small", "convnext_tiny")
SIMILAR = ("alexnet", "convnet", "nin", "googlenet_paper", "resnet18", "resnet20_v2")
SIMILAR += ("mobilenet_025", "efficientnet_b0", "efficientnet_v2_b0")


@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.check) for name in SIMILAR)]
)
def test_stages_are_inferred_from_the_graph(name):
    spec = zoo.spec(name)
    size = max(spec.min_size, 32)
    options = {"input_shape": (size, size, spec.input_shape[-1])}
    with keras.StatelessScope(initialize_variables=False):  # the graph is all that is needed
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
            expected = needed(backbone, backbone.output[stage])
            # ConvNeXt has its normalization in the same block of Keras as the convolution.
            extra = {name for name in needed(net, x) - expected if "downsampling_layer" not in name}
            assert not extra, stage
            assert not expected - needed(net, x), stage


def test_select_layers_by_stage_number_and_name():
    model = zoo.build("resnet20", input_shape=(None, None, 3))

    def chosen(what):
        return layer_names(surgery.select_layers(model, what))

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
    model = transfer_model()
    model.layers[2].trainable = False
    trainable = surgery.freeze(model, "Conv_1*")
    assert layer_names(trainable) == ["Conv_1", "Conv_1_bn"]
    assert {v.path.split("/")[-2] for v in model.trainable_variables} == {"Conv_1", "Conv_1_bn"}
