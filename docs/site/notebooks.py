"""Pages made from the notebooks of `examples/`, with the outputs that are saved in them."""

from __future__ import annotations

import re
from pathlib import Path

from nbconvert import MarkdownExporter

EXAMPLES = Path(__file__).parents[2] / "examples"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal


def pages():
    """Returns the text, or the bytes of a picture, of each file by its name."""
    files, titles = {}, {}
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        text, resources = MarkdownExporter().from_filename(path)
        for name, picture in resources["outputs"].items():
            files[f"examples/{path.stem}/{name}"] = picture
            text = text.replace(f"]({name})", f"]({path.stem}/{name})")
        files[f"examples/{path.stem}.md"] = ESCAPES.sub("", text)
        titles[path.stem] = text.strip().partition("\n")[0].lstrip("# ")
    links = "".join(f"- [{title}]({stem}.md)\n" for stem, title in titles.items())
    heading = "# Notebooks\n\nThe files of `examples/`, on images that come with the package.\n\n"
    return {"examples/index.md": heading + links, **files}
