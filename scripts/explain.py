"""Explains predictions with saliency maps: zoo explain runs/NAME photo.jpg.

Writes a saliency map for each image to --out: an overlay, NAME-METHOD.png, and the map,
NAME-METHOD.npy. It explains the predicted class of a classifier, the largest class of a segmenter,
or each box of a detector (NAME-1-METHOD.png, ...). MODEL is a run folder, a .keras file or a
pretrained classifier; IMAGE is a file, a folder or a pattern.
"""

from __future__ import annotations

import json
import sys

from zoo import terminal

METHODS = (
    "auto",
    *("grad_cam", "hires_cam", "grad_cam_plus_plus"),
    *("integrated_gradients", "occlusion", "rise", "attention_rollout"),
)

SHARES = ("probability", "share", "score")  # of a class, of its pixels, of a box


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "model", metavar="MODEL", help="run folder, .keras file or pretrained classifier"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder or pattern")
    parser.add_argument(
        "--method",
        default=METHODS[0],
        metavar="NAME",
        help=f"{', '.join(METHODS)} (default: auto, by the type of the model)",
    )
    parser.add_argument(
        "--class",
        dest="label",
        metavar="NAME",
        help="class to explain (default: the predicted class)",
    )
    parser.add_argument(
        "--out", default="explanations", metavar="DIR", help="output folder (default: explanations)"
    )
    parser.add_argument("--weights", metavar="FILE", help="weights for a pretrained model")
    parser.add_argument(
        "--input",
        dest="inputs",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of a classifier with several inputs: the value of another input than the image, a "
        "number, several (0.5,1,0) or a .npy file; once for each input",
    )
    parser.add_argument(
        "--faithfulness",
        action="store_true",
        help="compute deletion and insertion metrics, and those of a random map for comparison",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Writes the maps and prints a line per image."""
    from tasks.deploy import explain
    from tasks.explain import fixed_inputs
    from zoo.errors import UsageError

    rows = explain.explain(
        args.model,
        args.images,
        args.out,
        method=args.method,
        label=args.label,
        weights=args.weights,
        faithful=args.faithfulness,
        inputs=fixed_inputs.parse_inputs(args.inputs),
    )
    if all("error" in row for row in rows):
        first = f"{rows[0]['path']}: {rows[0]['error']}"
        raise UsageError(f"no map of {len(rows):,} image(s) could be made; the first: {first}")
    if args.json:
        print(json.dumps({"images": rows}))
        return
    for row in rows:
        if "error" in row:
            print(terminal.escape_line(f"{row['path']}: {row['error']}"), file=sys.stderr)
            continue
        share = next(row[name] for name in SHARES if name in row)
        print(terminal.escape_line(f"{row['path']}: {row['class']} {share:.1%}"))
        print(terminal.escape_line(f"  {row['overlay']}"))
        if "deletion" in row:
            print(
                f"  deletion {row['deletion']:.3f} (random map {row['random_deletion']:.3f}), "
                f"insertion {row['insertion']:.3f} (random map {row['random_insertion']:.3f})"
            )
