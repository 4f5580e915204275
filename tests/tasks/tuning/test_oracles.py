"""Search spaces, engines, trial runners and reports, on cheap functions instead of networks."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import json
import math
import re
import socket
import statistics
import threading
import time
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import tasks
import zoo
from tasks.engine import resume
from tasks.engine.flags import Between
from tasks.gan import networks
from tasks.tuning import (
    engines,
    hparams,
    median_stopping,
    runner,
    space,
    state_files,
    summary,
    trial,
    trials_table,
    tune,
)
from tasks.tuning import report as search_report
from tasks.tuning import server as oracle_server
from zoo.errors import UsageError

pytest.importorskip("keras_tuner")
pytest.importorskip("tensorboard")

from tasks.tuning import oracles

TASK = tasks.get("classification")(model="mlp", epochs=9)
RATE = "learning_rate=1e-5..1e-1"
MIXED = RATE + ",batch_size=8..256,dropout=0.0|0.25|0.5,augment=none|light|rand"


def ranges(search_spec="", fixed=()):
    return space.make_space(TASK, search_spec, fixed).ranges


def oracle(engine, search_spec=MIXED, *, trials=12, seed=0, **options):
    found = space.make_space(TASK, search_spec)
    return engines.make_oracle(engine, found, trials=trials, seed=seed, task=TASK, **options), found


def score_of(flags):
    """A synthetic score with its maximum at rate 1e-3, batch size 64, dropout 0.25."""
    return (
        -abs(math.log10(flags.get("learning_rate", 1e-3)) + 3)
        - abs(math.log2(flags.get("batch_size", 64)) - 6) / 4
        - abs(flags.get("dropout", 0.25) - 0.25)
        - (flags.get("augment", "light") != "light") / 4
    )


def run_search(found, ranges, count=10**6, score=score_of, tuner="t"):
    """Runs up to `count` trials with synthetic scores; returns the flags of each."""
    tried = []
    while len(tried) < count:
        one = found.create_trial(tuner)
        if one.status == oracles.STOPPED:
            break
        flags = ranges.flags(one.hyperparameters.values)
        tried.append(flags)
        value = score(flags)
        if value is None:
            one.status, one.message = oracles.FAILED, "it broke"
        else:
            found.update_trial(one.trial_id, {oracles.SCORE: value}, step=1)
            one.status = oracles.COMPLETED
        found.end_trial(one)
    return tried


# Search spaces


def test_every_task_declares_ranges():
    for name in tasks.names():
        assert "learning_rate" in space.declared_ranges(tasks.get(name))
    assert ranges()["augment"] == space.Choices(("none", "light", "rand"))
    assert "augment" not in ranges(fixed=["augment"])


@pytest.mark.parametrize("model", [x for x in zoo.names(kind="classifier") if "." not in x])
def test_default_ranges_are_valid_for_the_classifier(model):
    start = tasks.get("classification")(model=model)
    spec = zoo.spec(model)
    known = set(inspect.signature(spec.builder).parameters)
    found = space.make_space(start).ranges
    assert ("dropout" in found) == ("dropout" in known)
    for name, span in found.items():
        ends = (span.low, span.high) if isinstance(span, Between) else span.values
        for value in ends:
            task = dataclasses.replace(start, **{name: value})
            assert set(task.options()) <= known
            task.shape()
            task.stages()


@pytest.mark.parametrize("model", list(networks.VARIANTS))
def test_default_ranges_are_valid_for_the_gan(model):
    start = tasks.get("gan")(model=model)
    found = space.make_space(start).ranges
    assert ("critic_norm" in found) == (not start.variant().gradient_penalty)
    for name, span in found.items():
        for value in getattr(span, "values", ()):
            dataclasses.replace(start, **{name: value})


def test_dropout_of_a_model_without_it_is_rejected():
    with pytest.raises(UsageError, match=r"{conv_dropout: 0.3, hidden_dropout: 0.3}"):
        tasks.get("classification")(model="convnet", dropout=0.3)
    with pytest.raises(UsageError, match="convnet has no dropout right before its logits"):
        space.make_space(tasks.get("classification")(model="convnet"), "dropout")


def test_search_spec_is_parsed():
    found = ranges(
        "learning_rate, batch-size=16|32,dropout=0..0.5,epochs=1..20:linear,random_erasing=0.01..1,"
        "model_options={widths: [32, 64], dropout: 0.1}|{widths: [8]},milestones=0.5,0.75|0.3"
    )
    assert found == {
        "learning_rate": Between(1e-5, 1e-2),
        "batch_size": space.Choices((16, 32)),
        "dropout": Between(0.0, 0.5, log=False),
        "epochs": Between(1, 20, log=False),
        "random_erasing": Between(0.01, 1.0, log=True),
        "model_options": space.Choices(("{widths: [32, 64], dropout: 0.1}", "{widths: [8]}")),
        "milestones": space.Choices(("0.5,0.75", "0.3")),
    }
    for span in found.values():
        assert ranges(f"learning_rate={space.format_range(found['learning_rate'])}")
        assert space.format_range(span)


@pytest.mark.parametrize(
    ("search_spec", "message"),
    [
        ("learnin_rate", "did you mean learning_rate"),
        ("focal_gamma", "declares no range to search; pass one: focal_gamma=LOW..HIGH"),
        ("batch_size=0|8", "--batch-size must be from 1 to 1000000000"),
        ("augment=heavy", "no choice of --augment named 'heavy'"),
        ("learning_rate=1e-1..1e-3", "is 0.1..0.001, but LOW must be less"),
        ("learning_rate=0..1:log", "write learning_rate=0.0..1.0:linear"),
        ("learning_rate=a..b", "must be numbers, not 'a'"),
        ("learning_rate=1e-3..1:lg", "did you mean log"),
        ("batch_size=1.5", "must be integers"),
        ("class_weight=none|balanced", "class_weight cannot be searched"),
        ("balance=none|sample", "are compared by different metrics"),
    ],
)
def test_invalid_ranges_are_rejected(search_spec, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        ranges(search_spec)


def test_former_names_of_flags_are_searched_by_their_present_ones():
    found = ranges("average=0.5|0.9,scale-rate=none|linear")
    assert found == ranges("ema_decay=0.5|0.9,scale_learning_rate=none|linear")


def test_flags_that_are_set_are_not_searched():
    with pytest.raises(UsageError, match="both set and searched; leave out --learning-rate"):
        ranges("learning_rate", fixed=["learning_rate"])


def test_flags_keep_their_types_and_digits_in_float32():
    found = space.make_space(TASK, MIXED)
    values = {"learning_rate": np.float32(0.000123456), "dropout": np.float32(0.25), "x": 1}
    flags = found.flags(values | {"batch_size": 17.0, space.HYPERBAND_EPOCHS: 3})
    assert flags == {"learning_rate": 0.000123456, "dropout": 0.25, "batch_size": 17, "epochs": 3}
    assert [type(flags[key]) for key in ("learning_rate", "batch_size")] == [float, int]


@pytest.mark.parametrize("name", ["learning_rate", "batch_size"])
def test_positions_follow_the_scale_of_the_range(name):
    found = space.make_space(TASK, MIXED)
    for place in (0.0, 0.2, 0.5, 1.0):
        value = found.value_at(name, place)
        assert found.position_of(name, value) == pytest.approx(place, abs=0.02)
    assert found.value_at("learning_rate", 0.5) == pytest.approx(1e-3)


# Engines


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"trials": 5}, "'trials' is missing or has another type"),
        ({"oracle": [1]}, "'oracle' is missing or has another type"),
        ({"oracle": {}}, "is damaged"),
        ({"trials": [5]}, "is damaged"),
        ({"trials": [{"trial_id": "../../victim"}]}, "'../../victim' is not the id of a trial"),
        ({"trials": [{"trial_id": 3}]}, "is damaged"),
        ({"trials": [{"trial_id": "0000"}]}, "is damaged"),
    ],
)
def test_a_state_of_other_content_is_refused(damage, message, tmp_path):
    made, _ = oracle("random")
    made.save_to(tmp_path)
    made.create_trial("tuner")
    made.save()
    stored = state_files.read(made.path)
    made.path.write_text(json.dumps({**stored, **damage}))
    again, _ = oracle("random")
    with pytest.raises(UsageError, match=f"oracle.json is damaged.*{message}|{message}"):
        again.save_to(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [{"trial": 5}, {"scores": "high"}, {"flags": None}, {"epochs": "1"}, {"status": []}],
)
def test_a_record_of_other_content_is_refused(damage, tmp_path):
    folder = tmp_path / trials_table.TRIALS_FOLDER
    folder.mkdir()
    record = {"trial": "0000", "status": "completed", "score": 0.5, "epoch": 1, "epochs": 1}
    record |= {"seconds": 1.0, "reason": "", "flags": {}, "scores": [0.5]}
    state_files.write(folder / "0000.json", record)
    assert trials_table.read_trials(tmp_path) == [record]
    state_files.write(folder / "0000.json", {**record, **damage})
    with pytest.raises(UsageError, match=f"0000.json is damaged .its '{next(iter(damage))}'"):
        trials_table.read_trials(tmp_path)


@pytest.mark.parametrize("engine", ["random", "grid", "hyperband", "shrinking", "bayesian"])
@pytest.mark.check
def test_killed_search_resumes_deterministically(engine, tmp_path):
    if engine == "bayesian":
        pytest.importorskip("sklearn")
    search_spec = f"{RATE},dropout=0.0|0.25|0.5"
    options = {"first": 4} if engine == "bayesian" else {}
    trials = 6 if engine == "bayesian" else 14
    whole, found = oracle(engine, search_spec, trials=trials, **options)
    wanted = run_search(whole, found)
    assert len(wanted) == trials
    tried = []
    for part in range(0, trials, 5):
        again, _ = oracle(engine, search_spec, trials=trials, **options)
        again.save_to(tmp_path)
        tried += run_search(again, found, 5)
        assert again.create_trial("t").status in (oracles.RUNNING, oracles.STOPPED)
        del again  # killed, with a trial under way
        assert len(tried) == min(trials, part + 5)
    assert tried == wanted


def test_seed_0_is_deterministic():
    first, found = oracle("random", trials=5, seed=0)
    second, _ = oracle("random", trials=5, seed=0)
    other, _ = oracle("random", trials=5, seed=1)
    assert run_search(first, found) == run_search(second, found) != run_search(other, found)


def test_state_is_written_atomically(tmp_path, monkeypatch):
    first, found = oracle("random")
    first.save_to(tmp_path)
    run_search(first, found, 2)
    before = first.path.read_text()
    monkeypatch.setattr(state_files.json, "dumps", lambda *state, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        first.save()
    assert first.path.read_text() == before
    assert [*tmp_path.iterdir()] == [first.path]


def test_grid_is_complete_and_evenly_spaced():
    found, ranges = oracle("grid", f"{RATE},dropout=0.0|0.25|0.5", trials=100, points=3)
    tried = [tuple(flags.values()) for flags in run_search(found, ranges)]
    assert sorted(tried) == sorted(itertools.product([1e-5, 1e-3, 1e-1], [0.0, 0.25, 0.5]))


def test_hyperband_sets_epochs_and_promotes_the_best():
    found, ranges = oracle("hyperband", RATE, trials=100, iterations=1)
    tried = run_search(found, ranges)
    assert {flags["epochs"] for flags in tried} == {1, 3, 9}
    first = [flags for flags in tried[:9] if flags["epochs"] == 1]
    promoted = [flags["learning_rate"] for flags in tried if flags["epochs"] == 3][:3]
    best = sorted(first, key=score_of, reverse=True)[:3]
    assert promoted == [flags["learning_rate"] for flags in best]


def test_failed_trials_do_not_end_the_search():
    found, ranges = oracle("random", trials=6)
    assert len(run_search(found, ranges, score=lambda flags: None)) == 6
    assert {one.status for one in found.trials.values()} == {oracles.FAILED}


def test_invalid_engines_and_options_are_rejected(monkeypatch):
    with pytest.raises(UsageError, match="no option of shrinking named 'shares'; did you mean sh"):
        oracle("shrinking", shares=1)
    with pytest.raises(
        UsageError, match="the share and width of shrinking must be between 0 and 1"
    ):
        oracle("shrinking", share=2)
    with pytest.raises(UsageError, match="did you mean random"):
        oracle("randm")
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"needs keras_tuner; install it with: pip install 'keras-zoo\[tune\]'"
    ):
        oracle("random")


def test_former_names_of_engines_are_accepted():
    found, _ = oracle("narrowing")
    assert type(found).__name__ == "Shrinking"
    assert tune.SearchConfig(engine="narrowing").engine == "shrinking"


# Shrinking


def test_shrinking_keeps_the_best_values():
    found, ranges = oracle("shrinking", trials=40, round_size=8)
    run_search(found, ranges, 33)
    low, high = found.bounds["learning_rate"]
    assert high - low < 0.6**4 + 1e-9
    assert low - 0.05 < 0.5 < high + 0.05  # 1e-3, in the middle of the range
    assert found.bounds["dropout"] == [0.25]
    assert [len(ids) for ids in found.rounds] == [8, 8, 8, 8, 1]


def test_round_of_shrinking_is_a_latin_hypercube():
    found, ranges = oracle("shrinking", RATE, trials=40, round_size=10)
    trials = run_search(found, ranges, 10)
    places = sorted(ranges.position_of(*one) for trial in trials for one in trial.items())
    assert [int(place * 10) for place in places] == list(range(10))


def test_shrinking_stops_when_ranges_are_small():
    found, ranges = oracle("shrinking", RATE, trials=1000, width=0.1, round_size=5)
    tried = run_search(found, ranges)
    assert len(tried) < 100
    low, high = found.bounds["learning_rate"]
    assert high - low < 0.1
    assert abs(math.log10(max(tried, key=score_of)["learning_rate"]) + 3) < 0.2


def test_shrinking_stops_when_all_choices_were_tried():
    found, ranges = oracle("shrinking", "augment", trials=100)
    assert len(run_search(found, ranges)) == 3


def test_shrinking_beats_random_search():
    def reached(engine, seed):
        found, ranges = oracle(engine, trials=24, seed=seed)
        return max(map(score_of, run_search(found, ranges)))

    seeds = range(8)
    mean = {e: statistics.fmean(reached(e, s) for s in seeds) for e in ("shrinking", "random")}
    assert mean["shrinking"] > mean["random"] + 0.1


# Early stopping


def test_median_rule_matches_vizier():
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


def test_trial_below_the_median_is_stopped():
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
    assert found.stopped_early == [name]
    assert run([0.1, 0.65, 0.3, 0.2])[0] == 4  # its best so far is above the median
    found.warm_up = 0
    assert run([0.0] * 4)[0] == 4


# Running trials without training


class FakeExecutor:
    """An executor that trains nothing and reports synthetic scores."""

    def __init__(self, outcomes=()):
        self.outcomes, self.tasks = dict(outcomes), []

    def run(self, task, out, report):
        self.tasks.append(task)
        found = self.outcomes.get(len(self.tasks) - 1, trial.TrialResult(trial.COMPLETED))
        score = score_of({"learning_rate": task.learning_rate or 1e-3})
        if found.status == trial.COMPLETED and not report([score - 1, score]):
            return trial.TrialResult(trial.STOPPED, "below the median")
        return found

    def close(self):
        pass


def plan(out, search_spec=RATE):
    return runner.SearchPlan(TASK, space.make_space(TASK, search_spec), out)


def test_failed_trials_are_recorded_with_their_reason(tmp_path):
    failed = trial.TrialResult(trial.DIVERGED, "the loss is nan in epoch 1")
    how = FakeExecutor({1: failed, 2: failed, 3: trial.TrialResult(trial.OUT_OF_MEMORY, "killed")})
    runner.run_trials(
        runner.ThreadSafeOracle(oracle("random", RATE, trials=5)[0]), plan(tmp_path), how, "t"
    )
    rows = trials_table.read_trials(tmp_path)
    tried = [row["status"] for row in rows]
    assert tried == ["completed", "diverged", "diverged", "memory", "completed"]
    assert [row["reason"] for row in rows][1] == failed.reason
    assert trials_table.best_trial(rows)["score"] == max(
        r["score"] for r in rows if r["score"] is not None
    )
    trials_table.write_csv(tmp_path, rows)
    head, *lines = (tmp_path / trials_table.TRIALS_CSV).read_text().splitlines()
    assert head == "trial,status,score,epoch,epochs,seconds,learning_rate,reason"
    assert len(lines) == 5


def test_search_ends_if_the_first_trials_fail_for_one_reason(tmp_path):
    failed = trial.TrialResult(trial.FAILED, "no data set")
    how = FakeExecutor(dict.fromkeys(range(9), failed))
    with pytest.raises(UsageError, match=r"first 3 trials failed for the same reason.*no data set"):
        runner.run_trials(
            runner.ThreadSafeOracle(oracle("random", trials=9)[0]), plan(tmp_path), how, "t"
        )


def test_invalid_values_fail_only_their_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "_check_range", lambda *args: None)
    search_spec = "epochs=0|1|2|3"
    found = plan(tmp_path, search_spec)
    runner.run_trials(
        runner.ThreadSafeOracle(oracle("grid", search_spec)[0]), found, FakeExecutor(), "t"
    )
    first, *others = trials_table.read_trials(tmp_path)
    assert (first["status"], first["reason"]) == (
        "failed",
        "--epochs must be from 1 to 1000000000, not 0",
    )
    assert {row["status"] for row in others} == {"completed"}


def test_two_workers_share_the_trials_of_a_chief(tmp_path):
    found, ranges = oracle("shrinking", f"{RATE},dropout=0.1|0.2", trials=10)
    guarded, hows = runner.ThreadSafeOracle(found), [FakeExecutor(), FakeExecutor()]
    address = f"127.0.0.1:{free_port()}"
    common = runner.SearchPlan(TASK, ranges, tmp_path)

    def join(how, name):
        with oracle_server.connect(address, lambda: "secret") as client:
            runner.run_trials(client, common, how, name)

    with oracle_server.serve(guarded, address, "secret") as server:
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
        assert row["score"] == pytest.approx(
            score_of({"learning_rate": row["flags"]["learning_rate"]})
        )
    for path in (tmp_path / "trials").iterdir():  # a folder that the chief does not see
        path.unlink()
    assert [(r["score"], r["flags"]) for r in guarded.rows(common)] == [
        (pytest.approx(r["score"]), r["flags"]) for r in rows
    ]


def test_trial_without_heartbeat_is_given_to_another_worker(monkeypatch):
    found, _ = oracle("random", trials=2)
    server = oracle_server.OracleServer(runner.ThreadSafeOracle(found))
    lost = found.create_trial("first")
    server.record_heartbeat(lost.trial_id)
    server.requeue()
    assert found.create_trial("second").trial_id != lost.trial_id
    now = time.monotonic()
    monkeypatch.setattr(
        oracle_server.time, "monotonic", lambda: now + oracle_server.HEARTBEAT_TIMEOUT + 1
    )
    server.requeue()
    assert found.create_trial("third").trial_id == lost.trial_id


def test_chief_does_not_wait_for_lost_workers(monkeypatch):
    found, _ = oracle("random", trials=2)
    server = oracle_server.OracleServer(runner.ThreadSafeOracle(found))
    for worker in ("first", "second"):
        server.record_heartbeat(found.create_trial(worker).trial_id)
    server.last_request, now = time.monotonic(), time.monotonic()
    monkeypatch.setattr(
        oracle_server.time,
        "monotonic",
        lambda: now + oracle_server.HEARTBEAT_TIMEOUT + oracle_server.CHIEF_TIMEOUT + 1,
    )
    monkeypatch.setattr(oracle_server.time, "sleep", lambda seconds: None)
    with pytest.raises(UsageError, match=r"trials are unfinished \(0000, 0001\)"):
        server.wait()


@pytest.mark.parametrize("token", ["", "other"])
def test_chief_rejects_a_wrong_token(token, monkeypatch):
    monkeypatch.setattr(oracle_server, "CHIEF_TIMEOUT", 0.5)
    found, address = oracle("random", trials=2)[0], f"127.0.0.1:{free_port()}"
    with (
        oracle_server.serve(runner.ThreadSafeOracle(found), address, "secret"),
        oracle_server.connect(address, lambda: token) as stranger,
        pytest.raises(UsageError, match="has another token than this worker"),
    ):
        stranger.create_trial("t")
    assert not found.trials


def test_messages_of_strangers_neither_end_nor_delay_the_chief(monkeypatch):
    """Neither connections without a request nor requests without a token and without a message."""
    monkeypatch.setattr(oracle_server, "CHIEF_TIMEOUT", 5)
    grpc, port = oracle_server.grpc, free_port()
    found, forever = oracle("random", trials=2)[0], threading.Event()

    def never():
        forever.wait(60)
        yield b""

    address = f"127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(oracle_server.serve(runner.ThreadSafeOracle(found), address, "secret"))
        stack.callback(forever.set)
        for content in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b"", b"PRI * HTTP/2.0\r\n"):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            stranger.sendall(content)
        channel = stack.enter_context(grpc.insecure_channel(address))
        call = channel.stream_unary("/keras_tuner.Oracle/CreateTrial")
        silent = [call.future(never()) for _ in range(8)]
        worker = stack.enter_context(oracle_server.connect(address, lambda: "secret"))
        assert worker.create_trial("t").status == oracles.RUNNING
        assert {each.code() for each in silent} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len(found.trials) == 1


def test_the_chief_listens_at_its_address_only():
    port = free_port()
    with (
        oracle_server.serve(runner.ThreadSafeOracle(oracle("random")[0]), f"127.0.0.1:{port}", "x"),
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(("127.0.0.2", port))


def test_two_chiefs_do_not_share_a_port():
    guarded, address = runner.ThreadSafeOracle(oracle("random")[0]), f"127.0.0.1:{free_port()}"
    with (
        oracle_server.serve(guarded, address, "secret"),
        pytest.raises(UsageError, match="cannot listen"),
        oracle_server.serve(guarded, address, "secret"),
    ):
        pass


def test_missing_chief_is_an_error(monkeypatch):
    monkeypatch.setattr(oracle_server, "CHIEF_TIMEOUT", 0.2)
    with (
        pytest.raises(UsageError, match="no response from a chief"),
        oracle_server.connect(f"127.0.0.1:{free_port()}", lambda: "") as client,
    ):
        client.create_trial("t")
    for address in ("9000", ":9000", "host:", "host:x", "host:70000"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            oracle_server.check_address(address)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("shrinking", {"share": "x"}, "share of shrinking must be a number, not 'x'"),
        ("shrinking", {"share": None}, "share of shrinking must be a number, not None"),
        ("shrinking", {"share": [0.5]}, "share of shrinking must be a number"),
        ("shrinking", {"share": True}, "share of shrinking must be a number, not True"),
        ("shrinking", {"share": float("nan")}, "share of shrinking must be from"),
        (
            "shrinking",
            {"round_size": 2.5},
            "round_size of shrinking must be an integer, not 2.5",
        ),
        (
            "shrinking",
            {"round_size": float("inf")},
            "round_size of shrinking must be an integer",
        ),
        ("grid", {"points": "many"}, "points of grid must be an integer"),
        ("grid", {"points": 0}, "points of grid must be from 1 to 1000, not 0"),
        ("grid", {"points": 10**12}, "points of grid must be from 1 to 1000"),
        ("hyperband", {"factor": "x"}, "factor of hyperband must be an integer"),
        ("hyperband", {"iterations": {}}, "iterations of hyperband must be an integer"),
        ("bayesian", {"first": -1}, "first of bayesian must be from 0 to 10000, not -1"),
        ("bayesian", {"beta": "x"}, "beta of bayesian must be a number"),
        ("evolution", {"models": 5}, "models of evolution must be a word, not 5"),
        ("evolution", {"models": [1]}, "models of evolution must be a word"),
        ("evolution", {"population": "x"}, "population of evolution must be an integer"),
        ("evolution", {"tournament": 10**12}, "tournament of evolution must be from -inf to 10000"),
        ("evolution", {"random": "x"}, "random of evolution must be a number"),
        ("evolution", {"inherit": "x"}, "inherit of evolution must be yes or no, not 'x'"),
        ("evolution", {"max_params": []}, "max_params of evolution must be a number"),
    ],
)
def test_engine_options_of_wrong_types_are_rejected(engine, options, words):
    with pytest.raises(UsageError, match=words):
        oracle(engine, **options)


def test_engine_options_may_be_yaml_values():
    found, _ = oracle("evolution", "", models=["mlp", "convnet"], max_params="1e6")
    assert found.models == ["mlp", "convnet"]
    assert found.budget[0] == 1e6
    assert oracle("shrinking", share="5e-1")[0].share == 0.5


# Reports


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
    assert search_report.omega_squared(rows, SPANS[1]) == pytest.approx(wanted)
    assert wanted > 0.9 > 0.3 > search_report.omega_squared(rows, SPANS[0])
    assert search_report.omega_squared(rows, {"name": "augment", "values": ["none"]}) == 0.0


def test_architectures_are_plotted_by_the_maximum_of_each_option():
    texts = "{widths: [8, 32], hidden: []}", "{widths: [16], hidden: [64]}"
    rows = [{"flags": {"model": "convnet", "model_options": text}} for text in texts]
    found, spans = summary.expand_model_options(space.SearchSpace({}, {}), rows)
    assert spans == [{"name": "widths", "values": [16, 32]}, {"name": "hidden", "values": [0, 64]}]
    assert [row["flags"]["widths"] for row in found] == [32, 16]
    plain = [{"flags": {"dropout": 0.5}}]
    assert (
        summary.expand_model_options(space.make_space(TASK, "dropout=0.1|0.5"), plain)[0] is plain
    )


def test_page_has_each_trial_and_its_failure():
    rows = list(rows_of())
    lines = ElementTree.fromstring(search_report.parallel_coordinates(rows, SPANS)).iter()
    kinds = [line.get("class", "") for line in lines]
    assert kinds.count("line training") == 15
    assert kinds.count("line validation") == 1
    drawn = ElementTree.fromstring(search_report.optimization_history(rows))
    assert sum(each.get("class", "") == "training" for each in drawn.iter()) == 16
    assert "&lt;it broke&gt;" in search_report.trials_table(rows)
    assert "augment" in search_report.flag_importances(rows, SPANS)
    assert "Nothing to plot" in search_report.parallel_coordinates([], SPANS)
    assert "at least 8 trials" in search_report.flag_importances(rows[:3], SPANS)


@pytest.mark.parametrize(
    ("columns", "monitored"),
    [
        (("val_loss", "val_accuracy"), "val_accuracy"),
        (("val_accuracy", "val_balanced_accuracy"), "val_balanced_accuracy"),
        (("val_loss", "val_map"), "val_map"),
        (("val_loss",), "-val_loss"),
    ],
)
def test_the_monitored_column_is_one_of_the_histories(columns, monitored, tmp_path):
    rows = [row(0, None, "failed"), row(1, 0.5)]
    folder = trials_table.trial_folder(tmp_path, "1")
    folder.mkdir(parents=True)
    resume.write_history(folder, [{"epoch": 1, **dict.fromkeys(columns, 0.5)}])
    plan = SimpleNamespace(out=tmp_path, task=TASK)
    assert summary.monitored_column(plan, rows) == monitored


def test_tensorboard_reads_the_trials(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.plugins.hparams import metadata

    (trials_table.trial_folder(tmp_path, "3") / "logs").mkdir(parents=True)
    hparams.write_experiment(tmp_path, space.make_space(TASK, MIXED), "val_accuracy")
    hparams.write_session(tmp_path, row(3, 0.5, learning_rate=1e-3, augment="light", batch_size=8))
    hparams.write_session(tmp_path, row(4, None, "failed"))  # it has no folder

    def read(folder):
        found = event_accumulator.EventAccumulator(str(folder))
        found.Reload()
        tried = found.SummaryMetadata
        return {
            tag: metadata.parse_session_start_info_plugin_data(tried(tag).plugin_data.content)
            for tag in found.PluginTagToContent("hparams")
            if tag == metadata.SESSION_START_INFO_TAG
        } or {
            tag: metadata.parse_experiment_plugin_data(tried(tag).plugin_data.content)
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
