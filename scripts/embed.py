"""Computes features of images: zoo embed resnet50.imagenet flowers --page map.html.

Prints the accuracy of a k-nearest-neighbor classifier on these features. TARGET is a run folder, a
.keras file or a pretrained model; the default DATASET is that of the run.

    zoo embed runs/NAME --out features.npz --stage stage4
    zoo embed runs/NAME flowers --neighbours photo.jpg
"""

from __future__ import annotations

import json
import sys

from scripts._output import format_table
from zoo.errors import UsageError

PROJECTIONS = ("pca", "tsne", "umap")


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument("target", metavar="TARGET", help="run folder, .keras file or model name")
    parser.add_argument(
        "dataset", nargs="?", default="", metavar="DATASET", help="data set, as in zoo finetune"
    )
    parser.add_argument(
        "--stage",
        default="",
        help="stage4, ..., or penultimate, the input of the last dense layer (default: penultimate "
        "for classifiers, else the last stage)",
    )
    parser.add_argument("--split", default="", help="slice of the data set (default: all images)")
    parser.add_argument("--data-dir", default="", metavar="DIR", help="folder of TFDS data sets")
    parser.add_argument("--weights", default="", metavar="FILE", help="of a pretrained model")
    parser.add_argument(
        "--image-size",
        type=int,
        default=0,
        metavar="N",
        help="image size, if the network supports several (default: its own)",
    )
    parser.add_argument("--out", metavar="FILE", help=".npz or .parquet file for the features")
    parser.add_argument("--page", metavar="FILE", help="HTML file for the map of the images")
    parser.add_argument(
        "--projection",
        default="pca",
        choices=PROJECTIONS,
        help="projection of the map (default: pca)",
    )
    parser.add_argument(
        "--neighbours",
        "--neighbors",
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="images, folders or patterns whose most similar images are printed",
    )
    parser.add_argument("--k", type=int, default=5, metavar="N", help="neighbors (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints the accuracy and the neighbors, and writes the files."""
    from tasks.advice import embedding, embedding_page, projection
    from tasks.deploy import predict

    if args.k < 1 or args.image_size < 0:
        raise UsageError("--k must be 1 or more, and --image-size 0 or more")
    projection.check_method(args.projection)  # before the work, as the next
    if args.out:
        embedding.check_output(args.out)
    queries = [str(path) for path in predict.find_images(args.neighbours)]
    options = ("stage", "split", "data_dir", "weights", "image_size")
    found = embedding.embed(
        args.target, args.dataset, **{name: getattr(args, name) for name in options}
    )
    figures = embedding.knn_accuracy(found, args.k)
    similar = {path: _similar(found, path, args.k) for path in queries}
    if args.out:
        embedding.write(args.out, found)
    if args.page:
        positions = projection.project(found.features, args.projection)
        embedding_page.write(
            args.page,
            found,
            positions,
            figures,
            model=args.target,
            dataset=args.dataset or "the data set of the run",
            method=args.projection,
            words=_command(args),
        )
    _print(args, found, figures, similar)


def _command(args):
    """Returns the words of the command that writes the page again."""
    flags = ("stage", "split", "data_dir", "weights", "image_size", "projection", "k", "page")
    given = {name: getattr(args, name) for name in flags if getattr(args, name)}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return ["zoo", "embed", *filter(None, (args.target, args.dataset)), *words]


def _similar(found, path, count):
    """Returns the images most similar to an image file, a dict for each."""
    from tasks.advice import embedding

    titles, labels = found.titles(), found.label_names()
    nearest, similarity = embedding.neighbours(found, embedding.read_features(found, path), count)
    return [
        {"image": titles[index], "label": labels[index], "similarity": float(value)}
        for index, value in zip(nearest[0], similarity[0], strict=True)
    ]


def _print(args, found, figures, similar):
    from tasks.report.formatting import display_name, format_value

    images, size = found.features.shape
    if args.json:
        facts = {"stage": found.stage, "images": images, "features": size, "k": args.k}
        print(json.dumps({**facts, "figures": figures, "neighbours": similar}))
        return
    print(f"{images:,} images, {size:,} features ({found.stage})")
    for name in ("knn_accuracy", "majority_share"):
        if name in figures:
            ends = [figures.get(f"{name}_{end}") for end in ("low", "high")]
            interval = " to ".join(format_value(name, end) for end in ends if end is not None)
            value = format_value(name, figures[name]) + (f" ({interval})" if interval else "")
            print(f"{display_name(name):<16} {value}")
    for path, rows in similar.items():
        print(f"\n{path}")
        cells = [(f"{row['similarity']:.3f}", row["label"], row["image"]) for row in rows]
        print(format_table(("similarity", "class", "image"), cells, ("similarity",)))
    for file in filter(None, (args.out, args.page)):
        print(f"zoo: written to {file}", file=sys.stderr)
