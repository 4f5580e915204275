"""Distributed search: the chief serves its oracle over gRPC, workers request trials from it.

The protocol is that of keras-tuner. Differences: a trial whose worker sends no heartbeat is given
to another worker, and a worker does not wait an hour for a chief that has exited.
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

HEARTBEAT_INTERVAL = 5.0  # seconds between heartbeats of a running trial
HEARTBEAT_TIMEOUT = 60.0  # seconds without a heartbeat until a trial is given to another worker
CHIEF_TIMEOUT = 120.0  # seconds that a worker waits for its chief
SHUTDOWN_GRACE = 10.0  # seconds that a finished chief keeps serving, so that workers stop, too
POLL_INTERVAL = 0.5  # seconds between checks of the chief
TOKEN = "zoo-token"  # key of the token in the metadata of a request


class OracleServer:
    """The chief's side of a distributed search.

    Args:
        oracle: a `runner.ThreadSafeOracle`.
    """

    def __init__(self, oracle):
        self.oracle, self.last_seen, self.over = oracle, {}, False
        self.last_request = None  # time at which a worker last requested a trial

    def wait(self, callback=lambda: None):
        """Blocks until the search is complete and no trial is running.

        Args:
            callback: function that is called whenever a trial has ended.

        Raises:
            UsageError: a trial is unfinished, and no worker requests it.
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
            if left and self.last_request and time.monotonic() - self.last_request > CHIEF_TIMEOUT:
                raise UsageError(
                    f"no worker has requested a trial for {CHIEF_TIMEOUT:.0f} seconds, and trials "
                    f"are unfinished ({', '.join(map(trials_table.trial_name, left))}); run this "
                    "command and a worker again to resume the search"
                )
            since = (since or time.monotonic()) if free else None

    def requeue(self):
        """Requeues trials without a heartbeat for the next worker."""
        with self.oracle.lock:
            for trial in [*self.oracle.oracle.ongoing_trials.values()]:
                silent = time.monotonic() - self.last_seen.get(trial.trial_id, time.monotonic())
                if silent > HEARTBEAT_TIMEOUT:
                    name = trials_table.trial_name(trial.trial_id)
                    callbacks.print_status(f"no heartbeat of trial {name}; requeued")
                    self.last_seen.pop(trial.trial_id)
                    self.oracle.oracle.requeue(trial.trial_id)

    def record_heartbeat(self, trial_id):
        """Records the time of a heartbeat of a trial."""
        self.last_seen[trial_id] = time.monotonic()


class OracleClient:
    """A worker's client of the oracle of its chief.

    Args:
        channel: gRPC channel to the chief.
        address: address of the chief, for messages.
        token: function that returns the current token of the search.
    """

    def __init__(self, channel, address, token):
        self.stub = protos.get_service_grpc().OracleStub(channel)
        self.address, self.connected, self.heartbeats, self.token = address, False, {}, token

    def create_trial(self, tuner):
        """Returns the next trial for a worker; one with status STOPPED if the chief has exited."""
        ask = protos.get_service().CreateTrialRequest(tuner_id=tuner)
        try:
            response = self._call(self.stub.CreateTrial, ask)
        except UsageError:
            if not self.connected:
                raise
            callbacks.print_status(f"the chief at {self.address} has exited; this worker stops")
            return trials.Trial(None, status=trials.TrialStatus.STOPPED)
        self.connected = True
        found = trials.Trial.from_proto(response.trial)
        if found.status == trials.TrialStatus.RUNNING:
            self.heartbeats[found.trial_id] = stop = threading.Event()
            threading.Thread(
                target=self._send_heartbeats, args=(found.trial_id, stop), daemon=True
            ).start()
        return found

    def update_trial(self, name, metrics, step=0):
        """Sends the score of an epoch; returns the trial."""
        ask = protos.get_service().UpdateTrialRequest
        request = ask(trial_id=name, metrics=metrics, step=step)
        return trials.Trial.from_proto(self._call(self.stub.UpdateTrial, request).trial)

    def end_trial(self, ended):
        """Reports that a trial has ended."""
        request = protos.get_service().EndTrialRequest(trial=ended.to_proto())
        self.heartbeats.pop(ended.trial_id).set()
        self._call(self.stub.EndTrial, request)

    def _call(self, call, request):
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
            time.sleep(POLL_INTERVAL)  # a chief that has just started may publish a new token

    def _connection_error(self, error, unauthenticated):
        if unauthenticated:
            return UsageError(
                f"the chief at {self.address} has another token than this worker; pass both the "
                f"same --out in a shared folder, or set {auth_tokens.TOKEN_VARIABLE} to the same "
                "secret"
            )
        codes = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE
        silent = error.code() in codes
        reason = f"for {CHIEF_TIMEOUT:.0f} seconds" if silent else f"({error.details()})"
        return UsageError(f"no response from a chief at {self.address} {reason}")

    def _metadata(self):
        return ((TOKEN, self.token()),)

    def _send_heartbeats(self, name, stop):
        request = protos.get_service().GetTrialRequest(trial_id=name)
        while not stop.wait(HEARTBEAT_INTERVAL):
            try:
                self.stub.GetTrial(request, timeout=HEARTBEAT_INTERVAL, metadata=self._metadata())
            except grpc.RpcError:
                continue
            except ValueError:  # the channel was closed at the end of the search
                return


@contextmanager
def serve(oracle, address, token):
    """Serves an oracle at an address during the `with` block; yields the `OracleServer`.

    Args:
        oracle: a `runner.ThreadSafeOracle`.
        address: `HOST:PORT`.
        token: the token that requests must carry.

    Raises:
        UsageError: the chief cannot listen at the address.
    """
    address = check_address(address)
    server = OracleServer(oracle)
    pool = futures.ThreadPoolExecutor(max_workers=4)
    options = [("grpc.so_reuseport", 0)]  # else another process could listen at the same port
    found = grpc.server(pool, interceptors=[_interceptor(token)], options=options)
    protos.get_service_grpc().add_OracleServicer_to_server(_servicer(server), found)
    try:
        port = found.add_insecure_port(address)
    except RuntimeError as error:
        raise UsageError(f"the chief cannot listen at {address}: {error}") from error
    if not port:
        raise UsageError(f"the chief cannot listen at {address}; is the port in use?")
    found.start()
    try:
        yield server
    finally:
        found.stop(grace=None).wait()


@contextmanager
def connect(address, token):
    """Yields the `OracleClient` of a chief; `token` is a function that returns the token."""
    with grpc.insecure_channel(check_address(address)) as channel:
        yield OracleClient(channel, address, token)


def check_address(address):
    """Returns an address if it is `HOST:PORT`, else raises `UsageError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--chief must be HOST:PORT, such as 10.0.0.1:9000, not {address!r}")
    return address


def _interceptor(token):
    """Returns a gRPC interceptor that rejects requests without the token."""

    def refuse(request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")

    # A handler of a stream does not wait for a message, which may never come.
    refused = grpc.stream_unary_rpc_method_handler(refuse)

    class Interceptor(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            shown = dict(details.invocation_metadata).get(TOKEN)
            return continuation(details) if auth_tokens.tokens_match(shown, token) else refused

    return Interceptor()


def _servicer(server):
    """Returns the gRPC servicer of keras-tuner, extended by heartbeats."""

    class Servicer(servicers.OracleServicer):
        def CreateTrial(self, request, context):  # noqa: N802
            server.last_request = time.monotonic()
            response = super().CreateTrial(request, context)
            server.over = server.over or self.stop_triggered
            server.record_heartbeat(response.trial.trial_id)
            return response

        def UpdateTrial(self, request, context):  # noqa: N802
            server.record_heartbeat(request.trial_id)
            return super().UpdateTrial(request, context)

        def GetTrial(self, request, context):  # noqa: N802
            server.record_heartbeat(request.trial_id)
            return super().GetTrial(request, context)

    return Servicer(server.oracle)
