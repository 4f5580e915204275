"""Lists, fetches, verifies and mirrors pretrained weights: zoo weights fetch resnet50.imagenet.

    zoo weights list 'res*'                # list files and their location
    zoo weights fetch resnet50 --headless  # download to the cache
    zoo weights verify                     # check the digests of local files
    zoo weights mirror DIR 'vgg*'          # create a mirror, ZOO_WEIGHTS=DIR

PATTERN is a name, part of a name, or a pattern such as 'res*'. Environment variables: ZOO_HOME is
the cache folder, ZOO_WEIGHTS a mirror (a folder or a URL), and ZOO_OFFLINE=1 disables downloads.
"""

from __future__ import annotations

import json
import os
import sys

import zoo
from scripts._output import format_table
from zoo import weights
from zoo.errors import UsageError, unknown_name_error
from zoo.weights import cache, digests

COLUMNS = ("name", "part", "size", "where", "digest", "licence")
IN_PACKAGE, BY_HAND, NOT_PRESENT = "package", "by hand", "-"  # beside those of `cache`
# No digest is published; the file is compared with its digest from the first download.
TRUSTED_ON_FIRST_USE = "first use"


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        metavar="ACTION",
        help=", ".join(ACTIONS) + " (default: list)",
    )
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="names or patterns; mirror takes DIR first"
    )
    parser.add_argument("--headless", action="store_true", help="prefer files without the head")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args):
    """Runs the action."""
    if args.action not in ACTIONS:
        raise unknown_name_error("action", args.action, list(ACTIONS))
    return ACTIONS[args.action](args)


def list_files(args):
    """Prints one row per file, without reading the files."""
    found = [file_record(name, part) for name, part in files(args.patterns, args.headless)]
    rows = [
        (
            record["name"],
            record["part"],
            f"{record['bytes'] / 1e6:.1f} MB" if record["bytes"] else "",
            record["where"],
            record["digest_kind"],
            record["licence"].partition(" (")[0],
        )
        for record in found
    ]
    _print_result(found, args.json, lambda: format_table(COLUMNS, rows, ("size",)))


def fetch(args):
    """Downloads files and prints their paths."""
    if not args.patterns:
        raise UsageError("no weights given, such as: zoo weights fetch resnet50.imagenet")
    wanted = files(args.patterns, args.headless)
    if not args.headless:
        wanted = [(name, part) for name, part in wanted if part == "whole"]
    # Of several, those that cannot be downloaded are left out.
    wanted = [(name, part) for name, part in wanted if zoo.spec(name).weights.source] or wanted
    return _process_each(wanted, _fetch_file, args.json)


def mirror(args):
    """Copies files to a mirror for `ZOO_WEIGHTS`."""
    if not args.patterns:
        raise UsageError("no folder given: zoo weights mirror DIR [PATTERN ...]")
    folder, *patterns = args.patterns
    wanted = [(n, p) for n, p in files(patterns, args.headless) if _published_file(n, p)]
    if not wanted:
        raise UsageError(
            f"no weights of {' '.join(patterns)} can be downloaded, so there is nothing to mirror"
        )

    def put(name, part):
        return cache.add_to_mirror(_published_file(name, part), folder, f"the weights of {name}")

    return _process_each(wanted, put, args.json)


def verify(args):
    """Hashes all files on this machine; returns exit status 1 if a digest differs."""
    there = [(name, part, _locate(name, part)[1]) for name, part in files(args.patterns)]
    found = [
        {"name": name, "part": part, "path": path, **verify_file(name, part, path)}
        for name, part, path in there
        if path
    ]
    rows = [(record["verdict"], record["name"], record["part"], record["path"]) for record in found]
    _print_result(found, args.json, lambda: format_table(("result", "name", "part", "path"), rows))
    for record in found:
        if record["problem"]:
            print(f"zoo: {record['problem']}", file=sys.stderr)
    if not found:
        print("zoo: none of these weights are on this machine", file=sys.stderr)
    return int(any(record["problem"] for record in found))


def verify_file(name, part, path):
    """Returns a dict: `verdict` (`ok`, `first use` or `wrong`), `sha256`, and `problem`."""
    facts, file = zoo.spec(name).weights, _published_file(name, part)
    digest = file.digest if file else facts.digest
    try:
        if file:
            path = str(cache.find_local(file, rehash=True) or path)
        sha256 = digests.verify(path, digest, rehash=not file)
    except UsageError as error:
        return {"verdict": "wrong", "sha256": None, "problem": str(error)}
    return {"verdict": "ok" if digest else TRUSTED_ON_FIRST_USE, "sha256": sha256, "problem": None}


def files(patterns, headless=False):
    """Returns the files of the weights that match any pattern, as pairs of name and part.

    Args:
        patterns: names or patterns; the exact name of a model or of its weights matches only that.
            An empty list matches all.
        headless: whether to leave out the whole file if there is one without the head.
    """
    tags = zoo.names(weights=True)
    names = []
    for pattern in patterns or ["*"]:
        found = [name for name in tags if pattern in (name, name.partition(".")[0])]
        found = found or zoo.names(pattern, weights=True)
        if not found:
            raise unknown_name_error("weights", pattern, tags)
        names += found
    return [(name, part) for name in dict.fromkeys(names) for part in _parts(name, headless)]


def file_record(name, part):
    """Returns the properties of a file as a dict of plain values."""
    facts, file = zoo.spec(name).weights, _published_file(name, part)
    where, path = _locate(name, part)
    digest = file.digest if file else facts.digest
    kind = digests.digest_kind(digest)
    noted = digests.read_record(path) if path and file else {}
    if noted.get("sha256") and noted.get("digest") == digest and kind in ("md5", "none"):
        kind = f"{kind}, then sha256" if digest else TRUSTED_ON_FIRST_USE
    return {
        "name": name,
        "part": part,
        "source": file.source if file else facts.source,
        "digest": digest,
        "digest_kind": kind,
        "sha256": noted.get("sha256"),
        "where": where,
        "path": path,
        "bytes": os.path.getsize(path) if path else None,
        "licence": facts.licence,
        "commercial": facts.commercial,
    }


def _process_each(wanted, get, as_json):
    """Calls `get` for each file; raises after the last one if any failed."""
    failed, got = [], []
    for name, part in wanted:
        try:
            path = get(name, part)
        except UsageError as error:
            failed.append(error)
            continue
        got.append({"name": name, "part": part, "path": str(path)})
        if not as_json:
            print(f"{name}  {part}  {path.stat().st_size / 1e6:.1f} MB  {path}", flush=True)
    if as_json:
        print(json.dumps(got, indent=1))
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise UsageError(f"{len(failed)} of {len(wanted)} files failed; the first: {failed[0]}")


def _fetch_file(name, part):
    return weights.fetch(name, zoo.spec(name).weights, headless=part == "headless")


def _published_file(name, part):
    return zoo.spec(name).weights.published.get(part)


def _parts(name, headless):
    parts = list(zoo.spec(name).weights.published) or ["whole"]
    return parts[-1:] if headless else parts


def _locate(name, part):
    """Returns the location of a file and its path; the path is `None` if there is no local copy."""
    facts, file = zoo.spec(name).weights, _published_file(name, part)
    if not facts.source:
        return BY_HAND, None
    if not file:
        return IN_PACKAGE, str(weights.fetch(name, facts))
    (place, path), *_ = cache.existing_copies(file) or [(NOT_PRESENT, None)]
    return place, path and str(path)


def _print_result(found, as_json, text):
    print(json.dumps(found, indent=1) if as_json else text())


ACTIONS = {"list": list_files, "fetch": fetch, "verify": verify, "mirror": mirror}
