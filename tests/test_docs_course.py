"""The course: every study has its place, pictures and figures are there, solutions run."""

from __future__ import annotations

import re

import pytest

from tasks.study import course
from tests.support.paths import ROOT

COURSE = ROOT / "docs" / "course"
CHAPTERS = sorted(COURSE.glob("[0-9]*.md"))
BLOCK = re.compile(r"<!-- study: ([a-z-]+) -->\n(.*?)<!-- end -->", re.S)
CODE = re.compile(r"^```(python|sh)\n(.*?)^```", re.M | re.S)


def text_of(path):
    return path.read_text(encoding="utf-8")


def studies_of(path):
    return [name for name, _ in BLOCK.findall(text_of(path))]


def test_every_study_is_in_one_chapter_in_the_order_of_the_course():
    found = [name for path in CHAPTERS for name in studies_of(path)]
    assert found == [study.name for study in course()]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_pictures_and_measured_claims_are_in_the_chapter(path):
    for name, block in BLOCK.findall(text_of(path)):
        pictures = re.findall(r"\]\((pictures/\S+\.svg)\)", block)
        assert pictures, f"make course has not run {name}"
        for picture in pictures:
            assert "<svg" in text_of(COURSE / picture)
        titles = re.findall(r"^!\[(.+)\]\(pictures/.+\)\n\n\*(.+?)\.?\* \S", block, re.M)
        assert [title for title, _ in titles] == [title for _, title in titles]
        assert len(titles) == len(pictures)  # each has a caption that says what to look for
        assert "| claim | measured |" in block


def test_no_picture_is_left_over():
    shown = {
        name for path in CHAPTERS for name in re.findall(r"pictures/(\S+\.svg)", text_of(path))
    }
    assert {path.name for path in (COURSE / "pictures").iterdir()} == shown


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_solutions_of_exercises_are_right(path):
    solutions = [code for language, code in CODE.findall(text_of(path)) if language == "python"]
    assert len(solutions) == 3
    for code in solutions:
        assert "assert" in code
        exec(compile(code, path.name, "exec"), {})


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_chinese_chapter_has_the_same_parts(path):
    chinese = COURSE / "zh" / path.name
    assert CODE.findall(text_of(chinese)) == CODE.findall(text_of(path))
    assert studies_of(chinese) == studies_of(path)
    assert text_of(chinese).count("\n## ") == text_of(path).count("\n## ")


def test_the_chinese_overview_lists_the_same_studies():
    english, chinese = (
        re.findall(r"`([a-z-]+)`", " ".join(re.findall(r"^\| \d+\. .*$", text_of(path), re.M)))
        for path in (COURSE / "README.md", COURSE / "zh" / "README.md")
    )
    assert english == chinese == [study.name for study in course()]
