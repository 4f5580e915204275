"""Downloads a file over HTTP; retries, and resumes after interruptions."""

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

MAX_RETRIES = 3  # consecutive attempts without new data
INITIAL_BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
TIMEOUT = 30.0  # seconds without data
CHUNK_SIZE = 1 << 20  # bytes
RETRY_STATUS_CODES = {408, 425, 429, 500, 502, 503, 504}  # of errors that may be temporary

log = logging.getLogger("zoo")


class DownloadError(Exception):
    """The file cannot be downloaded; the message has the reason."""


class _TransientError(Exception):
    """An attempt failed; another one may succeed."""


def download(url, path, label, *, resume=True):
    """Downloads a URL to a file; continues a partial file.

    Args:
        url: `http://` or `https://`.
        path: the file, a `pathlib.Path`; a partial download is kept if the network fails.
        label: the name in the progress bar.
        resume: whether to continue after the content that the file already has.

    Returns:
        Whether the file had content before, from an earlier process.

    Raises:
        DownloadError: the server refuses, or does not respond after several attempts.
        OSError: the file cannot be written, for instance because the disk is full.
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
            log.info("%s: %s; next attempt in %g s", label, error, pause)
            time.sleep(pause)


def _request(url, path, label, start):
    """Makes one request for the content after the first `start` bytes, and appends it."""
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
            raise _TransientError("the server sent another range than was requested")
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        _check_disk_space(path, (total or 0) - start)
        got = _write_body(response, path, label, start, total)
    if total is not None and got < total:
        raise _TransientError(f"the connection ended after {got:,} of {total:,} bytes")


def _write_body(response, path, label, start, total):
    """Writes a response after the first `start` bytes of a file; returns the file's new size."""
    units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with (
        path.open("r+b" if start else "wb") as file,
        tqdm.tqdm(
            desc=label, total=total, initial=start, disable=None, leave=False, **units
        ) as bar,
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
    """Raises network errors as `DownloadError` or `_TransientError`, but not those of the disk."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        kind = _TransientError if error.code in RETRY_STATUS_CODES else DownloadError
        raise kind(f"the server responded {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        permanent = isinstance(reason, ssl.SSLCertVerificationError)
        permanent = permanent or isinstance(error, ValueError)
        reason = getattr(reason, "strerror", None) or reason
        text = " ".join(str(reason).split()) or type(reason).__name__
        raise (DownloadError if permanent else _TransientError)(text) from error


def _is_complete(error, path, start):
    """Returns whether error 416 means that the file was complete; removes one that is too long."""
    if error.code != 416 or not start:
        return False
    error.close()
    if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
        return True
    path.unlink()
    raise _TransientError("the partial file is not the beginning of the file") from error


def _is_resumed(response, start):
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _check_disk_space(path, needed):
    """Raises `OSError` if the disk has fewer free bytes than needed."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes needed, {free:,} free")


def _size(path):
    return path.stat().st_size if path.is_file() else 0
