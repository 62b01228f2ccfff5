"""Bodies of requests: how many at once, and for how long they are waited for."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

_SMALL_BYTES: Final = 64 * 1024
_LARGE_AT_ONCE: Final = 16


class Bodies:
    """Reads what clients send: none for longer than ``patience_s``, and few large ones at once, so
    that no crowd of clients can fill the memory. How much of one is read is for the gate."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def read(self, request: Request) -> bytes:
        """All of it. Raises ``HTTPException``: 408 when it does not come in time, 400 when it
        breaks off, 413 from the gate."""
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and int(length[:20]) <= _SMALL_BYTES:
            return await self._in_time(request)
        async with self._large:  # whose patience begins when it is its turn
            return await self._in_time(request)

    async def _in_time(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._patience_s):
                async for piece in request.stream():
                    body += piece
        except TimeoutError:
            raise HTTPException(
                408, f"the body did not come within {self._patience_s:g} s", {"connection": "close"}
            ) from None
        except ClientDisconnect:
            raise HTTPException(400, "the body broke off") from None
        return bytes(body)
