"""The images in a request: raw bytes, a multipart form, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
import json

FIELDS = ("file", "files")  # of a form
MAX_IMAGES = 64  # per request


class BadRequest(Exception):
    """Raised for an invalid request; the message states the reason."""


async def read_images(request) -> list[tuple[str, bytes]]:
    """Returns the names and encoded bytes of the images in a request.

    Args:
        request: A `starlette.requests.Request` whose body is an image (`image/...` or
            `application/octet-stream`), a form with the field `file` or `files`, or JSON with
            `image` or `images`, base64 or data URLs.

    Raises:
        BadRequest: It has no images, too many, or something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        images = [("image", await request.body())]
    elif kind == "multipart/form-data":
        images = await _from_form(request)
    elif kind == "application/json":
        images = _from_json(await request.body())
    else:
        raise BadRequest(
            f"content type {kind or 'missing'}; send image/*, multipart/form-data or "
            "application/json"
        )
    if not images:
        raise BadRequest("no image; expected the field file or files, or image or images in JSON")
    if len(images) > MAX_IMAGES:
        raise BadRequest(f"{len(images)} images; the limit is {MAX_IMAGES} per request")
    return images


async def _from_form(request):
    async with request.form(max_files=MAX_IMAGES, max_fields=MAX_IMAGES) as form:
        found = []
        for name in FIELDS:
            for part in form.getlist(name):
                if isinstance(part, str):
                    raise BadRequest(f"the field {name} is text, not a file; URLs are not fetched")
                found.append((part.filename or name, await part.read()))
        return found


def _from_json(body):
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRequest("expected a JSON object with image or images")
    given = value.get("images", [value["image"]] if "image" in value else [])
    if not isinstance(given, list):
        raise BadRequest("images must be a list of base64 strings")
    return [(f"image {number}", _from_base64(text)) for number, text in enumerate(given)]


def _from_base64(text):
    if not isinstance(text, str):
        raise BadRequest(f"an image must be a base64 string, not {type(text).__name__}")
    if text.startswith(("http:", "https:", "file:", "ftp:")):
        raise BadRequest("URLs are not fetched; send the image itself")
    content = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"an image is not base64: {error}") from error
