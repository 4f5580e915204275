"""Every command line of the documentation parses, and every Python block calls what there is.

Nothing is run: a command is parsed by its own parser, and its flags make a task; of Python, the
imports are made, and the calls of ours are compared with the signatures.
"""

import ast
import dataclasses
import importlib
import inspect
import re
import shlex
import textwrap
from pathlib import Path

import pytest
import yaml

import scripts.__main__ as command_line
import tasks
import zoo
from zoo.errors import UsageError

ROOT = Path(zoo.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = ("zoo", "tasks", "scripts")
ENDS = {"|", "&&", "||", ";", ">", "&"}  # of a command in the shell
ADDED = {"count", "brightness", "tiny16"}  # by the pages add-a-*; tests/test_docs.py runs them
PLACEHOLDERS = {"N": "1", "X": "1", "TASK": "classification"}


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    """The fenced blocks of one language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.M | re.S)


def spans(page):
    """The code between single backticks in a page, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def commands(page, program):
    """The words that follow each call of a program in the page's shell blocks and prose."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += [span for span in spans(page) if span.split()[0] == program]
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()  # half a line, quoted in a table
        at = next((i for i, word in enumerate(words) if word in ENDS), len(words))
        words = words[:at]
        if program in words and not ADDED & set(words):
            yield words[words.index(program) + 1 :]


def filled(words):
    """Words in which placeholders stand for something, and files that are absent are left out."""
    words = [PLACEHOLDERS.get(word, word) for word in words if word != "..."]
    while "--recipe" in words:
        at = words.index("--recipe")
        found = sorted(ROOT.glob(words[at + 1].replace("NAME", "*"))) if words[at + 1 :] else []
        words[at : at + 2] = [f"--recipe={found[0]}"] if found else []
        if not found and words[0].startswith("-"):
            words.insert(0, "classification")
    return words


def parsed(words, monkeypatch):
    """What a command's own parser makes of its words; the command does not run."""
    seen = []
    monkeypatch.setattr(command_line.command_module(words[0]), "run", seen.append)
    command_line._run(words)
    return seen[0]


def task_of(args):
    """The task that the flags of a command make, if its first word is one: they are checked."""
    name = getattr(args, "task", None)
    if name not in tasks.names():
        return None
    task = tasks.get(name)
    fields = [field.name for field in dataclasses.fields(task)]
    return task(**{name: getattr(args, name) for name in fields if hasattr(args, name)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(page, "zoo"):
        if "--" in words:  # what is launched is a command too
            at = words.index("--")
            check(words[at + 1 :], page, monkeypatch)
        check(words, page, monkeypatch)


def check(words, page, monkeypatch):
    """Fails if a command has a name, a flag or a value that does not exist."""
    if words[:1] == ["--tensorflow-log"]:
        words = words[1:]
    if not words or words[0] == "COMMAND" or words[0] in ("--help", "--version"):
        return
    assert words[0] in command_line.command_names(), f"zoo {' '.join(words)}"
    if len(words) == 1 or "--help" in words:  # its name alone, in a sentence
        return
    if f"class {words[1].title()}(" in text_of(page):  # a task that the page itself defines
        return
    try:
        task_of(parsed([words[0], *filled(words[1:])], monkeypatch))
    except UsageError as error:
        # A sentence on a flag leaves out what the command is about.
        if not (words[1].startswith("-") and "arguments are required" in str(error)):
            pytest.fail(f"zoo {' '.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_and_their_flags_exist(page):
    for words in commands(page, "python"):
        script = ROOT / words[0]
        if script.suffix != ".py" or len(script.relative_to(ROOT).parts) == 1:
            continue  # -m, or a file that the page tells to make
        source = script.read_text(encoding="utf-8")
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert f'"{flag}"' in source, f"{words[0]} has no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for words in commands(page, "make"):
        for target in (word for word in words if "=" not in word):
            assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_is_well_formed(page):
    for block in blocks(page, "yaml"):
        assert all(part is not None for part in yaml.safe_load_all(block))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_call_what_there_is(page):
    known = {}  # across the blocks of a page, as a reader types them
    for block in blocks(page, "python"):
        tree = syntax(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                known.update(imported(node))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                resolved(node, known)
            elif isinstance(node, ast.Call):
                compare(node, resolved(node.func, known))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "zoo nonesuch"),
        ("sh", "zoo predict runs/NAME"),
        ("sh", "ZOO_OFFLINE=1 zoo tune classification --trails 20"),
        ("sh", "zoo list --sort colour | head"),
        ("sh", "srun zoo train dqn \\\n  --dueling perhaps"),
        ("sh", "zoo launch -n 2 -- train classification --epochs few"),
        ("sh", "zoo train classification --epochs -1   # too few"),
        ("python", "import zoo\nzoo.bild('vgg16')"),
        ("python", "from zoo import nonesuch"),
        ("python", "import zoo\nmodel = zoo.spec()"),
        ("python", "from zoo import surgery\nsurgery.head(model, classes=3)"),
        ("python", "zoo.build("),
    ],
)
def test_faults_are_found(language, text, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"```{language}\n{text}\n```\n")
    examine = test_commands_parse if language == "sh" else test_python_blocks_call_what_there_is
    more = (monkeypatch,) if language == "sh" else ()
    with pytest.raises((AssertionError, ImportError, SyntaxError, pytest.fail.Exception)):
        examine(page, *more)


def test_the_pages_have_commands_and_code():
    assert sum(len(list(commands(page, "zoo"))) for page in PAGES) > 100
    assert sum(len(blocks(page, "python")) for page in PAGES) > 10


def syntax(block):
    """The syntax tree of a block, which may be part of a class or of an if statement."""
    block = textwrap.dedent(block)
    if block.startswith(("elif ", "else:")):
        block = f"if ...:\n    ...\n{block}"
    return ast.parse(block)


def imported(node):
    """Names that an import statement makes known, if they come from a package of ours."""
    if isinstance(node, ast.ImportFrom):
        if node.module.partition(".")[0] not in PACKAGES:
            return {}
        module = importlib.import_module(node.module)
        names = {alias.asname or alias.name: alias.name for alias in node.names}
        found = {}
        for name, original in names.items():
            if not hasattr(module, original):  # a module that nobody has imported yet
                importlib.import_module(f"{node.module}.{original}")
            found[name] = getattr(module, original)
        return found
    ours = [alias for alias in node.names if alias.name.partition(".")[0] in PACKAGES]
    for alias in ours:
        importlib.import_module(alias.name)
    roots = {(alias.asname or alias.name).partition(".")[0]: alias for alias in ours}
    return {
        name: importlib.import_module(alias.name if alias.asname else name)
        for name, alias in roots.items()
    }


def resolved(node, known):
    """What a dotted name of ours stands for; `None` for any other; fails if there is none."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value, known)
        if inspect.ismodule(owner) or inspect.isclass(owner):
            assert hasattr(owner, node.attr), f"{owner.__name__} has no {node.attr}"
            return getattr(owner, node.attr)
    return None


def compare(call, function):
    """Fails if a function of ours does not take the arguments of a call."""
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    if inspect.isclass(function) and issubclass(function, Exception):
        return  # of a built-in class, which has no signature
    if callable(function) and not starred and all(word.arg for word in call.keywords):
        words = {word.arg: None for word in call.keywords}
        try:
            inspect.signature(function).bind(*call.args, **words)
        except TypeError as error:
            raise AssertionError(f"{ast.unparse(call)}: {error}") from None
