"""Loading of untrusted YAML: errors are one line, and take little time and memory."""

from __future__ import annotations

import re

import pytest

from tasks.data import builder_options, safe_yaml
from tasks.engine import plans, recipes
from zoo.errors import UsageError

BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 8)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
HOSTILE = {
    "deep": "[" * 50_000,
    "deep mapping": "{a: " * 20_000,
    "bomb": BOMB,
    "itself": "a: &a [*a]",
    "merge": "a: &a {x: 1}\nb: {<<: *a}",
    "long": "x" * (safe_yaml.MAX_BYTES + 1),
    "python": "!!python/object/apply:os.system ['true']",
    "int": "!!int ''",
    "bool": "!!bool x",
    "timestamp": "!!timestamp x",
    "date": "2026-99-99",
    "digits": "9" * 5_000,
    "unhashable": "{[1]: 2}",
    "control": "\x00",
    "tab": "a:\n\t- b",
    "cut": "{a: [1, 2",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_rejected_in_one_line(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(
        UsageError, match=re.escape(f"{path} cannot be read as a recipe: ")
    ) as found:
        recipes.read_recipe(path)
    assert len(str(found.value)) < 1_000
    with pytest.raises(UsageError, match="--engine-options takes YAML") as found:
        builder_options.parse_options(text, "--engine-options")
    assert len(str(found.value)) < 1_000
    with pytest.raises(UsageError):
        plans.resolve_plan(text, epochs=1, pretrained=False, rate=0.0, optimizer="adamw")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("tâche: x".encode("latin-1"), "it is not in UTF-8 .*; save it as UTF-8"),
        (b"\xff\xfet\x00", "it is not in UTF-8"),
        (b"task: [1]", r"is not a recipe: its task is \[1\]"),
        (b"task: {a: b}", "is not a recipe: its task is {'a': 'b'}"),
        (b"task: null", "is not a recipe: its task is None"),
        (
            b"task: dqn\nresolved: [1]",
            "is not a recipe: 'resolved' holds no values of flags by name",
        ),
        (b"- task", "is not a recipe: it names no task"),
        (b"", "is not a recipe: it names no task"),
    ],
)
def test_invalid_recipes_are_rejected(content, words, tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        recipes.read_recipe(tmp_path / "recipe.yaml")


def test_recipes_are_utf8_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("task: classification\ndataset: Früchte\n", encoding="utf-8-sig")
    assert recipes.read_recipe(path) == {"task": "classification", "dataset": "Früchte"}
    with pytest.raises(UsageError, match="cannot be read as a recipe"):
        recipes.read_recipe(tmp_path)
    with pytest.raises(UsageError, match="cannot be read as a recipe"):
        recipes.read_recipe("a\0b")
    with pytest.raises(UsageError, match="None cannot be read as a recipe"):
        recipes.read_recipe(None)


def test_keys_of_options_are_names():
    with pytest.raises(UsageError, match="--model-options takes YAML"):
        builder_options.parse_options("{1: 2}")
