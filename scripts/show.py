"""Shows the spec and the layers of a model: zoo show resnet50.imagenet."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import zoo
from scripts._output import format_count, format_table, spec_dict
from tasks.report import model_graph, model_plot
from zoo.atomic_files import atomic_write
from zoo.lazy import keras

MAX_LAYERS = 40  # of a network whose layers are listed without --layers
NUMERIC_COLUMNS = ("times", "layers", "parameters", "multiply-adds")


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument("name", metavar="NAME", help="model name; see `zoo list`")
    parser.add_argument(
        "--layers", action="store_true", help="list all layers, even of a large network"
    )
    parser.add_argument("--plot", metavar="FILE", help="also plot the network to this SVG file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints the spec, the stages, and the layers or, of a large network, its blocks."""
    spec = zoo.spec(args.name)
    calls, stages = outline(spec)
    if args.plot:
        with atomic_write(Path(args.plot)) as partial:
            partial.write_text(model_plot.model_svg(spec.name, calls), encoding="utf-8")
    if args.json:
        layers = [vars(call) for call in calls]
        print(json.dumps({**spec_dict(spec), "stage_shapes": stages, "layers": layers}, indent=1))
        return
    print(
        "\n\n".join(
            filter(
                None, (format_spec(spec), format_stages(stages), format_layers(calls, args.layers))
            )
        )
    )
    if args.plot:
        print(f"\npicture: {args.plot}")


def outline(spec):
    """Returns the layer calls of a model, and the name and shape of each of its stages.

    The weights get shapes but no values, so that the largest model is built in a second.
    """
    with keras.StatelessScope(initialize_variables=False):
        calls = model_graph.calls(zoo.build(spec.name, weights="random"))
        stages = zoo.backbone(spec.name, weights="random").output if spec.stages else {}
    return calls, {name: tuple(tensor.shape[1:]) for name, tensor in stages.items()}


def format_spec(spec):
    """Returns the spec of a model as lines of a name and a value."""
    image = len(spec.input_shape) > 2
    minimum = f", at least {spec.min_size} x {spec.min_size}" if image else ""
    known = {
        "kind": spec.kind,
        "family": spec.family,
        "paper": spec.paper,
        "input": format_shape(spec.input_shape) + minimum,
        "preprocessing": spec.preprocessing,
        "classes": spec.num_classes,
        "parameters": f"{spec.parameters:,}" if spec.parameters is not None else None,
        "FLOPs": f"{format_count(spec.flops)} per input" if spec.flops is not None else None,
    }
    if spec.weights:
        known |= {
            "weights": spec.weights.source or "not downloadable; pass --weights FILE",
            "licence": spec.weights.licence,
            **{
                name.replace("_", " "): f"{value:.1%}"
                for name, value in spec.weights.figures.items()
            },
            "measured on": spec.weights.protocol,
            "resize": spec.weights.resize,
            "learning rate": f"{spec.weights.learning_rate:g} for fine-tuning",
        }
    docstring = spec.builder.__doc__ or ""  # absent with `python -OO`
    summary = textwrap.fill(docstring.strip().partition("\n")[0], 98)
    lines = [f"{name:<15}{value}" for name, value in known.items() if value not in ("", None)]
    options = f"options: help(zoo.spec({spec.name!r}).builder)"
    return "\n".join([spec.name, summary, "", *lines, "", options])


def format_stages(stages):
    """Returns the feature pyramid as lines of a name and a shape."""
    return "\n".join(f"{name:<15}{format_shape(shape)}" for name, shape in stages.items())


def format_layers(calls, every):
    """Returns the table of all layers or, of a large network unless `every`, of its blocks."""
    if every or len(calls) <= MAX_LAYERS:
        columns = ("layer", "kind", "output", "parameters", "multiply-adds")
        return format_table(
            columns, [(c.name, c.kind, *cost_cells([c])) for c in calls], NUMERIC_COLUMNS
        )
    columns = ("block", "times", "layers", "output", "parameters", "multiply-adds")
    rows = [
        (same[0].name, str(len(same)), str(len(same[0].calls)), *cost_cells(same))
        for group in model_graph.group_repeats(model_graph.blocks(calls))
        for same in zip(*group, strict=True)
    ]
    hint = f"{len(calls)} layers; --layers lists them all, --plot FILE.svg draws them"
    return f"{format_table(columns, rows, NUMERIC_COLUMNS)}\n\n{hint}"


def cost_cells(parts):
    """Returns the cells of a layer or block: output shape, parameters and multiply-adds."""
    parameters = sum(part.parameters for part in parts)
    work = sum(part.multiply_adds for part in parts)
    return format_shape(parts[0].shape), f"{parameters:,}", f"{work:,}"


def format_shape(shape):
    """Returns a shape as text, such as `224 x 224 x 3`."""
    return " x ".join("any" if side is None else str(side) for side in shape)
