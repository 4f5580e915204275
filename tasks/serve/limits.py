"""Limits of requests as ASGI middleware: bytes, time, and the token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets

DRAIN_SECONDS = 2.0  # in which the rest of a refused body is read, so that clients see the reason
OPEN_PATHS = ("/", "/health", "/docs", "/openapi.json")  # readable without a token


class Limits:
    """Refuses requests that are too large, too slow, or without the token.

    Bodies are counted as they arrive: a request is refused before it is read in full.

    Args:
        app: The ASGI application.
        max_bytes: The largest body of a request.
        timeout: Seconds in which the body must arrive.
        token: The token that requests must carry as `Authorization: Bearer TOKEN`, or `None`.
    """

    def __init__(self, app, *, max_bytes: int, timeout: float, token: str | None = None) -> None:
        self.app, self.max_bytes, self.timeout, self.token = app, max_bytes, timeout, token

    async def __call__(self, scope, receive, send):
        """Serves a request, or refuses it with the status 401, 408 or 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self._may_read(scope["path"], headers):
            await _refuse(
                send, 401, "the token is missing or wrong", (b"www-authenticate", b"Bearer")
            )
            return
        body = _Body(receive, self.max_bytes, self.timeout)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_bytes:
            await body.drain()
            await _refuse(send, 413, f"the body has {int(length):,} bytes; {self._limit()}")
            return
        started = False

        async def send_once(message):
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, body.receive, send_once)
        except _Refused as refused:
            if not started:
                await body.drain()
                await _refuse(send, refused.status, f"{refused}; {self._limit()}")

    def _limit(self):
        return f"the limits are {self.max_bytes:,} bytes in {self.timeout:g} seconds"

    def _may_read(self, path, headers):
        if self.token is None or path in OPEN_PATHS:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(given, self.token.encode())


class _Refused(Exception):
    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class _Body:
    """Counts the bytes of a body as it is received."""

    def __init__(self, receive, max_bytes, timeout):
        self._receive, self._left, self._max_bytes = receive, max_bytes, max_bytes
        self._until = asyncio.get_running_loop().time() + timeout
        self._complete = False

    async def receive(self):
        if self._complete:  # what follows is the end of the connection, at any time
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise _Refused(408, "the body arrived too slowly") from None
        self._left -= len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._left < 0:
            raise _Refused(413, "the body is too large")
        return message

    async def drain(self):
        """Reads the rest of a body for a short time: closing earlier would reset the connection."""
        left = self._left + self._max_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0 and not self._complete:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)


async def _refuse(send, status, reason, *headers):
    body = json.dumps({"error": reason}).encode()
    fixed = [(b"content-type", b"application/json"), (b"connection", b"close")]
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [*fixed, length, *headers]})
    await send({"type": "http.response.body", "body": body})
