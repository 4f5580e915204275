"""The benchmark: every case is measured or has a reason."""

import csv
import json

import numpy as np
import pytest

import zoo
from scripts.__main__ import main
from tasks.export import benchmark, benchmark_process, benchmark_table
from tasks.inference import exported_file
from zoo import model_files

CASE = {"model": "net", "runtime": "onnx", "precision": "float32", "batch_size": 8, "threads": 2}
FIGURES = {
    "median_ms": 4.0,
    "p90_ms": 5.0,
    "images_per_second": 2000.0,
    "calls": 9,
    "memory_mb": None,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    model = zoo.build("lenet5", input_shape=(32, 32, 3), num_classes=4)
    path = tmp_path_factory.mktemp("benchmark") / "net.keras"
    model_files.save(model, path, {"classes": list("abcd"), "resize": "crop"})
    return path


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each measurement, none of which is done."""
    calls = []

    def measure(path, inputs, **options):
        calls.append((path.name, {key: x.shape for key, x in inputs.items()}, options))
        return FIGURES

    monkeypatch.setattr(benchmark_process, "measure", measure)
    monkeypatch.setattr(benchmark.export, "write", lambda name, conversion, path: None)
    monkeypatch.setattr(benchmark.export, "missing_packages", lambda name, **options: [])
    return calls


def test_patterns_match_names_without_a_tag():
    found = benchmark.find_targets(["mobilenet_0*", "resnet50", "resnet50"])
    assert sorted(found) == ["mobilenet_025", "mobilenet_050", "mobilenet_075", "resnet50"]
    assert found[-1] == "resnet50"
    assert benchmark.find_targets(["resnet20.*"]) == ["resnet20.cifar10"]
    with pytest.raises(zoo.UsageError, match="no classifier of the zoo matches nothing"):
        benchmark.find_targets(["nothing*"])


def test_every_case_is_measured(file, calls):
    rows = benchmark.benchmark(
        [str(file)],
        runtimes=("onnx", "keras"),
        precisions=("float32", "int8"),
        batch_sizes=(1, 4),
        threads=(1, 2),
    )
    cases = [(row["runtime"], row["precision"], row["batch_size"], row["threads"]) for row in rows]
    assert cases == [
        *(("onnx", p, b, t) for p in ("float32", "int8") for b in (1, 4) for t in (1, 2)),
        *(("keras", "float32", b, t) for b in (1, 4) for t in (1, 2)),
        ("keras", "int8", None, None),
    ]
    assert "keras is not exported in int8" in rows[-1]["reason"]
    assert calls[1] == (
        "model.onnx",
        {"image": (1, 32, 32, 3)},
        {"num_threads": 2, "seconds": 2.0},
    )
    assert calls[-1][1] == {"image": (4, 32, 32, 3)}


def test_a_name_without_weights_is_measured(calls):
    rows = benchmark.benchmark(["lenet5"], runtimes=("keras",), batch_sizes=(1,), threads=(1,))
    assert [row["model"] for row in rows] == ["lenet5"]
    assert rows[0]["images_per_second"] == 2000


@pytest.mark.check
def test_a_process_measures_a_model(file):
    inputs = {"input": np.zeros((2, 32, 32, 3), "uint8")}
    found = benchmark_process.measure(file, inputs, num_threads=1, seconds=0.01)
    assert found["calls"] >= benchmark_process.MIN_RUNS
    assert 0 < found["median_ms"] <= found["p90_ms"]
    assert found["images_per_second"] == pytest.approx(2e3 / found["median_ms"])
    assert found["memory_mb"] is None or 20 < found["memory_mb"] < 5000


def test_a_file_that_does_not_run_has_a_reason(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    inputs = {"image": np.zeros((1, 2, 2, 3), "uint8")}
    with pytest.raises(zoo.UsageError, match="does not run in its runtime"):
        benchmark_process.measure(tmp_path / "model.onnx", inputs, num_threads=1, seconds=0.01)


def test_command(file, calls, tmp_path, capsys):
    words = ["benchmark", str(file), "--runtime", "onnx,keras", "--precision", "float32,int8"]
    words += ["--batch-size", "8", "--threads", "2"]
    files = ["--csv", str(tmp_path / "a.csv"), "--picture", str(tmp_path / "a.svg")]
    assert main([*words, *files]) == 0
    text = capsys.readouterr().out
    assert "onnx     float32        8        2       4.00    5.00    2000.0   -" in text
    assert "keras int8: keras is not exported in int8" in text
    assert max(map(len, text.partition("keras int8:")[0].splitlines()[1:])) <= 80
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["images_per_second"] for row in rows] == ["2000.0"] * 3 + [""]
    assert (tmp_path / "a.svg").read_text().count('class="bar"') == 3
    assert main([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "x"], "--batch-size takes integers with commas, not 'x'"),
        (["--batch-size", "0"], "numbers are 1 or more"),
        (["--precision", "int4"], "no precision named 'int4'"),
        (["--runtime", "tensorrt"], "no runtime named 'tensorrt'"),
        (["--csv", "a.txt"], "a.txt must end in .csv"),
        (["--seconds", "0"], "--seconds must be in"),
    ],
)
def test_bad_options_are_refused(flags, message, capsys):
    assert main(["benchmark", "lenet5", *flags]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_picture_has_the_fastest_first():
    slow = {**CASE, **FIGURES, "images_per_second": 10.0, "runtime": "keras"}
    failed = {**CASE, "reason": "no"}
    text = benchmark_table.picture([slow, failed, {**CASE, **FIGURES}])
    assert text.index("onnx float32") < text.index("keras float32")
    assert text.count('class="bar"') == 2
    assert benchmark_table.picture([]).startswith("<svg")


def test_all_targets_are_looked_up_first(file, calls):
    with pytest.raises(zoo.UsageError, match=r"none\.keras does not exist"):
        benchmark.benchmark([str(file), str(file.with_name("none.keras"))])
    assert not calls


def test_labels_of_an_exported_generator_are_classes(tmp_path, monkeypatch):
    opened = exported_file.ExportedFile(
        tmp_path / "model.onnx",
        {"task": "gan", "classes": ["cat", "dog"]},
        {"latent": (None, 8), "label": (None,)},
        {"latent": np.dtype("float32"), "label": np.dtype("int32")},
        None,
    )
    monkeypatch.setattr(benchmark.exported_file, "open_file", lambda name: opened)
    monkeypatch.setattr(benchmark.model_loader, "find_model", lambda name: opened.path)
    seen = []
    monkeypatch.setattr(
        benchmark_process, "measure", lambda path, inputs, **options: seen.append(inputs) or FIGURES
    )
    benchmark.benchmark([str(opened.path)], batch_sizes=(4,))
    (inputs,) = seen
    assert inputs["latent"].shape == (4, 8)
    assert inputs["latent"].any()
    assert inputs["label"].tolist() == [0] * 4


def test_the_table_is_printed_also_if_a_file_cannot_be_written(file, calls, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["benchmark", str(file), "--runtime=onnx", f"--csv={tmp_path / 'file' / 'a.csv'}"]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "2000.0" in printed.out
    assert "could not be written" in printed.err
