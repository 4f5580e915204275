"""ONNX Runtime Web, the JavaScript package that runs ONNX files in a browser, from npm."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import UsageError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SCRIPT = "ort.wasm.min.js"
EMBEDDED = ("ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
MAX_BYTES = 2**26  # of a file of the package
HINT = f"or pass a copy: --onnxruntime-web DIR, an unpacked {PACKAGE}, or its .tgz"


@dataclass(frozen=True)
class OnnxRuntimeWeb:
    """The files of the package that a page needs.

    Attributes:
        version: The version of the package.
        files: The content of `SCRIPT` and of each of `EMBEDDED` by name.
    """

    version: str
    files: dict[str, bytes] = field(repr=False)


def load(copy="") -> OnnxRuntimeWeb:
    """Returns the package.

    Args:
        copy: The path of a copy: an unpacked package or a `.tgz` file of npm. By default, npm
            downloads `VERSION`, and compares it with the digest of the registry.

    Raises:
        UsageError: The copy is none, or npm is missing or fails.
    """
    if copy:
        return _read(Path(copy))
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"a web page needs npm, to download {PACKAGE}: install Node.js, {HINT}")
    with tempfile.TemporaryDirectory() as folder:
        words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--prefer-offline", "--silent"]
        done = subprocess.run(
            [*words, "--pack-destination", folder], cwd=folder, capture_output=True, text=True
        )
        found = [*Path(folder).glob("*.tgz")]
        if done.returncode or not found:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            reason = lines[-1].removeprefix("npm error ") if lines else "no network?"
            raise UsageError(f"npm cannot download {PACKAGE} {VERSION}: {reason:.200}; {HINT}")
        return _read(found[0])


def _read(path):
    read = _archive_reader(path) if path.is_file() else lambda name: (path / name).read_bytes()
    try:
        about = json.loads(read("package.json"))
        if about["name"] != PACKAGE:
            raise UsageError(f"{path} is the package {about['name']!r:.60}, not {PACKAGE}")
        files = {name: read(f"dist/{name}") for name in (SCRIPT, *EMBEDDED)}
        return OnnxRuntimeWeb(str(about["version"]), files)
    except (OSError, KeyError, ValueError, TypeError, tarfile.TarError) as error:
        raise UsageError(
            f"{path} is not a copy of {PACKAGE} {VERSION}: {str(error).splitlines()[0]:.200}"
        ) from error


def _archive_reader(path):
    def read(name):
        with tarfile.open(path) as archive:
            member = archive.getmember(f"package/{name}")
            if not member.isfile() or member.size > MAX_BYTES:
                raise ValueError(f"{name} is not a file of at most {MAX_BYTES:,} bytes")
            return archive.extractfile(member).read()

    return read
