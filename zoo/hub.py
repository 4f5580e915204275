"""Models on the Hugging Face Hub, such as `hf://USER/NAME` or `hf://USER/NAME@REVISION`.

A repository is not trusted: only its `model.keras` is downloaded, its SHA-256 is compared with the
one that the Hub states, and a file that holds code is refused before `zoo.model_files` loads it.
Files are in the cache of `huggingface_hub`, which also holds the access token.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import zoo
from zoo import env_vars, model_files, surgery
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras
from zoo.weights import digests

huggingface_hub = LazyModule("huggingface_hub")
hub_errors = LazyModule("huggingface_hub.errors")

PREFIX = "hf://"
MODEL = "model.keras"
EXTRA = "pip install 'keras-zoo[hub]'"
NAME_PATTERN = re.compile(r"hf://([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?", re.ASCII)
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def is_hub_name(name: object) -> TypeGuard[str]:
    """Returns whether a name is that of a model on the Hub."""
    return isinstance(name, str) and name.startswith(PREFIX)


def parse(name: str) -> tuple[str, str | None]:
    """Returns the repository `USER/NAME` and the revision, or `None`, of a name.

    Raises:
        UsageError: the name is not of the form `hf://USER/NAME[@REVISION]`.
    """
    found = NAME_PATTERN.fullmatch(name)
    if not found:
        raise UsageError(f"{name!r:.200} is not a name such as {PREFIX}USER/NAME@REVISION")
    return found[1], found[2]


def fetch(name: str) -> Path:
    """Returns the path of the model file of a repository; downloads it if needed.

    A file that is in the cache is used without a network, and always if `ZOO_OFFLINE` is set.

    Args:
        name: `hf://USER/NAME`, for the latest revision, or `hf://USER/NAME@REVISION`, in which
            REVISION is a branch, a tag or, for a file that cannot change, a commit.

    Raises:
        UsageError: there is no such model, it cannot be downloaded, or its digest is wrong.
    """
    repository, revision = parse(name)
    with request_errors(name):
        path = huggingface_hub.hf_hub_download(
            repository,
            MODEL,
            revision=revision,
            library_name="keras-zoo",
            library_version=zoo.__version__,
            endpoint=os.environ.get("HF_ENDPOINT"),
            local_files_only=env_vars.is_offline(),
        )
    path = Path(path)
    _check_digest(path, name)
    model_files.check_no_code(path)  # also where Keras's safe mode was disabled
    return path


def build(
    name: str,
    *,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    **others: object,
) -> keras.Model:
    """Builds a model of the Hub.

    Args:
        name: as in `fetch`.
        num_classes: number of logits of a new head; by default the model keeps its own.
        classes: class names in place of `num_classes`; those of the model keep its head.
        **others: other arguments of `zoo.build`, which must be `None` or absent.

    Returns:
        The `keras.Model`.

    Raises:
        UsageError: as in `fetch`; or an argument cannot be applied to a trained model.
    """
    if given := [key for key, value in others.items() if value is not None]:
        raise UsageError(f"{name} is a trained model, which takes no {given[0]}; leave that out")
    path = fetch(name)
    model, metadata = model_files.load(path)
    if classes is not None:
        if list(classes) == metadata.get("classes"):
            return model
        num_classes = len(classes)
    return model if num_classes is None else surgery.head(model, num_classes)


@contextlib.contextmanager
def request_errors(name):
    """Converts errors of requests to the Hub to `UsageError`.

    The messages hold nothing that the server or the library wrote, which could be a token.

    Args:
        name: The name of the repository, for messages.
    """
    log = logging.getLogger("huggingface_hub")
    level = log.level
    try:
        log.setLevel(logging.ERROR)  # not a line for each attempt
        yield
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise UsageError(f"{name} needs huggingface_hub: {EXTRA}") from error
    except UsageError:
        raise
    except Exception as error:
        message = _message(error) or _message(error.__cause__)  # an upload wraps its errors
        if not message:
            raise
        raise UsageError(f"{name}: {message}") from None
    finally:
        log.setLevel(level)


def _message(error):
    """Returns what is wrong and the way out for an error of `huggingface_hub`, else `""`."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    messages = (
        (hub_errors.GatedRepoError, f"access must be requested on its page; then {LOG_IN}"),
        (
            hub_errors.RepositoryNotFoundError,
            f"there is no such repository, or it is private: check the name, or {LOG_IN}",
        ),
        (hub_errors.RevisionNotFoundError, "there is no such revision; see its list of commits"),
        (
            hub_errors.LocalEntryNotFoundError,
            "it is not in the cache, and the Hub cannot be reached",
        ),
        (hub_errors.EntryNotFoundError, f"it has no {MODEL}; only models of keras-zoo are loaded"),
        (hub_errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE forbids access to the network"),
        (hub_errors.LocalTokenNotFoundError, f"there is no access token; {LOG_IN}"),
        (hub_errors.HFValidationError, f"this is not a name such as {PREFIX}USER/NAME"),
    )
    for kind, message in messages:
        if isinstance(error, kind):
            return message
    if status in (401, 403):
        return f"the Hub refused access (status {status}); {LOG_IN}, with a token that may write"
    if status:
        return f"the Hub answered with status {status}; try again later"
    if isinstance(error, hub_errors.HTTPError | TimeoutError | ConnectionError):
        return f"the Hub cannot be reached ({type(error).__name__}); try again later"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or 'the cache'}"
    return ""


def _check_digest(path, name):
    """Raises `UsageError` if a file of the cache does not have the SHA-256 that names it."""
    stored = Path(os.path.realpath(path))
    if SHA256_PATTERN.fullmatch(stored.name) and digests.sha256(stored) != stored.name:
        stored.unlink(missing_ok=True)
        raise UsageError(f"{name}: the file has another SHA-256 than the Hub states; try again")
