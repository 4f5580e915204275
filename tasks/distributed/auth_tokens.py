"""The token by which the processes of one run or search recognise each other.

It is `ZOO_TOKEN` of the environment, which `zoo launch` sets, where that is set. Otherwise the
process that listens makes one, and the others read it from a file beside the folder of the run.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from zoo.errors import UsageError

TOKEN_VARIABLE = "ZOO_TOKEN"


def generate():
    """Returns a token that nobody can guess."""
    return secrets.token_hex(16)


@contextlib.contextmanager
def publish(out):
    """Yields the token of the run in folder `out`; others can read it as long as the block runs.

    Raises:
        UsageError: the file that holds it cannot be written.
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
            f"{TOKEN_VARIABLE} "
            "to the same secret word for all processes"
        ) from error
    try:
        yield token
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def read_token(out):
    """Returns the token of the run in folder `out`, "" while no process has published one."""
    if token_from_env := os.environ.get(TOKEN_VARIABLE):
        return token_from_env
    try:
        return token_path(out).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def token_path(out):
    """Returns the path of the file that holds the token of the run in folder `out`."""
    out = Path(os.path.abspath(out))
    return out.with_name(f"{out.name}.token")


def tokens_match(one, other):
    """Returns whether two tokens are the same, in a time that does not depend on where they
    differ; what is no text is no token."""
    if not isinstance(one, str):
        return False
    # Half of a surrogate pair, which JSON can hold, is no UTF-8.
    return hmac.compare_digest(*(each.encode(errors="surrogatepass") for each in (one, other)))


def _write(path, token):
    """Writes a file that its owner alone can read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(token)
    os.replace(partial, path)
