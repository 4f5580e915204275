"""The notebooks of `examples/` run, and their outputs are stored in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT

nbformat = pytest.importorskip("nbformat")
MARKS = dict.fromkeys("25", pytest.mark.check)  # the others are about what other tests run
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def test_there_are_five_notebooks():
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_no_error(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert all(cell.execution_count for cell in cells)
    assert not any(output.output_type == "error" for output in outputs)
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=MARKS.get(path.stem[0], pytest.mark.slow), id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_notebook_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(Path(path), 4)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=folder).execute()
