"""Reading files from a server: straight through, or a stretch of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT = 30  # seconds
ATTEMPTS = 4
CHUNK = 1 << 20  # bytes

T = TypeVar("T")


class Stream:
    """A file that arrives from a server and is read forwards; what breaks off is taken up where it broke.

    Raises:
        ValueError: in one sentence, when the server fails to answer a few times.
    """

    def __init__(self, address: str) -> None:
        self.address, self.position = address, 0
        self._response = _patiently(address, lambda: _request(address, 0))
        said = self._response.headers.get("Content-Length", "")
        self.size = int(said) if said.isdecimal() else None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self._response.close()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        data = b""
        while len(data) < size:
            data += (more := _patiently(self.address, lambda: self._some(size - len(data))))  # noqa: B023
            if not more:
                break
        return data

    def seek(self, position: int) -> None:
        """Go forwards to a position, reading on the way."""
        while self.position < position and self.read(min(position - self.position, CHUNK)):
            pass

    def _some(self, size: int) -> bytes:
        try:
            data: bytes = self._response.read(size)
        except (OSError, HTTPException):
            self._response.close()
            self._response = _request(self.address, self.position)
            raise
        self.position += len(data)
        if not data and self.position < (self.size or 0):
            self._response.close()
            self._response = _request(self.address, self.position)
            raise ConnectionError(f"the connection ended after {self.position} of {self.size} bytes")
        return data


def read(address: str, start: int, size: int, at_least: int) -> bytes:
    """Bytes `start` to `start + size` of a file that should have `at_least` so many."""

    def once() -> bytes:
        with _request(address, start, size) as response:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total.isdecimal() and int(total) < at_least:
                raise ValueError(f"{address}: has become shorter since it was indexed; remove .index under the data root")
            data: bytes = response.read(size)
        if len(data) < size:
            raise ConnectionError(f"{len(data)} of {size} bytes came")
        return data

    return _patiently(address, once)


def _request(address: str, start: int, size: int | None = None):  # type: ignore[no-untyped-def]
    """A response whose body begins at `start`."""
    last = "" if size is None else start + size - 1
    response = urlopen(Request(address, headers={"Range": f"bytes={start}-{last}"}), timeout=TIMEOUT)
    if response.status != 206 and (start or size is not None):
        response.close()
        raise ValueError(f"{address}: its server does not send parts of files, which reading samples needs; copy it here")
    return response


def _patiently(address: str, action: Callable[[], T]) -> T:
    """What the action returns; it is tried again after a while if the network or the server fails."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except (OSError, HTTPException) as error:
            final = isinstance(error, HTTPError) and error.code < 500 and error.code != 429
            if isinstance(error, HTTPError):
                error.close()
            if final or attempt == ATTEMPTS - 1:
                raise ValueError(f"{address}: cannot be read ({error})") from None
            time.sleep(0.5 * 2**attempt)
    raise AssertionError
