"""Compares search engines and their overhead: python benchmarks/search.py --out FOLDER

Two comparisons with equal numbers of trials, three seeds each, on a subset of Fashion-MNIST
(the packaged `fashion_sample`, or `--dataset tfds:fashion_mnist --data-dir DIR --images 2000`):

- `flags`: learning rate, batch size, dropout and label smoothing of a small network by `shrinking`,
  `random` and `bayesian`;
- `structures`: architectures of a small convolutional network by `evolution`, with and without
  inherited weights, and by random search.

For each engine it prints the best validation score after a quarter, half and all of the trials, and
the test accuracy of the best trial, as mean and per seed; FOLDER gets all curves as `NAME.csv` and
as a plot. After an interruption, the same command resumes. `overhead` is the time of a trial
besides its epochs, with and without processes, and in plain keras-tuner with the same network and
images.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tasks
from tasks.report import axes, svg
from tasks.tuning import tune

FLAGS = "learning_rate=1e-5..1,batch_size=16|32|64|128,dropout=0..0.8,label_smoothing=0..0.5"
RANDOM_STRUCTURES = {"random": 1.0, "inherit": False}
PARTS = {  # name of an engine in the tables: how to search, and the model of the task
    "flags": {
        "shrinking": ({"engine": "shrinking", "search": FLAGS}, "lenet5"),
        "random": ({"engine": "random", "search": FLAGS}, "lenet5"),
        "bayesian": ({"engine": "bayesian", "search": FLAGS}, "lenet5"),
    },
    "structures": {
        "evolution": ({"engine": "evolution"}, "convnet"),
        "evolution anew": ({"engine": "evolution", "options": {"inherit": False}}, "convnet"),
        "random": ({"engine": "evolution", "options": RANDOM_STRUCTURES}, "convnet"),
    },
}
COLOURS = ("#1a6bb0", "#bf4f00", "#2a7d46")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--parts", nargs="*", default=[*PARTS, "overhead"])
    parser.add_argument("--dataset", default="fashion_sample")
    parser.add_argument("--data-dir", default="")
    parser.add_argument(
        "--images", type=int, default=1500, help="training images; 500 others validate"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-flops", type=float, default=5e6, help="of a structure")
    args = parser.parse_args()
    for part, engines in PARTS.items():
        if part in args.parts:
            compare(part, engines, args)
    if "overhead" in args.parts:
        overhead(args)


def compare(part, engines, args):
    """Prints and writes the best score of each engine after each trial."""
    marks = [max(1, args.trials * share // 4) for share in (1, 2, 4)]
    print(f"\n{part:<16}" + "".join(f"{f'best of {n}':>12}" for n in marks) + "   test accuracy")
    curves = {}
    for name, (how, model) in engines.items():
        found = [search(part, name, how, model, seed, args) for seed in range(args.seeds)]
        curves[name] = [best_so_far(one["trials"], args.trials) for one in found]
        means = [statistics.fmean(curve[n - 1] for curve in curves[name]) for n in marks]
        tests = [one["best"]["figures"]["accuracy"] for one in found]
        seeds = " ".join(f"{test:.3f}" for test in tests)
        row = "".join(f"{mean:>12.4f}" for mean in means)
        print(f"{name:<16}{row}   {statistics.fmean(tests):.3f} ({seeds})", flush=True)
    write(args.out / f"{part}.csv", curves)
    (args.out / f"{part}.svg").write_text(plot(part, curves), encoding="utf-8")


def search(part, name, how, model, seed, args):
    """Returns the results of one search; a completed one is only read."""
    how = {"options": {}, **how}
    if how["engine"] == "evolution":
        how["options"] = {**how["options"], "max_flops": args.max_flops}
    out = args.out / f"{part}-{name.replace(' ', '-')}-{seed}"
    return tune.tune(
        task(args, model, seed),
        out,
        trials=args.trials,
        median_stopping_epochs=0,
        workers=args.workers,
        **how,
    )


def task(args, model, seed):
    """Returns the base task of all trials."""
    return tasks.get("classification")(
        model=model,
        dataset=args.dataset,
        data_dir=args.data_dir,
        train_split=f"train[:{args.images}]",
        validation_split=f"train[{args.images}:{args.images + 500}]",
        epochs=args.epochs,
        weight_decay=1e-4,
        seed=seed,
    )


def best_so_far(rows, trials):
    """Returns the best score up to each trial, padded if a search ended early."""
    found, best = [], 0.0
    for row in rows:
        best = max(best, row["score"] or 0.0)
        found.append(best)
    return found + [best] * (trials - len(found))


def write(path, curves):
    """Writes a row per trial, engine and seed."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("engine", "seed", "trial", "best"))
        for name, seeds in curves.items():
            for seed, curve in enumerate(seeds):
                writer.writerows((name, seed, n, f"{best:.5f}") for n, best in enumerate(curve, 1))


def plot(part, curves):
    """Draws the curve of each seed, thin, and of their mean."""
    means = {
        name: [statistics.fmean(bests) for bests in zip(*seeds, strict=True)]
        for name, seeds in curves.items()
    }
    trials = len(next(iter(means.values())))
    y_axis = axes.nice_axis([best for mean in means.values() for best in mean[trials // 8 :]])
    x_axis = axes.integer_axis(1, max(2, trials))
    parts = [svg.text(370, 20, f"{part}: best validation score so far, by trial", kind="title")]
    for value, text in y_axis.ticks:
        parts.append(svg.text(52, 364 - 320 * y_axis.at(value), text, anchor="end"))
        parts.append(svg.path(f"M60 {360 - 320 * y_axis.at(value):.1f}H680", kind="grid"))
    parts += [svg.text(60 + 620 * x_axis.at(n), 380, text) for n, text in x_axis.ticks]
    style = ".grid { stroke: #d8dee4 } .line { fill: none } "
    for number, (name, seeds) in enumerate(curves.items()):
        style += f".thin{number} {{ stroke: {COLOURS[number]}; opacity: .3 }} "
        style += f".mean{number} {{ stroke: {COLOURS[number]}; stroke-width: 2.5 }} "
        style += f".name{number} {{ fill: {COLOURS[number]} }} "
        for kind, curve in [
            *((f"thin{number}", one) for one in seeds),
            (f"mean{number}", means[name]),
        ]:
            points = [
                (60 + 620 * x_axis.at(n), 360 - 320 * max(0.0, y_axis.at(best)))
                for n, best in enumerate(curve, 1)
            ]
            parts.append(svg.polyline(points, kind=f"{kind}{number}"))
        parts.append(svg.text(670, 300 + 18 * number, name, anchor="end", kind=f"name{number}"))
    return svg.standalone_svg(720, 400, parts, f"best so far by trial: {part}", style)


def overhead(args):
    """Prints the time of a trial besides its epochs."""
    print(f"\n{'seconds per trial':<34}{'all':>8}{'epochs':>8}{'rest':>8}")
    with tempfile.TemporaryDirectory() as folder:
        how = {
            "engine": "random",
            "search": "learning_rate=1e-4..1e-2",
            "median_stopping_epochs": 0,
        }
        for name, isolate in (("zoo tune", True), ("zoo tune --isolate off", False)):
            out = Path(folder) / name.replace(" ", "")
            started = time.perf_counter()
            found = tune.tune(
                task(args, "lenet5", 0), out, trials=args.trials, isolate=isolate, **how
            )
            total = time.perf_counter() - started
            epochs = sum(row["seconds"] for row in found["trials"])
            print_row(name, total, epochs, args.trials)
        print_row("keras-tuner", *plain(args, Path(folder) / "plain"), args.trials)


def print_row(name, total, epochs, trials):
    """Prints a row: total seconds, of epochs and of the rest, per trial."""
    row = [value / trials for value in (total, epochs, total - epochs)]
    print(f"{name:<34}" + "".join(f"{value:>8.2f}" for value in row), flush=True)


def plain(args, folder):
    """Searches with plain keras-tuner; returns the total seconds and those of epochs."""
    import keras
    import keras_tuner

    import zoo

    data = task(args, "lenet5", 0).load()
    seconds, begun = [], []

    def build(hp):
        model = zoo.build("lenet5", input_shape=data.image_shape, num_classes=10)
        rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(rate), loss, metrics=["accuracy"])
        return model

    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: begun.append(time.perf_counter()),
        on_epoch_end=lambda *_: seconds.append(time.perf_counter() - begun[-1]),
    )
    parts = [(one.pixels[:], one.labels[:]) for one in (data.train, data.validation)]
    started = time.perf_counter()
    tuner = keras_tuner.RandomSearch(
        build,
        objective="val_accuracy",
        max_trials=args.trials,
        directory=folder,
        max_consecutive_failed_trials=1,
    )
    tuner.search(
        *parts[0],
        validation_data=parts[1],
        epochs=args.epochs,
        batch_size=32,
        callbacks=[clock],
        verbose=0,
    )
    return time.perf_counter() - started, sum(seconds)


if __name__ == "__main__":
    main()
