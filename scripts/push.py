"""Uploads a run to the Hugging Face Hub: zoo push runs/NAME hf://USER/NAME.

Uploads the model, its card (README.md), the recipe, the report and the history; no images. A new
repository is private unless --public is given. Needs keras-zoo[hub], and an access token: `hf auth
login`, or the environment variable HF_TOKEN.
"""

from __future__ import annotations

import json


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("name", metavar="hf://USER/NAME", help="repository on the Hub")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    parser.add_argument("--message", default="", metavar="TEXT", help="title of the commit")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Prints the address of the repository, and the name of this revision."""
    from tasks.runs import publish

    found = publish.push(args.run, args.name, public=args.public, message=args.message)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{', '.join(found['files'])} uploaded to {found['url']}")
    print(f"zoo predict {found['name']} IMAGE")
