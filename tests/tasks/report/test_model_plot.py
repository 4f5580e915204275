"""Graph and plot of a network: costs equal those of the spec, blocks those of the paper."""

from __future__ import annotations

import functools
import re
from xml.etree import ElementTree

import keras
import pytest

import zoo
from tasks.report import model_graph, model_plot

SIGN = "\N{MULTIPLICATION SIGN}"


@functools.cache
def calls(name):
    with keras.StatelessScope(initialize_variables=False):
        return model_graph.calls(zoo.build(name, weights="random"))


def groups_of(name):
    return model_graph.group_repeats(model_graph.blocks(calls(name)))


def labels(*nodes):
    """Returns labels with the multiplication sign between the sides of a kernel."""
    return tuple(node.replace("*", SIGN) for node in nodes)


@pytest.mark.xdist_group("model_graphs")
@pytest.mark.parametrize(
    "name",
    ["lenet5", "resnet20", "mobilenet_v2", pytest.param("convnext_tiny", marks=pytest.mark.check)],
)
def test_costs_of_layers_add_up_to_the_spec(name):
    found, spec = calls(name), zoo.spec(name)
    assert sum(call.parameters for call in found) == spec.parameters
    assert 2 * sum(call.multiply_adds for call in found) == spec.flops
    for number, call in enumerate(found):
        assert all(source < number for source in call.inputs)
    blocks = model_graph.blocks(found)
    assert [number for block in blocks for number in block.calls] == list(range(len(found)))
    assert sum(block.parameters for block in blocks) == spec.parameters
    assert blocks[-1].shape == (spec.num_classes,)


def test_parameters_of_a_shared_layer_count_once_and_its_flops_twice():
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)
    first, second = model_graph.calls(keras.Model(image, layer(layer(image))))[1:]
    assert (first.parameters, second.parameters) == (81, 0)
    assert first.multiply_adds == second.multiply_adds == 8 * 8 * 81


def test_blocks_of_vgg16():
    groups = groups_of("vgg16")
    # Columns of table 1: of the five blocks, the last two are the same.
    assert [len(group) for group in groups] == [1, 1, 1, 2, 1]
    assert [len(group[0][0].nodes) for group in groups] == [2 + 1, 2 + 1, 3 + 1, 3 + 1, 3]
    shapes = [group[0][0].shape for group in groups]
    assert shapes == [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (1000,)]


def test_blocks_of_resnet50():
    groups = groups_of("resnet50")
    times = [len(group) for group in groups]
    # Table 1: 3, 4, 6 and 3 blocks; the first of each differs, as it has a projection.
    assert times == [1, 1, 2, 1, 3, 1, 5, 1, 2, 1]
    (plain,) = groups[4][0]
    assert plain.name == "conv3_block2"
    assert plain.nodes == labels("1*1, 128", "3*3, 128", "1*1, 512", "+")
    assert plain.edges == ((-1, 0), (0, 1), (1, 2), (-1, 3), (2, 3))  # with the shortcut
    (first,) = groups[3][0]
    assert first.name == "conv3_block1"
    wanted = labels("+", "1*1, 128 /2", "1*1, 512", "1*1, 512 /2", "3*3, 128")
    assert tuple(sorted(first.nodes)) == wanted


def test_blocks_are_repeated_together():
    groups = groups_of("vit_tiny")
    encoder = max(groups, key=len)
    assert len(encoder) == 12
    assert [block.nodes[-1] for block in encoder[0]] == ["+", "+"]  # attention, then the MLP


def test_the_longest_repeat_is_grouped():
    def block(label):
        return model_graph.Block("", (), (label,), ((-1, 0),), (), 0, 0)

    groups = model_graph.group_repeats([block(letter) for letter in "aabababcc"])
    found = ["".join(b.nodes[0] for b in group[0]) + str(len(group)) for group in groups]
    assert found == ["a1", "ab3", "c2"] or found == ["a2", "ba2", "b1", "c2"]


def boxes(tree, kind):
    return [element for element in tree.iter() if element.get("class") == kind]


@pytest.mark.xdist_group("model_graphs")
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "googlenet", "mobilenet_v2"])
def test_boxes_are_drawn_once_and_do_not_overlap(name):
    found = calls(name)
    picture = model_plot.model_svg(name, found)
    tree = ElementTree.fromstring(picture.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
    groups = model_graph.group_repeats(model_graph.blocks(found))
    wanted = [node for group in groups for block in group[0] for node in block.nodes]
    assert sorted(text.text for text in boxes(tree, "inside")) == sorted(wanted)
    assert [t.text for t in boxes(tree, "times")] == [
        f"{SIGN} {len(g)}" for g in groups if len(g) > 1
    ]
    width, height = float(tree.get("width")), float(tree.get("height"))
    places = [
        tuple(float(box.get(key)) for key in ("x", "y", "width", "height"))
        for box in boxes(tree, "box")
    ]
    for index, (x, y, w, h) in enumerate(places):
        assert x >= 200
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in places[:index]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    assert f"{zoo.spec(name).parameters:,} parameters" in "".join(tree.itertext())


@pytest.mark.xdist_group("model_graphs")
def test_branches_are_side_by_side():
    picture = model_plot.model_svg("googlenet", calls("googlenet"))
    tree = ElementTree.fromstring(picture.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
    module = next(
        group for group in tree.iter("g") if group.find("text").text.startswith("inception3a")
    )
    rows = {}
    for box, text in zip(boxes(module, "box"), boxes(module, "inside"), strict=True):
        rows.setdefault(box.get("y"), []).append((float(box.get("x")), text.text))
    branches = sorted([text for _, text in sorted(row)] for row in rows.values())
    # Figure 2b, with the widths of table 1; the concatenation is at the end of the first branch.
    assert sorted(len(branch) for branch in branches) == [1, 2, 2, 3]
    assert [*labels("1*1, 64")] in branches
    assert [*labels("max 3*3", "1*1, 32")] in branches
    assert sum("concat" in branch for branch in branches) == 1


def test_edges_do_not_cross_boxes():
    """Edges change lanes between columns; an edge along a lane shares it with no box."""
    block = model_graph.Block(
        "b",
        (),
        ("a", "b", "c", "d"),
        ((-1, 0), (0, 1), (1, 2), (-1, 3), (0, 3), (2, 3)),
        (4,),
        0,
        0,
    )
    edges, columns = model_plot._insert_dummy_nodes(block)
    lanes = model_plot._assign_lanes(edges, columns)
    assert all(
        columns[after] - (columns[before] if before >= 0 else -1) == 1 for before, after in edges
    )
    assert len({(lane, column) for lane, column in zip(lanes, columns, strict=True)}) == len(lanes)
    assert lanes[:4] == [0, 0, 0, 0]
    assert max(lanes) == 2


def test_complex_blocks_are_summarised_in_text():
    nodes = labels("1*1, 8", "+") * 30
    block = model_graph.Block("cells", tuple(range(90)), nodes, (), (7, 7, 8), 5, 9)
    parts, _, _ = model_plot._summarize_block(block, 0)
    text = re.sub("<[^>]+>", " ", " ".join(parts))
    assert "90 layers" in text
    assert f"30 of 1{SIGN}1" in text
