"""Writes the pictures and measured figures of the course: `make course`.

    python docs/site/course.py [STUDY ...]

Runs the studies with their default options, writes their pictures to `docs/course/pictures` and
replaces what is between `<!-- study: NAME -->` and `<!-- end -->` in the chapters: pictures, and in
English also their captions and the claims with the measured values. Where a page has a slider, the
chapter shows the picture that the page shows first.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
COURSE = Path(__file__).parent.parent / "course"
PICTURES = COURSE / "pictures"
MARKED = re.compile(r"(<!-- study: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)
SHOWN = 2  # pictures per study; the page of the study has all of them
MAX_BYTES = 400_000  # of a picture


def main(argv):
    """Runs the named studies, or all of them; returns the exit status."""
    from tasks.study import course, get

    chosen = [get(name) for name in argv[1:]] or course()
    PICTURES.mkdir(exist_ok=True)
    for study in chosen:
        start = time.perf_counter()
        images, captions, claims = drawn(study)
        print(f"{study.name:<18} {time.perf_counter() - start:6.1f} s", flush=True)
        chinese = "".join(images).replace("(pictures/", "(../pictures/")
        english = "".join(map("".join, zip(images, captions, strict=True))) + claims
        for page in sorted(COURSE.rglob("[0-9]*.md")):
            block = chinese if page.parent.name == "zh" else english
            page.write_text(replaced(page.read_text("utf-8"), study.name, block), "utf-8")
    return 0


def drawn(study):
    """Runs a study and writes its pictures; returns Markdown of images, captions and claims."""
    from tasks.study.running import findings_of

    findings = findings_of(study)
    for old in PICTURES.glob(f"{study.name}-[0-9].svg"):
        old.unlink()
    images, captions = [], []
    for number, (title, html, see) in enumerate(findings.pictures[:SHOWN], start=1):
        drawings = re.findall(r"<svg.*?</svg>", html, re.S)
        file = PICTURES / f"{study.name}-{number}.svg"
        file.write_text(shortened(drawings[(len(drawings) - 1) // 2]), "utf-8")
        if file.stat().st_size > MAX_BYTES:
            sys.exit(f"{file} has {file.stat().st_size} bytes; the limit is {MAX_BYTES}")
        images.append(f"![{title}](pictures/{file.name})\n\n")
        captions.append(caption(title, see))
    claims = "| claim | measured |\n|---|---|\n"
    for claim in findings.claims:
        result = claim.measured if claim.holds else f"{claim.measured}; does not hold"
        if not claim.holds:
            print(f"does not hold: {study.name}: {claim.text} ({claim.measured})", flush=True)
        claims += f"| {cell(claim.text)} | {cell(result)} |\n"
    return images, captions, claims


def caption(title, see):
    """Returns the caption of a picture: its title and what to look for."""
    end = "" if title.endswith("?") else "."
    return f"*{title}{end}* {cell(see)}\n\n"


def shortened(svg):
    """Returns an SVG whose coordinates have two decimals."""
    return re.sub(r"(?<=\d\.\d\d)\d+", "", svg)


def cell(text):
    """Returns text as one line of Markdown, also for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def replaced(text, name, block):
    """Returns a chapter with another block of a study."""
    return MARKED.sub(
        lambda found: found[1] + block + found[3] if found[2] == name else found[0], text
    )


if __name__ == "__main__":
    sys.path.insert(0, str(COURSE.parent.parent))
    sys.exit(main(sys.argv))
