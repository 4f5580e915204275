"""Every claim of every study holds (`--slow`: on two seeds); pages are complete, load nothing."""

from __future__ import annotations

import ast
import html
import json
import re

import numpy as np
import pytest

import scripts.__main__ as command_line
from scripts.__main__ import main as zoo
from tasks.study import Claim, Findings, Study, course, get, page, running, studies
from tests.support.paths import ROOT
from zoo.errors import UsageError

# Options with which a study takes about a second; the others have their defaults.
SMALL = {
    "attention": {"caption_steps": 150, "steps": 150},
    "backprop": {"largest": 16},
    "batch-norm": {"steps": 100, "rates": 2},
    "convolution": {"steps": 200},
    "depth": {"shallow": 8, "deep": 20, "steps": 40},
    "descent": {"epochs": 5, "examples": 512},
    "detection": {"images": 4, "stride": 16, "repeats": 1, "backbone": "convnet"},
    "filters": {"steps": 200},
    "function-sets": {"steps": 500, "layers": 3},
    "gan": {"gans": 2},
    "hyperparameters": {"repeats": 4, "trials": 9, "network_trials": 8, "steps": 60},
    "inception": {"steps": 60, "count": 1, "images_used": 1_000},
    "learning-rate": {"steps": 200, "rates": 3},
    "loss": {"steps": 30},
    "optimizers": {"steps": 60, "network_steps": 100},
    "overfitting": {"steps": 300},
    "parallel": {"epochs": 2},
    "q-learning": {"episodes": 2_000},
    "structure": {"steps": 200, "layers": 1, "trials": 2},
    "style": {"size": 64, "steps": 40, "width": 8},
    "tensorboard": {"examples": 300, "epochs": 4},
    "transfer": {"test_images": 200, "scratch_steps": 60, "steps": 2},
}
FAST = ("softmax", "validation", "pooling")  # in every test run
# One training run per cell instead of the mean of three: enough for the claims on seed 0 only.
SMALL_ON_SEED_0 = {"recurrent": {"steps": 150, "repeats": 1, "text_steps": 60}}


def cases():
    for seed in (0, 1):
        for name in studies.names():
            longer = pytest.mark.slow if seed else pytest.mark.check
            yield pytest.param(name, seed, marks=() if name in FAST else longer)


@pytest.mark.parametrize(("name", "seed"), [*cases()])
def test_the_claims_of_a_study_hold(name, seed, tmp_path):
    options = SMALL.get(name) or ({} if seed else SMALL_ON_SEED_0.get(name, {}))
    found = running.run_study(get(name), tmp_path, seed=seed, **options)
    assert found["claims"]
    assert [claim for claim in found["claims"] if not claim["holds"]] == []
    text = (tmp_path / f"{name}.html").read_text()
    assert get(name).question in text
    pictures = re.findall("<svg [^>]*>", text)
    assert pictures
    assert all('style="min-width' in picture for picture in pictures)  # readable on phones
    assert all('role="img" aria-label="' in picture for picture in pictures)
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", text)  # nothing is loaded
    shown = re.sub("<pre.*?</pre>", "", text, flags=re.S)  # without the code
    assert not re.search(r"\bnan\b", shown.lower())


def test_studies_are_in_the_order_of_the_course():
    numbers = [study.number for study in course()]
    assert numbers == sorted(set(numbers))
    for study in course():
        assert study.question.endswith("?")
        assert page.explanation(study).endswith(".")
        assert all(isinstance(x, int | float | str) for x in study.options.values())
        assert study.options["seed"] == 0
        assert len(page.source(study).splitlines()) < 130


@pytest.mark.parametrize("study", course(), ids=lambda study: study.name)
def test_next_steps_are_commands_that_parse_or_sentences(study, monkeypatch):
    """A command is followed by what it shows; it is parsed with its flags, and does not run."""
    (steps,) = (
        keyword.value
        for node in ast.walk(ast.parse(page.source(study)))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "next_steps"
    )
    for step in ast.literal_eval(steps):
        assert ":" in step or step.endswith("?"), step
        for command in re.findall("<code>(.*?)</code>", page.next_step(study, step)):
            words = html.unescape(command).split()[1:]
            parsed = []
            monkeypatch.setattr(command_line.command_module(words[0]), "run", parsed.append)
            if len(words) > 1 and "--help" not in words:  # else a command that is only named
                command_line._run(words)
                assert len(parsed) == 1, command


def test_the_page_shows_next_steps_as_commands():
    softmax = get("softmax")
    shown = page.next_step(softmax, "--samples 9: why <?")
    assert shown == "<code>zoo study softmax --samples 9</code>: why &lt;?"
    assert page.next_step(softmax, "zoo list: all") == "<code>zoo list</code>: all"
    assert page.next_step(softmax, "Why: a < b?") == "Why: a &lt; b?"


def test_a_claim_that_does_not_hold_is_reported_as_such(tmp_path):
    def run(seed=0):
        """Two claims are made."""
        return Findings([Claim("One is two.", 1 == 2, "1"), Claim("Fine.", True, "")], [], [], [])

    run.__module__ = "tasks.study.softmax"
    page.write(tmp_path / "x.html", Study("x", 1, "Why?", run), run(), {"seed": 0})
    text = (tmp_path / "x.html").read_text()
    assert "does not hold" in text
    assert "1 of 2 claims hold" in text


def test_the_command_lists_runs_and_prints(tmp_path, capsys):
    assert zoo(["study"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in studies.names())
    assert zoo(["study", "validation", "--images", "300", f"--out={tmp_path}", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["study"] == "validation"
    assert "--images 300" in re.sub("<[^>]*>", "", (tmp_path / "validation.html").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sotfmax"], "no study named 'sotfmax'; did you mean softmax?"),
        (["softmax", "--depth", "3"], "unrecognized arguments: --depth 3"),
        (["validation", "--images", "many"], "invalid int value: 'many'"),
        (["validation", "--images", "0"], "--images must be a number from 1, not 0"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys, tmp_path):
    assert zoo(["study", *words, f"--out={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_option_of_another_study_is_refused():
    with pytest.raises(UsageError, match="softmax has no option 'depth'; its options: seed"):
        running.run_study(get("softmax"), depth=3)


def test_softmax_is_that_of_keras():
    import keras

    from tasks.study.softmax import softmax

    logits = np.random.default_rng(0).normal(0, 50, (8, 5)).astype("float32")
    wanted = np.array(keras.ops.softmax(logits))
    assert softmax(logits) == pytest.approx(wanted, abs=1e-6)


def test_the_page_of_the_documentation_lists_all_studies():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", (ROOT / "docs/studies.md").read_text(), re.M)
    assert rows == [(study.name, study.question) for study in course()]
