"""Evaluates DQN on CartPole over several seeds: python benchmarks/dqn_cartpole.py

Trains `zoo train dqn` with its defaults, which are for CartPole-v1, with seeds 0 to 4: 100,000
environment steps, including random ones. Each policy is that of the epoch with the best return in
20 validation episodes, evaluated in 100 others with different seeds. Gymnasium counts a return of
475 as solved. Run folders stay under `--out`, so that an interrupted run resumes; `returns.html`
beside them plots the curves of all seeds with a band. Other environments and flags:

    python benchmarks/dqn_cartpole.py --dataset catch --flags '{epochs: 4}' --target 0.9
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import yaml

import tasks
from tasks.dqn import metrics
from tasks.engine import trainer
from tasks.report import page

COLUMNS = ("seed", "mean_return", "mean_return_low", "mean_return_high", "min_return", "seconds")
CURVES = {
    "val_mean_return": "Return of validation episodes",
    "mean_return": "Return of the last 100 training episodes",
}


def main():
    """Prints a row per seed as soon as it is trained, and writes the curves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", default="CartPole-v1", help="environment")
    parser.add_argument("--flags", default="{}", help="further flags as YAML")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(5)))
    parser.add_argument("--target", type=float, default=475.0, help="mean return to reach")
    parser.add_argument("--out", default="runs/dqn_cartpole", help="folder of all runs")
    args = parser.parse_args()
    flags = {"dataset": args.dataset, **yaml.safe_load(args.flags)}
    rows, histories = [], []
    print("".join(f"{name:>17}" for name in COLUMNS))
    for seed in args.seeds:
        task = tasks.get("dqn")(**flags, seed=seed)
        folder = Path(args.out) / f"seed-{seed}"
        found = {"seed": seed, **trainer.train(task, folder)["figures"]}
        rows.append([found[name] for name in COLUMNS])
        print("".join(f"{found[name]:>17.6g}" for name in COLUMNS), flush=True)
        with open(folder / "history.csv") as file:
            histories.append(list(csv.DictReader(file)))
    reached = sum(row[1] >= args.target for row in rows)
    steps = task.learning_starts + task.epochs * task.epoch_steps
    summary = f"{reached} of {len(rows)} seeds reached {args.target:g} within {steps:,} steps"
    print(summary)
    page.write(
        Path(args.out) / "returns.html",
        title=f"dqn in {args.dataset}",
        lead=f"{summary}.",
        command=f"python benchmarks/dqn_cartpole.py --dataset {args.dataset}",
        figures={"mean_return": sum(row[1] for row in rows) / len(rows)},
        sections=[
            *(
                (title, metrics.learning_curves(histories, name, title, task.epoch_steps))
                for name, title in CURVES.items()
            ),
            ("Seeds", page.table(rows, COLUMNS)),
        ],
        environment={"seeds": ", ".join(map(str, args.seeds))},
    )


if __name__ == "__main__":
    main()
