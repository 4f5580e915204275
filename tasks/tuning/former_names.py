"""Searches of earlier versions, in whose files flags have their former names."""

from __future__ import annotations

from tasks.engine.flags import former_flag_names
from tasks.tuning import state_files, trials_table
from zoo.lazy import LazyModule

keras_tuner = LazyModule("keras_tuner")


def rename_stored_flags(out, task):
    """Replaces the former names of flags in the state and the trials of a search.

    Args:
        out: the folder of the search; no other process may use it.
        task: the base task of all trials.
    """
    present = former_flag_names(task)
    for path in (out / trials_table.ORACLE_FILE, *trials_table.trial_files(out)):
        if path.exists():
            stored = state_files.read(path)
            renamed = _renamed(stored, present)
            if renamed != stored:
                with state_files.reported_damage(path):
                    renamed = _with_digests(renamed)
                state_files.write(path, renamed)


def _renamed(stored, present):
    """Returns JSON with present names as keys of flags and as names of hyperparameters."""
    if isinstance(stored, list):
        return [_renamed(each, present) for each in stored]
    if not isinstance(stored, dict):
        return stored
    found = {key: _renamed(value, present) for key, value in stored.items()}
    for key in ("values", "flags"):  # of hyperparameters; of the record of a trial
        if isinstance(found.get(key), dict):
            found[key] = {present.get(name, name): value for name, value in found[key].items()}
    if isinstance(found.get("config"), dict) and "name" in found["config"]:
        name = found["config"]["name"]
        found["config"] = {**found["config"], "name": present.get(name, name)}
    return found


def _with_digests(stored):
    """Returns the state of an oracle with the digests by which it finds values that were tried."""
    if "oracle" not in stored:
        return stored
    digest = keras_tuner.Oracle._compute_values_hash
    digests = {
        trial["trial_id"]: digest(None, trial["hyperparameters"]["values"])
        for trial in stored["trials"]
        if trial["trial_id"] in stored["oracle"]["id_to_hash"]
    }
    own = {"id_to_hash": digests, "tried_so_far": [*dict.fromkeys(digests.values())]}
    return {**stored, "oracle": {**stored["oracle"], **own}}
