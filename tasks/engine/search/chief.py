"""A search over machines: a chief has the oracle, workers ask it what to try.

They speak as keras-tuner's chief and workers do. Here a trial whose worker falls silent is given
to another one, and a worker does not wait an hour for a chief that is gone.
"""

from __future__ import annotations

import threading
import time
from concurrent import futures
from contextlib import contextmanager

from tasks.engine import record
from tasks.engine.search import ledger
from zoo.errors import UsageError
from zoo.lazy import LazyModule

grpc = LazyModule("grpc")
protos = LazyModule("keras_tuner.src.protos")
trials = LazyModule("keras_tuner.src.engine.trial")
servicers = LazyModule("keras_tuner.src.distribute.oracle_chief")

BEAT = 5.0  # seconds after which a worker lets hear of its trial again
SILENCE = 60.0  # seconds after which a trial that nobody hears of is given to another worker
PATIENCE = 120.0  # seconds that a worker waits for its chief
FAREWELL = 10.0  # seconds that a chief which is done waits for its workers to ask and be told
LOOK = 0.5  # seconds between two looks of the chief


class Server:
    """Answers workers for an oracle.

    Args:
        oracle: a `runner.Guarded`.
    """

    def __init__(self, oracle):
        self.oracle, self.heard, self.over = oracle, {}, False

    def wait(self, look=lambda: None):
        """Returns when there is nothing more to try and nobody tries anything.

        Args:
            look: called whenever a trial has ended meanwhile.
        """
        ended, since = -1, None
        while since is None or time.monotonic() - since < FAREWELL:
            time.sleep(LOOK)
            self.requeue()
            with self.oracle.lock:
                oracle = self.oracle.oracle
                done, waiting = len(oracle.end_order), len(oracle.tuner_ids)
                used = self.over or len(oracle.trials) >= oracle.max_trials
                free = used and oracle.is_done()
            if done != ended:
                ended = done
                look()
            if free and not waiting:
                return
            since = (since or time.monotonic()) if free else None

    def requeue(self):
        """Gives trials that nobody hears of to the next worker who asks."""
        with self.oracle.lock:
            for trial in [*self.oracle.oracle.ongoing_trials.values()]:
                silent = time.monotonic() - self.heard.get(trial.trial_id, time.monotonic())
                if silent > SILENCE:
                    name = ledger.name(trial.trial_id)
                    record.say(f"nothing is heard of trial {name}: the next worker has it")
                    self.heard.pop(trial.trial_id)
                    self.oracle.oracle.requeue(trial.trial_id)

    def listen(self, trial_id):
        """Notes that a trial is heard of."""
        self.heard[trial_id] = time.monotonic()


class Client:
    """An oracle as its workers see it, elsewhere.

    Args:
        channel: of gRPC, to the chief.
        address: of the chief, in words.
    """

    def __init__(self, channel, address):
        self.stub = protos.get_service_grpc().OracleStub(channel)
        self.address, self.known, self.beats = address, False, {}

    def create_trial(self, tuner):
        """Returns the next trial for a worker; one that is over if the chief is gone by now."""
        ask = protos.get_service().CreateTrialRequest(tuner_id=tuner)
        try:
            answer = self._ask(self.stub.CreateTrial, ask)
        except UsageError:
            if not self.known:
                raise
            record.say(f"the chief at {self.address} is gone: so is this worker")
            return trials.Trial(None, status=trials.TrialStatus.STOPPED)
        self.known = True
        found = trials.Trial.from_proto(answer.trial)
        if found.status == trials.TrialStatus.RUNNING:
            self.beats[found.trial_id] = stop = threading.Event()
            threading.Thread(target=self._beat, args=(found.trial_id, stop), daemon=True).start()
        return found

    def update_trial(self, name, metrics, step=0):
        """Tells the score of an epoch; returns the trial."""
        ask = protos.get_service().UpdateTrialRequest
        request = ask(trial_id=name, metrics=metrics, step=step)
        return trials.Trial.from_proto(self._ask(self.stub.UpdateTrial, request).trial)

    def end_trial(self, ended):
        """Tells that a trial is over."""
        request = protos.get_service().EndTrialRequest(trial=ended.to_proto())
        self.beats.pop(ended.trial_id).set()
        self._ask(self.stub.EndTrial, request)

    def _ask(self, call, request):
        try:
            return call(request, wait_for_ready=True, timeout=PATIENCE)
        except grpc.RpcError as error:
            code = error.code()
            silent = code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
            reason = f"for {PATIENCE:.0f} seconds" if silent else f"({error.details()})"
            raise UsageError(f"no chief answers at {self.address} {reason}") from error

    def _beat(self, name, stop):
        request = protos.get_service().GetTrialRequest(trial_id=name)
        while not stop.wait(BEAT):
            try:
                self.stub.GetTrial(request, timeout=BEAT)
            except grpc.RpcError:
                continue


@contextmanager
def serving(oracle, address):
    """Answers workers at an address as long as the block runs; yields the `Server`.

    Raises:
        UsageError: nothing can listen there.
    """
    place = checked(address)
    server = Server(oracle)
    found = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    protos.get_service_grpc().add_OracleServicer_to_server(_servicer(server), found)
    try:
        port = found.add_insecure_port(place)
    except RuntimeError as error:
        raise UsageError(f"the chief cannot listen at {address}: {error}") from error
    if not port:
        raise UsageError(f"the chief cannot listen at {address}: is the port taken?")
    found.start()
    try:
        yield server
    finally:
        found.stop(grace=None).wait()


@contextmanager
def called(address):
    """Yields the `Client` of a chief."""
    with grpc.insecure_channel(checked(address)) as channel:
        yield Client(channel, address)


def checked(address):
    """Returns an address `HOST:PORT`; raises `UsageError` if it is none."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--chief takes HOST:PORT, such as 10.0.0.1:9000, not {address!r}")
    return address


def _servicer(server):
    """Returns keras-tuner's servant of an oracle, which here knows what it hears of."""

    class Servicer(servicers.OracleServicer):
        def CreateTrial(self, request, context):  # noqa: N802
            answer = super().CreateTrial(request, context)
            server.over = server.over or self.stop_triggered
            server.listen(answer.trial.trial_id)
            return answer

        def UpdateTrial(self, request, context):  # noqa: N802
            server.listen(request.trial_id)
            return super().UpdateTrial(request, context)

        def GetTrial(self, request, context):  # noqa: N802
            server.listen(request.trial_id)
            return super().GetTrial(request, context)

    return Servicer(server.oracle)
