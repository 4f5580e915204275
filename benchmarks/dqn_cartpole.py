"""How well DQN learns CartPole, over seeds: python benchmarks/dqn_cartpole.py

Trains `zoo train dqn` with its defaults, which are for CartPole-v1, with seeds 0 to 4: 100,000
steps in the environment, random ones included. Each policy is the one of the epoch that did best in
20 validation episodes, and is judged by 100 others, with seeds of their own; 475 is what Gymnasium
counts as solved. Folders stay under `--out`, so that a run that was stopped goes on; beside them
`returns.html` shows the curves of all seeds with a band. Any environment and any flag will do:

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
    """Prints a row for each seed, as soon as it is known, and writes the curves."""
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
    said = f"{reached} of {len(rows)} seeds reached {args.target:g} within {steps:,} steps"
    print(said)
    page.write(
        Path(args.out) / "returns.html",
        title=f"dqn in {args.dataset}",
        lead=f"{said}.",
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
