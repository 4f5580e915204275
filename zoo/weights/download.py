"""A file from the network, in as many pieces as the connection breaks into."""

from __future__ import annotations

import errno
import http.client
import logging
import shutil
import ssl
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import tqdm

MAX_RETRIES = 3  # in a row that bring nothing
INITIAL_BACKOFF = 1.0  # seconds before the second try, twice as many before each further one
TIMEOUT = 30.0  # seconds without a byte
CHUNK_SIZE = 1 << 20  # bytes
RETRY_STATUS_CODES = {
    408,
    425,
    429,
    500,
    502,
    503,
    504,
}  # answers of a server that may change its mind

log = logging.getLogger("zoo")


class DownloadError(Exception):
    """The network does not give the file; the message says why."""


class _TransientError(Exception):
    """This try failed, the next one may not."""


def download(url, path, label, *, resume=True):
    """Writes what is at a URL to a file, and goes on where an earlier try stopped.

    Args:
        url: `http://` or `https://`.
        path: the file, a `pathlib.Path`; what was received of it stays when the network fails.
        label: what the progress bar calls it.
        resume: whether what is there already is the beginning of it.

    Returns:
        Whether the file has a beginning that an earlier process received.

    Raises:
        Unreachable: the server refuses, or does not answer after several tries.
        OSError: the file cannot be written, as on a full disk.
    """
    max_size = _size(path) if resume else 0
    resumed = max_size > 0
    failures = 0
    while True:
        try:
            _request(url, path, label, _size(path) if resume else 0)
            return resumed
        except DownloadError as error:
            raise DownloadError(f"{url}: {error}") from error
        except _TransientError as error:
            failures = 0 if _size(path) > max_size else failures + 1
            max_size = max(max_size, _size(path))
            if failures >= MAX_RETRIES:
                raise DownloadError(f"{url}: {error}") from error
            pause = INITIAL_BACKOFF * 2 ** max(0, failures - 1)
            log.info("%s: %s; next try in %g s", label, error, pause)
            time.sleep(pause)


def _request(url, path, label, start):
    """Asks once for what follows the first `start` bytes, and appends it."""
    headers = {"User-Agent": "keras-zoo", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with _translate_network_errors():
        try:
            response = urllib.request.urlopen(
                urllib.request.Request(url, headers=headers), timeout=TIMEOUT
            )
        except urllib.error.HTTPError as error:
            if _is_complete(error, path, start):
                return
            raise
    with response:
        if response.status == 206 and not _is_resumed(response, start):
            path.unlink()
            raise _TransientError("the server sent another part than was asked for")
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        _check_disk_space(path, (total or 0) - start)
        got = _write_body(response, path, label, start, total)
    if total is not None and got < total:
        raise _TransientError(f"the connection ended after {got:,} of {total:,} bytes")


def _write_body(response, path, label, start, total):
    """Writes a response behind the first `start` bytes of a file; returns its new size."""
    shown = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "leave": False}
    with (
        path.open("r+b" if start else "wb") as file,
        tqdm.tqdm(desc=label, total=total, initial=start, disable=None, **shown) as bar,
    ):
        file.truncate(start)
        file.seek(start)
        while True:
            with _translate_network_errors():
                chunk = response.read(CHUNK_SIZE)
            if not chunk:
                return file.tell()
            file.write(chunk)
            bar.update(len(chunk))


@contextmanager
def _translate_network_errors():
    """Turns errors of the network into our own, so that what is left are those of the disk."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        kind = _TransientError if error.code in RETRY_STATUS_CODES else DownloadError
        raise kind(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        final = isinstance(reason, ssl.SSLCertVerificationError) or isinstance(error, ValueError)
        reason = getattr(reason, "strerror", None) or reason
        text = " ".join(str(reason).split()) or type(reason).__name__
        raise (DownloadError if final else _TransientError)(text) from error


def _is_complete(error, path, start):
    """Tells whether an error only says that no byte was missing; forgets what goes too far."""
    if error.code != 416 or not start:
        return False
    error.close()
    if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
        return True
    path.unlink()
    raise _TransientError("what was there is not the beginning of the file") from error


def _is_resumed(response, start):
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _check_disk_space(path, wanted):
    """Raises `OSError` before a disk is filled by what it cannot hold."""
    free = shutil.disk_usage(path.parent).free
    if wanted > free:
        raise OSError(errno.ENOSPC, f"{wanted:,} bytes needed, {free:,} free")


def _size(path):
    return path.stat().st_size if path.is_file() else 0
