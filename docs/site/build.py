"""Builds the documentation site: `make docs`.

    python docs/site/build.py site

Copies the pages of `docs/` and those of the root into a temporary folder, adds the pages that are
made from the code (API reference, command line, tasks, gallery) and from the notebooks, runs Sphinx
with warnings as errors, and checks every link and asset of the result. Nothing is fetched.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gallery
import links
import notebooks
import reference

HERE = Path(__file__).parent
DOCS = HERE.parent
ROOT = DOCS.parent
FROM_ROOT = {  # file or folder of the root: its page
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples": "examples/index.md",
}
GROUPS = {  # of the navigation, in this order: patterns of page names; the rest are guides
    "Start": ("quickstart", "gallery"),
    "Guides": ("*",),
    "Notebooks": ("examples/index", "examples/*"),
    "Course": ("course/README", "course/[0-9]*"),
    "课程": ("course/zh/README", "course/zh/*"),
    "Reference": ("commands", "tasks", "models", "api/zoo*", "api/*", "glossary"),
    "Project": ("contributing", "architecture", "add-a-*", "why", "*-bug", "changelog", "license"),
}
HIDDEN = ("index",)
RESERVED_NAMES = ("genindex", "py-modindex", "search")  # pages that Sphinx writes itself


def main(argv):
    """Builds the site into the folder that is named; returns the exit status."""
    out = Path(argv[1] if len(argv) > 1 else ROOT / "site").resolve()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        assemble(source)
        shutil.rmtree(out, ignore_errors=True)
        sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        cache = Path(folder) / "doctrees"
        status = subprocess.call([*sphinx, "-c", HERE, "-d", cache, source, out], cwd=ROOT)
    errors = links.find_errors(out) if status == 0 else []
    print(*errors, sep="\n", file=sys.stderr)
    if status == 0 and not errors:
        print(f"{len(list(out.rglob('*.html')))} pages, every link leads somewhere: {out}")
    return status or bool(errors)


def assemble(source):
    """Writes everything that Sphinx reads into the folder `source`."""
    source.mkdir(parents=True)
    for path in DOCS.iterdir():
        if path.suffix == ".md":
            (source / page_of(path.stem)).write_text(relink(path.read_text()))
        elif path.is_file():
            shutil.copy(path, source)
    shutil.copytree(DOCS / "course", source / "course")
    for path in (source / "course").rglob("*.md"):
        path.write_text(with_page_names(without_source_links(path.read_text())))
    for name, page in FROM_ROOT.items():
        if (ROOT / name).is_file():
            (source / page).write_text(relink((ROOT / name).read_text()))
    title = "# Licence\n\n```text\n"
    (source / "license.md").write_text(title + (ROOT / "LICENSE").read_text() + "```\n")
    made = {**reference.pages(), **gallery.pages(), **notebooks.pages()}
    for name, content in made.items():
        (source / name).parent.mkdir(exist_ok=True)
        content = content if isinstance(content, bytes) else content.encode()
        (source / name).write_bytes(content)
    with (source / "index.md").open("a") as file:
        file.write(navigation(source))


def page_of(name):
    """Returns the file in which a page is built, which must not be one of Sphinx's own."""
    return f"{name}{'-guide' if name in RESERVED_NAMES else ''}.md"


def relink(text):
    """Returns Markdown with links between `docs/` and the root adapted to one common folder."""
    text = re.sub(r"(\]\()(?:docs|\.\.)/", r"\1", without_source_links(text))
    for name, page in {**FROM_ROOT, "LICENSE": "license.md"}.items():
        text = re.sub(rf"(\]\(){re.escape(name)}(?=[)#])", rf"\1{page}", text)
    return with_page_names(text)


def with_page_names(text):
    """Returns Markdown in which links to pages with reserved names lead to the built pages."""
    for name in RESERVED_NAMES:
        text = re.sub(rf"(\]\((?:\.\./)*){name}\.md(?=[)#])", rf"\1{page_of(name)}", text)
    return text


def without_source_links(text):
    """Returns Markdown in which a link to a source file, which has no page, is its text."""
    return re.sub(r"\[([^\]]*)\]\((?:\.\./)*[\w/]+\.py\)", r"\1", text)


def navigation(source):
    """Returns the tables of contents in which every page stands once."""
    names = sorted(
        path.relative_to(source).with_suffix("").as_posix()
        for pattern in ("*.md", "*.rst")
        for path in source.rglob(pattern)
    )
    groups = {heading: [] for heading in GROUPS}
    for name in names:
        if name not in HIDDEN:
            groups[group(name)].append(name)
    text = ""
    for heading, members in groups.items():
        members.sort(key=lambda name: (pattern_index(name, GROUPS[heading]), name))
        if members:
            body = "\n".join(members)
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{body}\n```\n"
    return text


def group(name):
    """Returns the heading under which a page stands."""
    named = (heading for heading, some in GROUPS.items() if pattern_index(name, some) < len(some))
    return min(named, key=lambda heading: "*" in GROUPS[heading])


def pattern_index(name, patterns):
    """Returns the index of the first pattern that matches a name, or the number of patterns."""
    fits = (at for at, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern))
    return next(fits, len(patterns))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
