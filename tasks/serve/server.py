"""Starts the server, and stops it gracefully."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import signal
import socket
from pathlib import Path

from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import read_text

app_module = LazyModule("tasks.serve.app")
served_generator = LazyModule("tasks.serve.served_generator")
served_model = LazyModule("tasks.serve.served_model")
uvicorn = LazyModule("uvicorn")

PACKAGES = ("fastapi", "uvicorn", "multipart", "prometheus_client")
KEEP_ALIVE = 15  # seconds that an idle connection is kept
MAX_CONNECTIONS = 512
GRACE_SECONDS = 30  # for requests in progress when the server is stopped


def check_packages() -> None:
    """Raises `UsageError` if a package of the extra `serve` is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"zoo serve needs {' and '.join(missing)}: pip install 'keras-zoo[serve]'")


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; 0 is any free port.

    Raises:
        UsageError: The port is in use, or the host is not of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        known = number and not isinstance(error, socket.gaierror)
        reason = os.strerror(number) if known else getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen at {host}:{port}: {reason}; choose another --port or --host"
        ) from error


def read_token(path) -> str | None:
    """Returns the token in a file; raises `UsageError` if there is none in it."""
    if not path:
        return None
    try:
        token = read_text(path).strip()
    except UsageError as error:
        raise UsageError(f"--token-file {path} cannot be read: {error}") from error
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise UsageError(f"--token-file {path} must hold one word of ASCII characters")
    return token


def model_names(targets) -> dict[str, str]:
    """Returns targets by the names that requests use: the last part of each, made unique."""
    found: dict[str, str] = {}
    for target in targets:
        path = Path(target)
        stem = path.parent.name if path.name == "model.keras" else path.name
        stem = stem.removesuffix(".keras") or "model"
        names = itertools.chain((stem,), (f"{stem}-{number}" for number in itertools.count(2)))
        found[next(name for name in names if name not in found)] = target
    return found


def serve(targets, listening, *, runtime, precision, max_wait, queue_size, limits, token, ready):
    """Serves models until the process receives SIGINT or SIGTERM.

    Args:
        targets: Run folders, `.keras` files or names of pretrained models.
        listening: The socket, as `bind` returned it.
        runtime, precision: As for `zoo predict`.
        max_wait: Seconds to wait for a batch to fill.
        queue_size: The largest number of waiting images per model.
        limits: An `app.ServerLimits`.
        token: The token that requests must carry, or `None`.
        ready: A function of the served models by name that is called when requests can be answered.

    Raises:
        UsageError: There is no such model, or it does not take images.
    """
    statistics = app_module.Statistics()
    models = {}
    for name, target in model_names(targets).items():
        queue = {"queue_size": queue_size, "observe": functools.partial(_observe, statistics, name)}
        if served_generator.is_generator(target):
            models[name] = served_generator.ServedGenerator(target, name, **queue)
        else:
            models[name] = served_model.ServedModel(
                *(target, name), runtime=runtime, precision=precision, max_wait=max_wait, **queue
            )
    config = uvicorn.Config(
        app_module.create_app(models, statistics, limits, token),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=MAX_CONNECTIONS,
        server_header=False,
    )
    # uvicorn stops gracefully, then raises the signal again; SIGTERM is no error.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    server = uvicorn.Server(config)
    startup = server.startup

    async def start_and_report(sockets=None):
        await startup(sockets)
        ready(models)

    server.startup = start_and_report  # only now does uvicorn handle signals
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
        for model in models.values():
            model.batcher.close()


def _observe(statistics, name, size):
    statistics.batches.labels(name).observe(size)
