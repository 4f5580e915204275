"""Writes the results of a search: a table, an HTML page, the best recipe, TensorBoard events."""

from __future__ import annotations

import dataclasses
import json

from tasks.data import builder_options
from tasks.engine import recipes, resume
from tasks.report import environment, page, run_files
from tasks.tuning import hparams, report, trial, trials_table
from tasks.tuning.space import Choices
from zoo import atomic_files
from zoo.lazy import LazyModule

yaml = LazyModule("yaml")

HTML_FILE, BEST_RECIPE = "search.html", "best.yaml"
MODEL_OPTIONS = "model_options"  # the flag that holds an architecture


def search_summary(plan, engine, rows):
    """Returns the results of a search so far, as `tasks.tuning.tune.tune` returns them.

    Args:
        plan: a `runner.SearchPlan`.
        engine: the name of the engine.
        rows: the records of the trials, as `trials_table.read_trials` returns them.
    """
    best, recipe = trials_table.best_trial(rows), plan.out / BEST_RECIPE
    command = f"zoo train {plan.task.name} --recipe {recipe} --out NEW_FOLDER"
    return {
        "task": plan.task.name,
        "engine": engine,
        "out": str(plan.out),
        "trials": rows,
        "best": best and {**best, "figures": _trial_figures(plan, best)},
        "recipe": str(recipe) if best else "",
        "command": command if best else "",
    }


def write_summary(plan, engine, rows):
    """Writes and returns the results of a search so far."""
    found = search_summary(plan, engine, rows)
    trials_table.write_csv(plan.out, rows)
    if found["best"]:
        recipe = yaml.safe_dump(_trial_recipe(plan, found["best"]), sort_keys=False)
        atomic_files.write_text(plan.out / BEST_RECIPE, recipe)
    _write_page(plan, engine, rows, found)
    return found


def write_hparams(plan, rows):
    """Writes the TensorBoard events of the trials."""
    column = monitored_column(plan, rows).removeprefix("-")
    hparams.write_experiment(plan.out, plan.space, column)
    for row in rows:
        hparams.write_session(plan.out, row)


def monitored_column(plan, rows):
    """Returns the first of the task's `monitor` that the histories of the trials have.

    Which columns there are depends on the data, such as on whether their classes are balanced.

    Args:
        plan, rows: as in `search_summary`.
    """
    for row in rows:
        history = run_files.read_history(trials_table.trial_folder(plan.out, row["trial"]))
        for name in plan.task.monitor:
            if history and history[-1].get(name.removeprefix("-")):
                return name
    return plan.task.monitor[0]


def _trial_recipe(plan, best):
    """Returns the recipe of a trial, from its folder or, if that is elsewhere, from its flags."""
    there = trials_table.trial_folder(plan.out, best["trial"]) / recipes.RECIPE
    if there.exists():
        return recipes.read_recipe(there)
    return recipes.recipe(dataclasses.replace(plan.task, **best["flags"]))


def _trial_figures(plan, best):
    """Returns the figures in the report of a trial."""
    there = trials_table.trial_folder(plan.out, best["trial"]) / resume.REPORT
    return json.loads(there.read_text())["figures"] if there.exists() else {}


def _write_page(plan, engine, rows, found):
    monitor = monitored_column(plan, rows)
    drawn, spans = expand_model_options(plan.space, rows)
    sections = [
        ("Trials", report.trials_table(rows)),
        ("Best so far", report.optimization_history(rows)),
        ("Parallel coordinates", report.parallel_coordinates(drawn, spans)),
        ("Importance", report.flag_importances(drawn, spans)),
    ]
    best = found["best"]
    failed, stopped = (
        trials_table.failed_trials(rows),
        sum(r["status"] == trial.STOPPED for r in rows),
    )
    lead = f"{engine} search, {len(rows)} trials: {len(failed)} failed, {stopped} were "
    lead += f"stopped early. The score is {monitor.removeprefix('-')} of the best epoch"
    lead += ", negated, so that higher is better." if monitor.startswith("-") else "."
    page.write(
        plan.out / HTML_FILE,
        title=f"Search for {plan.task.name}",
        lead=lead,
        command=found["command"] or "zoo tune: no trial is completed yet",
        figures={"best_score": best["score"], **best["figures"]} if best else {},
        sections=sections,
        environment=environment.describe(),
        warnings=[f"trial {r['trial']} {r['status']}: {r['reason']}" for r in failed],
    )


def expand_model_options(space, rows):
    """Returns rows and ranges for plots, with the options of generated architectures as columns.

    An option with one value per block or layer, such as widths, is replaced by its maximum.
    """
    spans = _range_dicts(space)
    if MODEL_OPTIONS in space.ranges or not any(MODEL_OPTIONS in row["flags"] for row in rows):
        return rows, spans
    found, values = [], {}
    for row in rows:
        known = builder_options.parse_options(row["flags"].get(MODEL_OPTIONS, ""))
        known = {k: max(v, default=0) if isinstance(v, list) else v for k, v in known.items()}
        found.append({**row, "flags": {**row["flags"], **known}})
        for name, value in known.items():
            values.setdefault(name, set()).add(value)
    genes = [{"name": k, "values": sorted(v)} for k, v in values.items() if len(v) > 1]
    return found, [*spans, *genes]


def _range_dicts(space):
    """Returns the ranges as dicts, in the format of `report.parallel_coordinates`."""
    return [
        {"name": name, "values": list(span.values)}
        if isinstance(span, Choices)
        else {"name": name, "low": span.low, "high": span.high, "log": span.log}
        for name, span in space.ranges.items()
    ]
