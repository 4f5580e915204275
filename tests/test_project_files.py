"""The files of the root: Makefile, hooks of pre-commit, citation, how to contribute."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import zoo

ROOT = Path(zoo.__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
# Of https://citation-file-format.github.io, version 1.2.0.
CFF_REQUIRED = {"authors", "cff-version", "message", "title"}
CFF_KNOWN = CFF_REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "preferred-citation", "references", "repository"),
    *("repository-artifact", "repository-code", "type", "url", "version"),
}
CFF_ENTITY = {  # of an author that is no person
    *("address", "alias", "city", "country", "date-end", "date-start", "email", "fax", "location"),
    *("name", "orcid", "post-code", "region", "tel", "website"),
}


def setup_cfg():
    parser = configparser.ConfigParser(inline_comment_prefixes="#")
    parser.read(ROOT / "setup.cfg")
    return parser


def targets():
    (line,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.M)
    return line.split()


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("make ")]
    assert sorted(listed) == sorted(targets())


def test_the_longer_checks_build_the_documentation():
    (needed,) = re.findall(r"^check: (.*?)  ##", MAKEFILE, re.M)
    assert "docs" in needed.split()


def test_the_longer_checks_run_numerical_tests_as_an_older_processor_does():
    """With those marked check, as most tests of absorbed batch normalization are."""
    (files,) = re.findall(r"^NUMERICAL := (.*)$", MAKEFILE, re.M)
    (words,) = re.findall(
        r"ONEDNN_MAX_CPU_ISA=SSE41 (.*)\\\n\s+\$\(NUMERICAL:%=tests/%\.py\)", MAKEFILE
    )
    assert "--check" in words.split()
    assert "zoo/surgery/test_folding" in files.split()
    assert all((ROOT / "tests" / f"{name}.py").exists() for name in files.split())


def test_make_without_a_target_runs_the_demo():
    assert re.findall(r"^([a-z]+):", MAKEFILE, re.M)[0] == "demo"


def test_the_contributing_page_names_targets_and_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`make ([a-z]+)", text)) <= set(targets())
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_the_hooks_have_the_versions_of_setup_cfg():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    asked = {name for hook in hooks for name in hook["additional_dependencies"]}
    declared = setup_cfg()["options.extras_require"]["test"].splitlines()
    assert {name for name in asked if name.startswith("ruff")} <= {
        line.strip() for line in declared
    }
    assert "ruff" in str(asked)


def test_the_citation_has_the_fields_of_its_format():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert CFF_REQUIRED <= set(citation) <= CFF_KNOWN
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert citation["version"] == zoo.__version__
    assert citation["license"] == setup_cfg()["metadata"]["license"]
    assert all(set(author) <= CFF_ENTITY and author["name"] for author in citation["authors"])
    assert all(isinstance(word, str) for word in citation["keywords"])


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_root_holds_what_the_project_consists_of():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs a git checkout")
    folders = {line.split("/")[0] for line in done.stdout.splitlines() if "/" in line}
    assert folders == {".ci", "benchmarks", "docs", "examples", "scripts", "tasks", "tests", "zoo"}
