"""What the documentation shows is what works."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.architecture import architecture
from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    """The fenced blocks of one language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Returns a copy of the packages in which the steps of the pages `add-a-*` were taken."""
    root = tmp_path_factory.mktemp("followed")
    for package in ("zoo", "tasks", "scripts"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for page in sorted((ROOT / "docs").glob("add-a-*.md")):
        for code in blocks(page, "python"):
            if name := re.match(r"# ((?:zoo|tasks|scripts)/\S+\.py)\n", code):
                (root / name[1]).parent.mkdir(exist_ok=True)
                (root / name[1]).write_text(code)
    sources = root / "tasks" / "data" / "sources.py"
    (change,) = blocks(ROOT / "docs" / "add-a-data-format.md", "diff")
    before = "".join(f"{line[1:]}\n" for line in change.splitlines() if line[0] == " ")
    after = "".join(f"{line[1:]}\n" for line in change.splitlines())
    text = sources.read_text().replace(
        "import class_folders, in_memory, ", "import class_folders, in_memory, list_file, "
    )
    assert before in text
    sources.write_text(text.replace(before, after))
    return root


RUN = """
import json, sys
from scripts.__main__ import main
for words in json.loads(sys.argv[1]):
    if main(words):
        sys.exit(1)
    print("\\f")
"""


def run(root, *commands):
    """Runs commands of the copy, lists of words, in one process; returns what each prints."""
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\f\n")[:-1]


@pytest.mark.check
def test_a_model_is_added_as_the_page_says(followed):
    code = "from zoo import build, flops, spec\n"
    code += "for name in ('tiny16', 'tiny32'):\n"
    code += "    entry = spec(name)\n"
    code += "    counted = flops.count_params_and_flops(build(name))\n"
    code += "    assert counted == (entry.parameters, entry.flops), (counted, entry)\n"
    code += "from scripts.__main__ import main\n"
    code += "main(['show', 'tiny16'])\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=followed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "tiny16" in done.stdout


@pytest.mark.check
def test_a_task_is_added_as_the_page_says(followed, tmp_path):
    words = ["--model=lenet5", "--train-split=train[:256]", "--validation-split=train[256:384]"]
    words += ["--test-split=test[:128]", "--epochs=2", f"--out={tmp_path / 'run'}", "--json"]
    (printed,) = run(followed, ["train", "brightness", *words])
    figures = json.loads(printed)["figures"]
    assert figures["accuracy"] > 0.8  # half of the images are bright
    assert "bright" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.check
def test_a_command_is_added_as_the_page_says(followed):
    words = ["count", "fashion_sample"]
    overview, counted, table = run(followed, [], [*words, "--json"], words)
    assert "count" in overview
    assert sum(json.loads(counted)["counts"]["test"]) == 1000
    assert "Trouser" in table


@pytest.mark.check
def test_a_data_format_is_added_as_the_page_says(followed, tmp_path):
    rows = []
    for number, label in enumerate(["cat", "dog", "cat"]):
        Image.fromarray(np.full((8, 8, 3), 80 * number, "uint8")).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png {label}")
    (tmp_path / "rows.lst").write_text("\n".join(rows))
    (printed,) = run(followed, ["count", str(tmp_path / "rows.lst"), "--json"])
    assert json.loads(printed) == {"classes": ["cat", "dog"], "counts": {"all": [2, 1]}}


def test_the_picture_of_the_architecture_shows_the_imports_of_today():
    made = architecture.draw()
    assert architecture.PICTURE.read_text(encoding="utf-8") == made, (
        "run python docs/site/architecture.py"
    )
