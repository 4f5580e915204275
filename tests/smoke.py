"""Tests the built packages where nothing of the checkout can help: the last step of `make dist`.

    python tests/smoke.py dist
    python tests/smoke.py dist --python python3.12 --python python3.13

Compares the files of the sdist and of the wheel with those of the checkout, installs the wheel
into an empty environment in a temporary folder, and runs commands from there, without network.
Any error ends it with a status other than 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
PACKAGES = ("scripts", "tasks", "zoo")
FOR_A_BUILD = {"LICENSE", "README.md", "pyproject.toml", "setup.cfg", "zoo/assets/NOTICE.md"}
TYPED = {"tasks/py.typed", "zoo/py.typed"}

TINY = (
    *("--epochs", "1", "--precision", "float32", "--train-split", "train[:128]"),
    *("--validation-split", "none", "--test-split", "test[:64]", "--json"),
)
COMMANDS = (  # each is run by the installed `zoo`, in an empty folder
    ("--version",),
    ("list", "--json"),
    ("show", "lenet5"),
    ("train", "classification", "--model", "lenet5", "--out", "trained", *TINY),
    ("finetune", "resnet20.cifar10", "--out", "tuned", *TINY),
    ("evaluate", "trained", "--json"),
)

IMPORTED = """
import sys
import zoo, tasks, scripts
for package in (zoo, tasks, scripts):
    assert package.__file__.startswith(sys.prefix), package.__file__
"""
BUILT = """
import numpy as np
import zoo
model = zoo.build("lenet5")
logits = model(np.zeros((2, *model.input_shape[1:]), "uint8"))
assert tuple(logits.shape) == (2, 10), logits.shape
assert zoo.build("resnet20.cifar10").count_params() > 250_000
"""
IMAGE = """
from importlib import resources
import numpy as np
from PIL import Image
with (resources.files("zoo") / "assets" / "fashion_sample.npz").open("rb") as file:
    Image.fromarray(np.load(file)["test_images"][0].squeeze()).save("image.png")
"""


def main():
    """Checks the archives of a folder, then the wheel with each interpreter."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the wheel and the sdist are")
    parser.add_argument(
        "--python", action="append", help="an interpreter to test with (default: this one)"
    )
    options = parser.parse_args()
    (wheel,) = options.folder.resolve().glob("*.whl")
    (sdist,) = options.folder.resolve().glob("*.tar.gz")
    check_archives(wheel, sdist)
    for python in options.python or [sys.executable]:
        with tempfile.TemporaryDirectory() as folder:
            check_wheel(wheel, python, Path(folder))


def check_archives(wheel, sdist):
    """Raises if an archive lacks a file, or has one that the checkout does not have."""
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive.getmembers() if member.isfile()]
    source = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in members}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    same("sdist and checkout", of_packages(source), expected)
    same("wheel and checkout", of_packages(installed), expected)
    same("what a build needs", FOR_A_BUILD & source, FOR_A_BUILD)
    same("marks of types", TYPED & installed, TYPED)
    print(f"{sdist.name}: {len(source)} files, {wheel.name}: {len(installed)} files")


def of_packages(names):
    """Returns the files that are imported or read by what is imported."""
    return {name for name in names if name.partition("/")[0] in PACKAGES}


def same(what, got, expected):
    """Raises if two sets of file names differ."""
    if got != expected:
        raise SystemExit(
            f"{what} differ: missing {sorted(expected - got)}, surplus {sorted(got - expected)}"
        )


def check_wheel(wheel, python, folder):
    """Installs the wheel into an empty environment below `folder` and uses it there."""
    began = time.perf_counter()
    environment, work = folder / "environment", folder / "work"
    work.mkdir()
    run([python, "-m", "venv", environment], work, os.environ)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    install = [scripts / "python", "-m", "pip", "--disable-pip-version-check"]
    run([*install, "install", "--quiet", wheel], work, os.environ)
    run([*install, "check"], work, os.environ)
    installed = time.perf_counter()
    use(scripts, work, alone(folder))
    used = time.perf_counter()
    version = run([scripts / "python", "--version"], work, os.environ).strip()
    print(f"{version}: installed in {installed - began:.0f} s, used in {used - installed:.0f} s")


def alone(folder):
    """Returns an environment for processes that know no home, no `PYTHONPATH` and no network."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    nowhere = "http://127.0.0.1:9"  # a proxy at which nobody listens
    proxies = {"http_proxy": nowhere, "https_proxy": nowhere}
    own = {"HOME": str(folder), "ZOO_HOME": str(folder / "cache"), "ZOO_OFFLINE": "1"}
    return {**kept, **proxies, **own, "CUDA_VISIBLE_DEVICES": ""}


def use(scripts, work, environment):
    """Imports, builds, trains and predicts with what was installed."""
    python, zoo = scripts / "python", scripts / "zoo"
    for code in (IMPORTED, BUILT, IMAGE):
        run([python, "-c", code], work, environment)
    for words in COMMANDS:
        run([zoo, *words], work, environment)
    for model in ("trained", "tuned"):
        answer = json.loads(run([zoo, "predict", model, "image.png", "--json"], work, environment))
        if not answer:
            raise SystemExit(f"zoo predict {model} printed nothing")


def run(words, folder, environment):
    """Runs a command; returns its standard output, or ends this process where it fails."""
    words = [str(word) for word in words]
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    shown = " ".join([Path(words[0]).name, *words[1:]]).strip().replace("\n", " ")
    print(f"{seconds:6.1f} s  {shown:.70}", flush=True)
    if done.returncode:
        raise SystemExit(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
