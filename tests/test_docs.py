"""What the documentation shows is what works."""

import re
from pathlib import Path

import pytest

import scripts.__main__ as command_line
from zoo.catalog import models

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    """The fenced blocks of one language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_flags_exist(page, capsys):
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    for line in text.replace(" -- ", "\nzoo ").splitlines():  # what is launched is a command too
        words = line.partition("#")[0].split()
        if words[:1] != ["zoo"] or "--help" in words:
            continue
        assert words[1] in command_line.command_names(), line
        with pytest.raises(SystemExit):
            command_line.main([*words[1 : 3 if words[1] in ("train", "tune") else 2], "--help"])
        shown = capsys.readouterr().out
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert flag in shown, f"{line}: zoo {words[1]} has no {flag}"


def test_the_model_of_add_a_model_works_as_the_page_says():
    from zoo import build, flops, names, spec

    (code,) = blocks(ROOT / "docs" / "add-a-model.md", "python")
    try:
        exec(code, {})
        assert names("tiny*") == ["tiny16", "tiny32"]
        for name in names("tiny*"):
            counted = flops.count_params_and_flops(build(name))
            assert counted == (spec(name).parameters, spec(name).flops)
    finally:
        for name in ("tiny16", "tiny32"):
            models._entries.pop(name, None)
