"""Names what is in pictures: zoo predict runs/NAME photo.jpg.

The model is a run's folder, a .keras file, or a pretrained model of the zoo such as
resnet50.imagenet.
"""

from __future__ import annotations

import json
import sys

from zoo.errors import UsageError


def arguments(parser, words):
    """Adds this command's flags."""
    parser.add_argument("model", help="a run's folder, a .keras file or a zoo name with a tag")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image, or a folder of them")
    parser.add_argument("--weights", metavar="FILE", help="weights file of a zoo name")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (5)")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args):
    """Prints the most likely classes of each image."""
    from tasks.deploy import predict

    if args.top < 1:
        raise UsageError(f"--top must be 1 or more, not {args.top}")
    classifier = predict.open_classifier(args.model, args.weights)
    answers = predict.predict(classifier, args.images, top=args.top)
    bad = [answer["error"] for answer in answers if "error" in answer]
    if len(bad) == len(answers):
        raise UsageError(f"none of the {len(answers)} images could be read; the first: {bad[0]}")
    if args.json:
        found = {"model": classifier.name, "protocol": classifier.protocol, "images": answers}
        print(json.dumps(found, indent=1))
    else:
        print(f"{classifier.name} ({classifier.protocol})")
        for answer in answers:
            print(answer["path"])
            for guess in answer.get("classes", ()):
                print(f"  {guess['probability']:6.1%}  {guess['name']}")
    for reason in bad:
        print(f"zoo: skipped {reason}", file=sys.stderr)
