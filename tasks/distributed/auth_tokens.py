"""The token with which the processes of a run or search authenticate.

It is the environment variable `ZOO_TOKEN`, which `zoo launch` sets. Otherwise the process that
listens generates one, and the others read it from a file next to the run folder.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from zoo.errors import UsageError
from zoo.paths import check_regular

TOKEN_VARIABLE = "ZOO_TOKEN"


def generate():
    """Returns a random token."""
    return secrets.token_hex(16)


@contextlib.contextmanager
def publish(out):
    """Yields the token of the run in folder `out`, which others can read within the block.

    Raises:
        UsageError: The token file cannot be written.
    """
    if token_from_env := os.environ.get(TOKEN_VARIABLE):
        yield token_from_env
        return
    token, path = generate(), token_path(out)
    try:
        _write(path, token)
    except OSError as error:
        raise UsageError(
            f"the token of the run cannot be written to {path} ({error.strerror}); set "
            f"{TOKEN_VARIABLE} to the same secret for all processes"
        ) from error
    try:
        yield token
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def read_token(out):
    """Returns the token of the run in folder `out`, or "" if none is published yet."""
    if token_from_env := os.environ.get(TOKEN_VARIABLE):
        return token_from_env
    try:
        return check_regular(token_path(out)).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def token_path(out):
    """Returns the path of the token file of the run in folder `out`."""
    out = Path(os.path.abspath(out))
    return out.with_name(f"{out.name}.token")


def tokens_match(one, other):
    """Returns whether two tokens are equal strings, by a constant-time comparison."""
    if not isinstance(one, str):
        return False
    # Lone surrogates, which JSON can hold, are not valid UTF-8.
    return hmac.compare_digest(*(each.encode(errors="surrogatepass") for each in (one, other)))


def _write(path, token):
    """Writes a file atomically that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(token)
    os.replace(partial, path)
