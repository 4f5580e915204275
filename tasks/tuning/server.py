"""A search over machines: a chief has the oracle, workers ask it what to try.

They speak as keras-tuner's chief and workers do. Here a trial whose worker falls silent is given
to another one, and a worker does not wait an hour for a chief that is gone.
"""

from __future__ import annotations

import threading
import time
from concurrent import futures
from contextlib import contextmanager

from tasks.distributed import auth_tokens
from tasks.engine import callbacks
from tasks.tuning import trials_table
from zoo.errors import UsageError
from zoo.lazy import LazyModule

grpc = LazyModule("grpc")
protos = LazyModule("keras_tuner.src.protos")
trials = LazyModule("keras_tuner.src.engine.trial")
servicers = LazyModule("keras_tuner.src.distribute.oracle_chief")

HEARTBEAT_INTERVAL = 5.0  # seconds after which a worker lets hear of its trial again
HEARTBEAT_TIMEOUT = (
    60.0  # seconds after which a trial that nobody hears of is given to another worker
)
CHIEF_TIMEOUT = 120.0  # seconds that a worker waits for its chief
SHUTDOWN_GRACE = 10.0  # seconds that a chief which is done waits for its workers to ask and be told
POLL_INTERVAL = 0.5  # seconds between two looks of the chief
TOKEN = "zoo-token"  # the key of the token in the metadata of a request


class OracleServer:
    """Answers workers for an oracle.

    Args:
        oracle: a `runner.ThreadSafeOracle`.
    """

    def __init__(self, oracle):
        self.oracle, self.last_seen, self.over = oracle, {}, False
        self.asked = None  # when a worker last asked for a trial

    def wait(self, callback=lambda: None):
        """Returns when there is nothing more to try and nobody tries anything.

        Args:
            callback: called whenever a trial has ended meanwhile.

        Raises:
            UsageError: a trial was left unfinished, and no worker asks for it.
        """
        ended, since = -1, None
        while since is None or time.monotonic() - since < SHUTDOWN_GRACE:
            time.sleep(POLL_INTERVAL)
            self.requeue()
            with self.oracle.lock:
                oracle = self.oracle.oracle
                done, waiting = len(oracle.end_order), len(oracle.tuner_ids)
                used = self.over or len(oracle.trials) >= oracle.max_trials
                free = used and oracle.is_done()
                left = oracle.retries() if used and not oracle.ongoing_trials else []
            if done != ended:
                ended = done
                callback()
            if free and not waiting:
                return
            if left and self.asked and time.monotonic() - self.asked > CHIEF_TIMEOUT:
                raise UsageError(
                    f"no worker has asked for a trial in {CHIEF_TIMEOUT:.0f} seconds, and trials "
                    "are "
                    f"unfinished ({', '.join(map(trials_table.trial_name, left))}); start this "
                    "command again, "
                    "and a worker: the search goes on"
                )
            since = (since or time.monotonic()) if free else None

    def requeue(self):
        """Gives trials that nobody hears of to the next worker who asks."""
        with self.oracle.lock:
            for trial in [*self.oracle.oracle.ongoing_trials.values()]:
                silent = time.monotonic() - self.last_seen.get(trial.trial_id, time.monotonic())
                if silent > HEARTBEAT_TIMEOUT:
                    name = trials_table.trial_name(trial.trial_id)
                    callbacks.print_status(
                        f"nothing is heard of trial {name}: the next worker has it"
                    )
                    self.last_seen.pop(trial.trial_id)
                    self.oracle.oracle.requeue(trial.trial_id)

    def record_heartbeat(self, trial_id):
        """Notes that a trial is heard of."""
        self.last_seen[trial_id] = time.monotonic()


class OracleClient:
    """An oracle as its workers see it, elsewhere.

    Args:
        channel: of gRPC, to the chief.
        address: of the chief, in words.
        token: a function that returns the token of the search as it is known now.
    """

    def __init__(self, channel, address, token):
        self.stub = protos.get_service_grpc().OracleStub(channel)
        self.address, self.known, self.heartbeats, self.token = address, False, {}, token

    def create_trial(self, tuner):
        """Returns the next trial for a worker; one that is over if the chief is gone by now."""
        ask = protos.get_service().CreateTrialRequest(tuner_id=tuner)
        try:
            answer = self._ask(self.stub.CreateTrial, ask)
        except UsageError:
            if not self.known:
                raise
            callbacks.print_status(f"the chief at {self.address} is gone: so is this worker")
            return trials.Trial(None, status=trials.TrialStatus.STOPPED)
        self.known = True
        found = trials.Trial.from_proto(answer.trial)
        if found.status == trials.TrialStatus.RUNNING:
            self.heartbeats[found.trial_id] = stop = threading.Event()
            threading.Thread(
                target=self._send_heartbeats, args=(found.trial_id, stop), daemon=True
            ).start()
        return found

    def update_trial(self, name, metrics, step=0):
        """Tells the score of an epoch; returns the trial."""
        ask = protos.get_service().UpdateTrialRequest
        request = ask(trial_id=name, metrics=metrics, step=step)
        return trials.Trial.from_proto(self._ask(self.stub.UpdateTrial, request).trial)

    def end_trial(self, ended):
        """Tells that a trial is over."""
        request = protos.get_service().EndTrialRequest(trial=ended.to_proto())
        self.heartbeats.pop(ended.trial_id).set()
        self._ask(self.stub.EndTrial, request)

    def _ask(self, call, request):
        deadline = time.monotonic() + CHIEF_TIMEOUT
        while True:
            try:
                return call(
                    request, wait_for_ready=True, timeout=CHIEF_TIMEOUT, metadata=self._metadata()
                )
            except grpc.RpcError as error:
                unauthenticated = error.code() == grpc.StatusCode.UNAUTHENTICATED
                if not unauthenticated or time.monotonic() > deadline:
                    raise self._connection_error(error, unauthenticated) from error
            time.sleep(
                POLL_INTERVAL
            )  # the chief, just started, may be about to publish another token

    def _connection_error(self, error, unauthenticated):
        if unauthenticated:
            return UsageError(
                f"the chief at {self.address} has another token than this worker: give both the "
                f"same --out in a folder that both see, or set {auth_tokens.TOKEN_VARIABLE} to "
                "the same secret "
                "word"
            )
        codes = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE
        silent = error.code() in codes
        reason = f"for {CHIEF_TIMEOUT:.0f} seconds" if silent else f"({error.details()})"
        return UsageError(f"no chief answers at {self.address} {reason}")

    def _metadata(self):
        return ((TOKEN, self.token()),)

    def _send_heartbeats(self, name, stop):
        request = protos.get_service().GetTrialRequest(trial_id=name)
        while not stop.wait(HEARTBEAT_INTERVAL):
            try:
                self.stub.GetTrial(request, timeout=HEARTBEAT_INTERVAL, metadata=self._metadata())
            except grpc.RpcError:
                continue


@contextmanager
def serve(oracle, address, token):
    """Answers workers at an address as long as the block runs; yields the `Server`.

    Args:
        oracle: a `runner.ThreadSafeOracle`.
        address: `HOST:PORT`.
        token: that a request has to show.

    Raises:
        UsageError: nothing can listen there.
    """
    place = check_address(address)
    server = OracleServer(oracle)
    pool = futures.ThreadPoolExecutor(max_workers=4)
    options = [("grpc.so_reuseport", 0)]  # or another process could listen at the same port
    found = grpc.server(pool, interceptors=[_interceptor(token)], options=options)
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
def connect(address, token):
    """Yields the `Client` of a chief; `token` is a function that returns the token."""
    with grpc.insecure_channel(check_address(address)) as channel:
        yield OracleClient(channel, address, token)


def check_address(address):
    """Returns an address `HOST:PORT`; raises `UsageError` if it is none."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--chief takes HOST:PORT, such as 10.0.0.1:9000, not {address!r}")
    return address


def _interceptor(token):
    """Returns what refuses each request that does not show the token."""

    def refuse(request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not that of this search")

    refused = grpc.unary_unary_rpc_method_handler(refuse)

    class Interceptor(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            shown = dict(details.invocation_metadata).get(TOKEN)
            return continuation(details) if auth_tokens.tokens_match(shown, token) else refused

    return Interceptor()


def _servicer(server):
    """Returns keras-tuner's servant of an oracle, which here knows what it hears of."""

    class Servicer(servicers.OracleServicer):
        def CreateTrial(self, request, context):  # noqa: N802
            server.asked = time.monotonic()
            answer = super().CreateTrial(request, context)
            server.over = server.over or self.stop_triggered
            server.record_heartbeat(answer.trial.trial_id)
            return answer

        def UpdateTrial(self, request, context):  # noqa: N802
            server.record_heartbeat(request.trial_id)
            return super().UpdateTrial(request, context)

        def GetTrial(self, request, context):  # noqa: N802
            server.record_heartbeat(request.trial_id)
            return super().GetTrial(request, context)

    return Servicer(server.oracle)
