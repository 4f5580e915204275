"""What a search tries next, and what it keeps: on functions that cost nothing, not on networks."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import re
import statistics
import threading
import time
from xml.etree import ElementTree

import numpy as np
import pytest

import tasks
import zoo
from tasks.engine.flags import Between
from tasks.gan import networks
from tasks.tuning import (
    engines,
    hparams,
    median_stopping,
    runner,
    space,
    summary,
    trial,
    trials_table,
)
from tasks.tuning import report as searches
from tasks.tuning import server as chief
from zoo.errors import UsageError

pytest.importorskip("keras_tuner")
pytest.importorskip("tensorboard")

from tasks.tuning import oracles

TASK = tasks.get("classification")(model="mlp", epochs=9)
RATE = "learning_rate=1e-5..1e-1"
MIXED = RATE + ",batch_size=8..256,dropout=0.0|0.25|0.5,augment=none|light|rand"


def ranges(asked="", given=()):
    return space.make_space(TASK, asked, given).ranges


def oracle(engine, asked=MIXED, *, trials=12, seed=0, **options):
    found = space.make_space(TASK, asked)
    return engines.make_oracle(engine, found, trials=trials, seed=seed, task=TASK, **options), found


def good(flags):
    """Scores flags: the best are a rate of 1e-3, a batch of 64, a dropout of 0.25."""
    return (
        -abs(math.log10(flags.get("learning_rate", 1e-3)) + 3)
        - abs(math.log2(flags.get("batch_size", 64)) - 6) / 4
        - abs(flags.get("dropout", 0.25) - 0.25)
        - (flags.get("augment", "light") != "light") / 4
    )


def play(found, ranges, count=10**6, score=good, tuner="t"):
    """Runs trials of a score that is known, at most so many; returns the flags of each."""
    told = []
    while len(told) < count:
        one = found.create_trial(tuner)
        if one.status == oracles.STOPPED:
            break
        flags = ranges.flags(one.hyperparameters.values)
        told.append(flags)
        value = score(flags)
        if value is None:
            one.status, one.message = oracles.FAILED, "it broke"
        else:
            found.update_trial(one.trial_id, {oracles.SCORE: value}, step=1)
            one.status = oracles.COMPLETED
        found.end_trial(one)
    return told


# The space


def test_flags_declare_what_is_searched_in_every_task():
    for name in tasks.names():
        assert "learning_rate" in space.declared_ranges(tasks.get(name))
    assert ranges()["augment"] == space.Choices(("none", "light", "rand"))
    assert "augment" not in ranges(given=["augment"])


@pytest.mark.parametrize("model", [x for x in zoo.names(kind="classifier") if "." not in x])
def test_a_default_search_holds_only_what_a_classifier_can_follow(model):
    start = tasks.get("classification")(model=model)
    spec = zoo.spec(model)
    known = set(inspect.signature(spec.builder).parameters)
    found = space.make_space(start).ranges
    assert ("dropout" in found) == ("dropout" in known)
    for name, span in found.items():
        ends = (span.low, span.high) if isinstance(span, Between) else span.values
        for value in ends:
            asked = dataclasses.replace(start, **{name: value})
            assert set(asked.options()) <= known
            asked.shape()
            asked.stages()


@pytest.mark.parametrize("model", list(networks.VARIANTS))
def test_a_default_search_holds_only_what_players_can_follow(model):
    start = tasks.get("gan")(model=model)
    found = space.make_space(start).ranges
    assert ("critic_norm" in found) == (not start.variant().gradient_penalty)
    for name, span in found.items():
        for value in getattr(span, "values", ()):
            dataclasses.replace(start, **{name: value})


def test_dropout_that_a_model_does_not_have_is_refused_with_the_option_that_does_it():
    with pytest.raises(UsageError, match=r"{conv_dropout: 0.3, hidden_dropout: 0.3}"):
        tasks.get("classification")(model="convnet", dropout=0.3)
    with pytest.raises(UsageError, match="convnet has no dropout right before its logits"):
        space.make_space(tasks.get("classification")(model="convnet"), "dropout")


def test_a_user_names_flags_and_ranges():
    found = ranges(
        "learning_rate, batch-size=16|32,dropout=0..0.5,epochs=1..20:linear,erase=0.01..1,"
        "model_options={widths: [32, 64], dropout: 0.1}|{widths: [8]},milestones=0.5,0.75|0.3"
    )
    assert found == {
        "learning_rate": Between(1e-5, 1e-2),
        "batch_size": space.Choices((16, 32)),
        "dropout": Between(0.0, 0.5, log=False),
        "epochs": Between(1, 20, log=False),
        "erase": Between(0.01, 1.0, log=True),
        "model_options": space.Choices(("{widths: [32, 64], dropout: 0.1}", "{widths: [8]}")),
        "milestones": space.Choices(("0.5,0.75", "0.3")),
    }
    for span in found.values():
        assert ranges(f"learning_rate={space.format_range(found['learning_rate'])}")
        assert space.format_range(span)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("learnin_rate", "did you mean learning_rate"),
        ("erase", "declares no range to search; give one: erase=LOW..HIGH"),
        ("batch_size=0|8", "--batch-size must be from 1 to 1000000000"),
        ("augment=heavy", "no choice of --augment named 'heavy'"),
        ("learning_rate=1e-1..1e-3", "goes from 0.1 to 0.001"),
        ("learning_rate=0..1:log", "write learning_rate=0.0..1.0:linear"),
        ("learning_rate=a..b", "takes numbers, not 'a'"),
        ("learning_rate=1e-3..1:lg", "did you mean log"),
        ("batch_size=1.5", "takes whole numbers"),
    ],
)
def test_wrong_ranges_say_what_is_right(asked, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        ranges(asked)


def test_what_is_given_is_not_searched():
    with pytest.raises(UsageError, match="both given and searched: leave out --learning-rate"):
        ranges("learning_rate", given=["learning_rate"])


def test_flags_are_typed_and_survive_32_bits():
    found = space.make_space(TASK, MIXED)
    values = {"learning_rate": np.float32(0.000123456), "dropout": np.float32(0.25), "x": 1}
    flags = found.flags(values | {"batch_size": 17.0, space.HYPERBAND_EPOCHS: 3})
    assert flags == {"learning_rate": 0.000123456, "dropout": 0.25, "batch_size": 17, "epochs": 3}
    assert [type(flags[key]) for key in ("learning_rate", "batch_size")] == [float, int]


@pytest.mark.parametrize("name", ["learning_rate", "batch_size"])
def test_places_in_a_range_are_even_on_its_scale(name):
    found = space.make_space(TASK, MIXED)
    for place in (0.0, 0.2, 0.5, 1.0):
        value = found.at(name, place)
        assert found.place(name, value) == pytest.approx(place, abs=0.02)
    assert found.at("learning_rate", 0.5) == pytest.approx(1e-3)


# Engines


@pytest.mark.parametrize("engine", ["random", "grid", "hyperband", "narrowing", "bayesian"])
def test_a_search_that_is_killed_goes_on_as_if_it_were_not(engine, tmp_path):
    if engine == "bayesian":
        pytest.importorskip("sklearn")
    asked = f"{RATE},dropout=0.0|0.25|0.5"
    options = {"first": 4} if engine == "bayesian" else {}
    trials = 6 if engine == "bayesian" else 14
    whole, found = oracle(engine, asked, trials=trials, **options)
    wanted = play(whole, found)
    assert len(wanted) == trials
    told = []
    for part in range(0, trials, 5):
        again, _ = oracle(engine, asked, trials=trials, **options)
        again.keep(tmp_path)
        told += play(again, found, 5)
        assert again.create_trial("t").status in (oracles.RUNNING, oracles.STOPPED)
        del again  # killed, with a trial under way
        assert len(told) == min(trials, part + 5)
    assert told == wanted


def test_the_seed_decides_also_where_it_is_0():
    first, found = oracle("random", trials=5, seed=0)
    second, _ = oracle("random", trials=5, seed=0)
    other, _ = oracle("random", trials=5, seed=1)
    assert play(first, found) == play(second, found) != play(other, found)


def test_a_file_that_was_half_written_is_never_seen(tmp_path, monkeypatch):
    first, found = oracle("random")
    first.keep(tmp_path)
    play(first, found, 2)
    before = first.path.read_text()
    monkeypatch.setattr(oracles.json, "dumps", lambda state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        first.save()
    assert first.path.read_text() == before
    assert [*tmp_path.iterdir()] == [first.path]


def test_the_grid_is_whole_and_evenly_spaced():
    found, ranges = oracle("grid", f"{RATE},dropout=0.0|0.25|0.5", trials=100, points=3)
    told = [tuple(flags.values()) for flags in play(found, ranges)]
    assert sorted(told) == sorted(itertools.product([1e-5, 1e-3, 1e-1], [0.0, 0.25, 0.5]))


def test_hyperband_sets_epochs_and_goes_on_with_the_best():
    found, ranges = oracle("hyperband", RATE, trials=100, iterations=1)
    told = play(found, ranges)
    assert {flags["epochs"] for flags in told} == {1, 3, 9}
    first = [flags for flags in told[:9] if flags["epochs"] == 1]
    promoted = [flags["learning_rate"] for flags in told if flags["epochs"] == 3][:3]
    best = sorted(first, key=good, reverse=True)[:3]
    assert promoted == [flags["learning_rate"] for flags in best]


def test_failures_end_no_search():
    found, ranges = oracle("random", trials=6)
    assert len(play(found, ranges, score=lambda flags: None)) == 6
    assert {one.status for one in found.trials.values()} == {oracles.FAILED}


def test_engines_say_what_they_take(monkeypatch):
    with pytest.raises(UsageError, match="no option of narrowing named 'shares'; did you mean sh"):
        oracle("narrowing", shares=1)
    with pytest.raises(UsageError, match="narrowing takes a share and a width between 0 and 1"):
        oracle("narrowing", share=2)
    with pytest.raises(UsageError, match="did you mean random"):
        oracle("randm")
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs keras_tuner, by: pip install 'keras-zoo\[tune\]'"):
        oracle("random")


# Narrowing


def test_narrowing_shrinks_ranges_around_the_best():
    found, ranges = oracle("narrowing", trials=40, round_size=8)
    play(found, ranges, 33)
    low, high = found.bounds["learning_rate"]
    assert high - low < 0.6**4 + 1e-9
    assert low - 0.05 < 0.5 < high + 0.05  # 1e-3, in the middle of the range
    assert found.bounds["dropout"] == [0.25]
    assert [len(ids) for ids in found.rounds] == [8, 8, 8, 8, 1]


def test_a_round_of_narrowing_covers_each_range_evenly():
    found, ranges = oracle("narrowing", RATE, trials=40, round_size=10)
    places = sorted(ranges.place(*one) for f in play(found, ranges, 10) for one in f.items())
    assert [int(place * 10) for place in places] == list(range(10))


def test_narrowing_stops_where_the_ranges_are_small():
    found, ranges = oracle("narrowing", RATE, trials=1000, width=0.1, round_size=5)
    told = play(found, ranges)
    assert len(told) < 100
    low, high = found.bounds["learning_rate"]
    assert high - low < 0.1
    assert abs(math.log10(max(told, key=good)["learning_rate"]) + 3) < 0.2


def test_narrowing_stops_where_all_choices_were_tried():
    found, ranges = oracle("narrowing", "augment", trials=100)
    assert len(play(found, ranges)) == 3


def test_narrowing_does_better_than_chance():
    def reached(engine, seed):
        found, ranges = oracle(engine, trials=24, seed=seed)
        return max(map(good, play(found, ranges)))

    seeds = range(8)
    mean = {e: statistics.fmean(reached(e, s) for s in seeds) for e in ("narrowing", "random")}
    assert mean["narrowing"] > mean["random"] + 0.1


# Trials that lag


def test_the_median_rule_is_that_of_vizier():
    chance = np.random.default_rng(0)
    for _ in range(200):
        others = [list(chance.random(chance.integers(1, 6))) for _ in range(chance.integers(0, 7))]
        own = list(chance.random(chance.integers(1, 6)))
        known = [other for other in others if len(other) >= len(own)]
        running = [np.cumsum(other)[len(own) - 1] / len(own) for other in known]
        slow = (
            len(known) >= median_stopping.MIN_COMPLETED_TRIALS
            and len(own) >= 2
            and max(own) < np.median(running)
        )
        assert median_stopping.should_stop(own, others, 2) == slow


def test_a_trial_that_lags_is_told_to_stop():
    found, _ = oracle("random", RATE, trials=9)
    found.warm_up = 2

    def run(scores):
        one = found.create_trial("t")
        for step, score in enumerate(scores, start=1):
            if found.update_trial(one.trial_id, {"score": score}, step).status == oracles.STOPPED:
                break
        one.status = oracles.COMPLETED
        found.end_trial(one)
        return step, one.trial_id

    for level in (0.5, 0.6, 0.7):
        assert run([level] * 4)[0] == 4
    step, name = run([0.1, 0.2, 0.3, 0.9])
    assert step == 2
    assert found.lagging == [name]
    assert run([0.1, 0.65, 0.3, 0.2])[0] == 4  # its best so far is above the median
    found.warm_up = 0
    assert run([0.0] * 4)[0] == 4


# Running, without training


class Pretended:
    """Stands for a runner of trials."""

    def __init__(self, outcomes=()):
        self.outcomes, self.tasks = dict(outcomes), []

    def run(self, task, out, report):
        self.tasks.append(task)
        found = self.outcomes.get(len(self.tasks) - 1, trial.TrialResult(trial.COMPLETED))
        score = good({"learning_rate": task.learning_rate or 1e-3})
        if found.status == trial.COMPLETED and not report([score - 1, score]):
            return trial.TrialResult(trial.STOPPED, "it lags")
        return found

    def close(self):
        pass


def plan(out, asked=RATE):
    return runner.SearchPlan(TASK, space.make_space(TASK, asked), out)


def test_failed_trials_are_written_down_with_their_reason(tmp_path):
    failed = trial.TrialResult(trial.DIVERGED, "the loss is nan in epoch 1")
    how = Pretended({1: failed, 2: failed, 3: trial.TrialResult(trial.OUT_OF_MEMORY, "killed")})
    runner.run_trials(
        runner.ThreadSafeOracle(oracle("random", RATE, trials=5)[0]), plan(tmp_path), how, "t"
    )
    rows = trials_table.read_trials(tmp_path)
    told = [row["status"] for row in rows]
    assert told == ["completed", "diverged", "diverged", "memory", "completed"]
    assert [row["reason"] for row in rows][1] == failed.reason
    assert trials_table.best_trial(rows)["score"] == max(
        r["score"] for r in rows if r["score"] is not None
    )
    trials_table.write_csv(tmp_path, rows)
    head, *lines = (tmp_path / trials_table.TRIALS_CSV).read_text().splitlines()
    assert head == "trial,status,score,epoch,epochs,seconds,learning_rate,reason"
    assert len(lines) == 5


def test_trials_that_fail_alike_from_the_first_on_are_given_up(tmp_path):
    failed = trial.TrialResult(trial.FAILED, "no data set")
    how = Pretended(dict.fromkeys(range(9), failed))
    with pytest.raises(UsageError, match=r"first 3 trials failed alike.*no data set"):
        runner.run_trials(
            runner.ThreadSafeOracle(oracle("random", trials=9)[0]), plan(tmp_path), how, "t"
        )


def test_values_that_a_task_refuses_fail_that_trial_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "_check_range", lambda *args: None)
    asked = "epochs=0|1|2|3"
    found = plan(tmp_path, asked)
    runner.run_trials(runner.ThreadSafeOracle(oracle("grid", asked)[0]), found, Pretended(), "t")
    first, *others = trials_table.read_trials(tmp_path)
    assert (first["status"], first["reason"]) == (
        "failed",
        "--epochs must be from 1 to 1000000000, not 0",
    )
    assert {row["status"] for row in others} == {"completed"}


def test_two_workers_of_a_chief_share_the_trials(tmp_path):
    found, ranges = oracle("narrowing", f"{RATE},dropout=0.1|0.2", trials=10)
    guarded, hows = runner.ThreadSafeOracle(found), [Pretended(), Pretended()]
    address = f"127.0.0.1:{free_port()}"
    common = runner.SearchPlan(TASK, ranges, tmp_path)

    def join(how, name):
        with chief.connect(address, lambda: "secret") as client:
            runner.run_trials(client, common, how, name)

    with chief.serve(guarded, address, "secret") as server:
        workers = [threading.Thread(target=join, args=(how, f"w{n}")) for n, how in enumerate(hows)]
        for worker in workers:
            worker.start()
        server.wait()
        for worker in workers:
            worker.join()
    assert all(how.tasks for how in hows)
    assert {task.dropout for how in hows for task in how.tasks} <= {0.1, 0.2}
    rows = guarded.rows(common)
    assert [row["trial"] for row in rows] == [f"{n:04}" for n in range(10)]
    for row in rows:
        assert row["score"] == pytest.approx(good({"learning_rate": row["flags"]["learning_rate"]}))
    for path in (tmp_path / "trials").iterdir():  # a folder that the chief does not see
        path.unlink()
    assert [(r["score"], r["flags"]) for r in guarded.rows(common)] == [
        (pytest.approx(r["score"]), r["flags"]) for r in rows
    ]


def test_a_trial_that_nobody_hears_of_goes_to_another_worker(monkeypatch):
    found, _ = oracle("random", trials=2)
    server = chief.OracleServer(runner.ThreadSafeOracle(found))
    lost = found.create_trial("first")
    server.record_heartbeat(lost.trial_id)
    server.requeue()
    assert found.create_trial("second").trial_id != lost.trial_id
    now = time.monotonic()
    monkeypatch.setattr(chief.time, "monotonic", lambda: now + chief.HEARTBEAT_TIMEOUT + 1)
    server.requeue()
    assert found.create_trial("third").trial_id == lost.trial_id


def test_a_chief_does_not_wait_for_workers_that_are_gone(monkeypatch):
    found, _ = oracle("random", trials=2)
    server = chief.OracleServer(runner.ThreadSafeOracle(found))
    for worker in ("first", "second"):
        server.record_heartbeat(found.create_trial(worker).trial_id)
    server.asked, now = time.monotonic(), time.monotonic()
    monkeypatch.setattr(
        chief.time, "monotonic", lambda: now + chief.HEARTBEAT_TIMEOUT + chief.CHIEF_TIMEOUT + 1
    )
    monkeypatch.setattr(chief.time, "sleep", lambda seconds: None)
    with pytest.raises(UsageError, match=r"trials are unfinished \(0000, 0001\)"):
        server.wait()


@pytest.mark.parametrize("token", ["", "other"])
def test_a_chief_refuses_who_lacks_the_token(token, monkeypatch):
    monkeypatch.setattr(chief, "CHIEF_TIMEOUT", 0.5)
    found, address = oracle("random", trials=2)[0], f"127.0.0.1:{free_port()}"
    with (
        chief.serve(runner.ThreadSafeOracle(found), address, "secret"),
        chief.connect(address, lambda: token) as stranger,
        pytest.raises(UsageError, match="has another token than this worker"),
    ):
        stranger.create_trial("t")
    assert not found.trials


def test_two_chiefs_do_not_share_a_port():
    guarded, address = runner.ThreadSafeOracle(oracle("random")[0]), f"127.0.0.1:{free_port()}"
    with (
        chief.serve(guarded, address, "secret"),
        pytest.raises(UsageError, match="cannot listen"),
        chief.serve(guarded, address, "secret"),
    ):
        pass


def test_a_chief_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(chief, "CHIEF_TIMEOUT", 0.2)
    with (
        pytest.raises(UsageError, match="no chief answers"),
        chief.connect(f"127.0.0.1:{free_port()}", lambda: "") as client,
    ):
        client.create_trial("t")
    for address in ("9000", ":9000", "host:", "host:x", "host:70000"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            chief.check_address(address)


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("narrowing", {"share": "x"}, "share of narrowing is a number, not 'x'"),
        ("narrowing", {"share": None}, "share of narrowing is a number, not None"),
        ("narrowing", {"share": [0.5]}, "share of narrowing is a number"),
        ("narrowing", {"share": True}, "share of narrowing is a number, not True"),
        ("narrowing", {"share": float("nan")}, "share of narrowing must be from"),
        ("narrowing", {"round_size": 2.5}, "round_size of narrowing is a whole number, not 2.5"),
        ("narrowing", {"round_size": float("inf")}, "round_size of narrowing is a whole number"),
        ("grid", {"points": "many"}, "points of grid is a whole number"),
        ("grid", {"points": 0}, "points of grid must be from 1 to 1000, not 0"),
        ("grid", {"points": 10**12}, "points of grid must be from 1 to 1000"),
        ("hyperband", {"factor": "x"}, "factor of hyperband is a whole number"),
        ("hyperband", {"iterations": {}}, "iterations of hyperband is a whole number"),
        ("bayesian", {"first": -1}, "first of bayesian must be from 0 to 10000, not -1"),
        ("bayesian", {"beta": "x"}, "beta of bayesian is a number"),
        ("evolution", {"models": 5}, "models of evolution is a word, not 5"),
        ("evolution", {"models": [1]}, "models of evolution is a word"),
        ("evolution", {"population": "x"}, "population of evolution is a whole number"),
        ("evolution", {"tournament": 10**12}, "tournament of evolution must be from -inf to 10000"),
        ("evolution", {"random": "x"}, "random of evolution is a number"),
        ("evolution", {"inherit": "x"}, "inherit of evolution is yes or no, not 'x'"),
        ("evolution", {"max_params": []}, "max_params of evolution is a number"),
    ],
)
def test_options_of_engines_are_of_their_types(engine, options, words):
    with pytest.raises(UsageError, match=words):
        oracle(engine, **options)


def test_options_of_engines_may_be_written_as_yaml_has_them():
    found, _ = oracle("evolution", "", models=["mlp", "convnet"], max_params="1e6")
    assert found.models == ["mlp", "convnet"]
    assert found.budget[0] == 1e6
    assert oracle("narrowing", share="5e-1")[0].share == 0.5


# What is left


def row(number, score, status="completed", **flags):
    return {
        "trial": f"{number:04}",
        "status": status,
        "score": score,
        "epochs": 2,
        "seconds": 1.0,
        "reason": "" if score is not None else "<it broke>",
        "flags": flags,
    }


SPANS = [
    {"name": "learning_rate", "low": 1e-4, "high": 1e-2, "log": True},
    {"name": "augment", "values": ["none", "light"]},
]


def rows_of(count=16):
    chance = np.random.default_rng(1)
    for n in range(count):
        rate, augment = 10 ** chance.uniform(-4, -2), ("none", "light")[n % 2]
        yield row(
            n, 0.5 + 0.2 * (n % 2) + 0.01 * chance.random(), learning_rate=rate, augment=augment
        )
    yield row(count, None, "failed", learning_rate=1e-3, augment="none")


def test_importance_is_omega_squared():
    rows = [each for each in rows_of() if each["score"] is not None]
    groups = [[r["score"] for r in rows if r["flags"]["augment"] == a] for a in ("none", "light")]
    everything = np.concatenate(groups)
    between = sum(len(g) * (np.mean(g) - everything.mean()) ** 2 for g in groups)
    within = sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups) / (len(everything) - 2)
    total = ((everything - everything.mean()) ** 2).sum()
    wanted = (between - within) / (total + within)
    assert searches.omega_squared(rows, SPANS[1]) == pytest.approx(wanted)
    assert wanted > 0.9 > 0.3 > searches.omega_squared(rows, SPANS[0])
    assert searches.omega_squared(rows, {"name": "augment", "values": ["none"]}) == 0.0


def test_a_structure_is_drawn_by_its_options_the_largest_of_its_blocks():
    texts = "{widths: [8, 32], hidden: []}", "{widths: [16], hidden: [64]}"
    rows = [{"flags": {"model": "convnet", "model_options": text}} for text in texts]
    found, spans = summary.expand_model_options(space.SearchSpace({}, {}), rows)
    assert spans == [{"name": "widths", "values": [16, 32]}, {"name": "hidden", "values": [0, 64]}]
    assert [row["flags"]["widths"] for row in found] == [32, 16]
    plain = [{"flags": {"dropout": 0.5}}]
    assert (
        summary.expand_model_options(space.make_space(TASK, "dropout=0.1|0.5"), plain)[0] is plain
    )


def test_pages_draw_each_trial_once_and_say_what_failed():
    rows = list(rows_of())
    lines = ElementTree.fromstring(searches.parallel_coordinates(rows, SPANS)).iter()
    kinds = [line.get("class", "") for line in lines]
    assert kinds.count("line training") == 15
    assert kinds.count("line validation") == 1
    drawn = ElementTree.fromstring(searches.optimization_history(rows))
    assert sum(each.get("class", "") == "training" for each in drawn.iter()) == 16
    assert "&lt;it broke&gt;" in searches.trials_table(rows)
    assert "augment" in searches.flag_importances(rows, SPANS)
    assert "Nothing to draw" in searches.parallel_coordinates([], SPANS)
    assert "from 8 trials" in searches.flag_importances(rows[:3], SPANS)


def test_tensorboard_reads_what_was_tried(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.plugins.hparams import metadata

    (trials_table.trial_folder(tmp_path, "3") / "logs").mkdir(parents=True)
    hparams.write_experiment(tmp_path, space.make_space(TASK, MIXED), "val_accuracy")
    hparams.write_session(tmp_path, row(3, 0.5, learning_rate=1e-3, augment="light", batch_size=8))
    hparams.write_session(tmp_path, row(4, None, "failed"))  # it has no folder

    def read(folder):
        found = event_accumulator.EventAccumulator(str(folder))
        found.Reload()
        told = found.SummaryMetadata
        return {
            tag: metadata.parse_session_start_info_plugin_data(told(tag).plugin_data.content)
            for tag in found.PluginTagToContent("hparams")
            if tag == metadata.SESSION_START_INFO_TAG
        } or {
            tag: metadata.parse_experiment_plugin_data(told(tag).plugin_data.content)
            for tag in found.PluginTagToContent("hparams")
        }

    (session,) = read(trials_table.trial_folder(tmp_path, "3") / "logs").values()
    assert session.hparams["learning_rate"].number_value == 1e-3
    assert session.hparams["augment"].string_value == "light"
    (experiment,) = read(tmp_path / "trials").values()
    assert [info.name for info in experiment.hparam_infos] == list(
        space.make_space(TASK, MIXED).ranges
    )
    assert experiment.metric_infos[0].name.tag == "val_accuracy"
