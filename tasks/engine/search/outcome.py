"""What a search leaves: a table, a page, the best recipe, and what TensorBoard reads."""

from __future__ import annotations

import dataclasses
import json

from tasks.engine import environment, options, resume
from tasks.engine.search import hparams, ledger, trial
from tasks.engine.search.space import Choices
from tasks.report import page, searches
from zoo.lazy import LazyModule

yaml = LazyModule("yaml")

PAGE, BEST = "search.html", "best.yaml"
OPTIONS = "model_options"  # the flag that says what a structure is


def known(plan, engine, rows):
    """Returns what is known of a search so far, what `tasks.engine.tune.tune` returns.

    Args:
        plan: a `runner.Plan`.
        engine: its name.
        rows: what `ledger.read` returned.
    """
    best, recipe = ledger.best(rows), plan.out / BEST
    command = f"zoo train {plan.task.name} --recipe {recipe} --out NEW_FOLDER"
    return {
        "task": plan.task.name,
        "engine": engine,
        "out": str(plan.out),
        "trials": rows,
        "best": best and {**best, "figures": _figures(plan, best)},
        "recipe": str(recipe) if best else "",
        "command": command if best else "",
    }


def write(plan, engine, rows):
    """Writes what is known of a search so far, and returns it."""
    found = known(plan, engine, rows)
    ledger.table(plan.out, rows)
    if found["best"]:
        recipe = yaml.safe_dump(_recipe(plan, found["best"]), sort_keys=False)
        resume.write_text(plan.out / BEST, recipe)
    _page(plan, engine, rows, found)
    return found


def tell(plan, rows):
    """Writes what TensorBoard reads of the trials, the last of which has just ended."""
    column = plan.task.goals[0].removeprefix("-")
    hparams.experiment(plan.out, plan.space, column)
    for row in rows:
        hparams.session(plan.out, row)


def _recipe(plan, best):
    """Returns the recipe of a trial, as its folder has it or, where that is far, as it was made."""
    there = ledger.folder(plan.out, best["trial"]) / resume.RECIPE
    if there.exists():
        return resume.read_recipe(there)
    return resume.recipe(dataclasses.replace(plan.task, **best["flags"]))


def _figures(plan, best):
    """Returns what the report of a trial says of its model."""
    there = ledger.folder(plan.out, best["trial"]) / resume.REPORT
    return json.loads(there.read_text())["figures"] if there.exists() else {}


def _page(plan, engine, rows, found):
    goal = plan.task.goals[0]
    drawn, spans = unfolded(plan.space, rows)
    sections = [
        ("Trials", searches.trials(rows)),
        ("Best so far", searches.best_so_far(rows)),
        ("Parallel coordinates", searches.parallel(drawn, spans)),
        ("Importance", searches.importance(drawn, spans)),
    ]
    best = found["best"]
    failed, stopped = ledger.failures(rows), sum(r["status"] == trial.STOPPED for r in rows)
    lead = f"{engine} search, {len(rows)} trials: {len(failed)} failed, {stopped} lagged and were "
    lead += f"stopped. The score is {goal.removeprefix('-')} of the best epoch"
    lead += ", negated: the larger the better." if goal.startswith("-") else "."
    page.write(
        plan.out / PAGE,
        title=f"Search for {plan.task.name}",
        lead=lead,
        command=found["command"] or "zoo tune: no trial is complete yet",
        figures={"best_score": best["score"], **best["figures"]} if best else {},
        sections=sections,
        environment=environment.describe(),
        warnings=[f"trial {r['trial']} {r['status']}: {r['reason']}" for r in failed],
    )


def unfolded(space, rows):
    """Returns rows and ranges for pictures, in which a structure that was made up is its options.

    Of what is said for each block or layer, such as widths, the largest stands for all.
    """
    spans = _axes(space)
    if OPTIONS in space.ranges or not any(OPTIONS in row["flags"] for row in rows):
        return rows, spans
    found, values = [], {}
    for row in rows:
        known = options.parsed(row["flags"].get(OPTIONS, ""))
        known = {k: max(v, default=0) if isinstance(v, list) else v for k, v in known.items()}
        found.append({**row, "flags": {**row["flags"], **known}})
        for name, value in known.items():
            values.setdefault(name, set()).add(value)
    genes = [{"name": k, "values": sorted(v)} for k, v in values.items() if len(v) > 1]
    return found, [*spans, *genes]


def _axes(space):
    """Returns the ranges as the report takes them, dicts."""
    return [
        {"name": name, "values": list(span.values)}
        if isinstance(span, Choices)
        else {"name": name, "low": span.low, "high": span.high, "log": span.log}
        for name, span in space.ranges.items()
    ]
