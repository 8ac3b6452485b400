"""Polite HTTP requests: rate-limited per host, retried with exponential backoff, waiting as long as a server asks.

The rate limit is kept in files of the cache folder, so all processes of a machine share it, and a single "429 Too Many
Requests" slows all of them down.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from helix4d import __version__
from helix4d.core.locks import file_lock
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.connection import Session
from helix4d.curation.remote.network import Network, RefusedHostError, UnreachableError
from helix4d.curation.remote.reasons import SlowError, reason_of
from helix4d.curation.remote.watch import Deadline, Watch

log = logging.getLogger("helix4d.curation")

_LONGEST_PAUSE_S = 60.0
_LONGEST_HOLD_S = 600.0
_PATIENCE_S = 1800.0
"""Total waiting time that a server may ask of one request."""
_MOST_HOLDS = 100
"""How often a server may ask one request to wait: it may ask for zero seconds every time."""
_CONNECT_S = 20.0
_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})
_BLOCK_BYTES = 1 << 16
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
"""Errors that an interrupted connection raises."""


class Pace:
    """Rate limit per host, kept in one file per host.

    Args:
        folder: folder of the files.
        per_s: requests per second and host.
    """

    def __init__(self, folder: Path, per_s: float) -> None:
        self._folder = folder
        self._per_s = per_s

    def wait(self, host: str) -> None:
        """Block until a request may be sent."""
        now = time.time()
        with self._next(host) as clock:
            begin = max(now, min(clock[0], now + _LONGEST_HOLD_S))
            clock[0] = begin + 1 / self._per_s
        time.sleep(max(0.0, begin - now))

    def hold(self, host: str, seconds: float) -> None:
        """Delay the next request of every process."""
        with self._next(host) as clock:
            clock[0] = max(clock[0], time.time() + seconds)

    @contextmanager
    def _next(self, host: str) -> Iterator[list[float]]:
        """[time of the next request], to read and change while the host's file is locked."""
        with file_lock(self._folder / ("host-" + re.sub(r"[^\w.\-]", "_", host)[:100])) as stream:
            stream.seek(0)
            text = stream.read()
            clock = [float(text) if re.fullmatch(rb"\d+\.\d+", text) else 0.0]
            yield clock
            stream.truncate(0)
            stream.write(f"{clock[0]:.6f}".encode())


class Web:
    """An HTTP session with retries.

    Args:
        config: rate limit, attempts, pauses, time limits, and permitted hosts.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._config = config
        self.network = Network(config.allow_host)
        self.pace = Pace(config.cache.expanduser() / "pace", config.requests_per_s)
        self._session = Session(self.network, config.stall_s)
        self._session.headers["User-Agent"] = f"helix4d/{__version__}"

    def request(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        deadline: Deadline | None = None,
    ) -> requests.Response:
        """Send a GET, or with a body a POST, which must be safe to repeat.

        Args:
            url: address.
            headers: further headers.
            body: content of a POST.
            deadline: when to give up; None for `download_timeout_s` from now.

        Returns:
            A successful response, or "416 Range Not Satisfiable"; its content is not read yet.

        Raises:
            RefusedHostError: if the URL or a redirect leads to a host that the operator did not name.
            UnreachableError: if a retry would not help, or the attempts or the time are exhausted.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        deadline = deadline or Deadline(self._config.download_timeout_s)
        attempt, holds, waited = 0, 0, 0.0
        while True:
            self.pace.wait(host)
            asked = None
            try:
                # No compression: ranges and sizes refer to the stored bytes.
                response = self._session.request(
                    "POST" if body else "GET",
                    url,
                    data=body or None,
                    headers={"Accept-Encoding": "identity", **(headers or {})},
                    stream=True,
                    timeout=(min(_CONNECT_S, self._config.stall_s), self._config.stall_s),
                    auth=self._session.auth_for(url),
                )
            except RefusedHostError as error:
                raise error.at(url) from error
            except (requests.ConnectionError, requests.Timeout) as error:
                problem = UnreachableError(f"{url}: {reason_of(error)}")
            except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
                raise UnreachableError(f"{url}: {reason_of(error)}") from error
            else:
                if response.ok or response.status_code == 416:
                    return response
                problem = UnreachableError(f"{url}: {_status(response.status_code)}", response.status_code)
                asked = _retry_after(response.headers)
                response.close()
                if response.status_code != 429 and response.status_code not in _TRANSIENT:
                    raise problem
            if deadline.left_s() <= 0:
                raise UnreachableError(f"{problem}; not complete after {deadline.seconds:g} s", problem.status)
            if problem.status == 429 and asked is not None:
                # The server said how long to wait: not a failed attempt.
                waited, holds = waited + asked, holds + 1
                if waited > _PATIENCE_S or holds > _MOST_HOLDS:
                    raise UnreachableError(f"{problem}; the server asked to wait {waited:.0f} s in total", 429)
                log.info("%s is rate-limiting: waiting %.0f s", host, asked)
                self.pace.hold(host, min(asked, _LONGEST_HOLD_S))
                continue
            attempt += 1
            if attempt >= self._config.download_attempts:
                raise UnreachableError(f"{problem} ({attempt} attempts)", problem.status)
            wait = max(pause_s(self._config, url, attempt), min(asked or 0.0, _LONGEST_HOLD_S))
            if problem.status == 429:
                self.pace.hold(host, wait)
            else:
                time.sleep(wait)

    def blocks(
        self, response: requests.Response, deadline: Deadline | None = None, decode: bool = False
    ) -> Iterator[bytes]:
        """Yield the content of a response as it arrives.

        Args:
            response: a response of `request`.
            deadline: when it must be complete; None for `download_timeout_s` from now.
            decode: decompress the content.

        Raises:
            SlowError: below `min_bytes_per_s` over `stall_s`, or after the deadline.
            OSError, requests.RequestException, urllib3.exceptions.HTTPError: if the connection is interrupted.
        """
        if response.raw.closed:
            return
        least = self._config.min_bytes_per_s * self._config.stall_s
        deadline = deadline or Deadline(self._config.download_timeout_s)
        with Watch(response.raw.fileno(), self._config.stall_s, least, deadline) as watch:
            try:
                while block := response.raw.read1(_BLOCK_BYTES, decode_content=decode):
                    watch.received += len(block)
                    yield block
            except BROKEN as error:
                if not watch.problem:
                    raise
                raise SlowError(watch.problem) from error
            if watch.problem:  # without a Content-Length, a closed connection raises no error
                raise SlowError(watch.problem)

    def read_page(
        self, url: str, most_bytes: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[bytes, requests.Response]:
        """Request a small document, and return its content and the response.

        Raises:
            UnreachableError: see `request`; if every attempt is interrupted, or the content exceeds `most_bytes`.
        """
        deadline = Deadline(self._config.download_timeout_s)
        for attempt in range(1, self._config.download_attempts + 1):
            try:
                with self.request(url, headers, body, deadline) as response:
                    data = bytearray()
                    for block in self.blocks(response, deadline, decode=True):
                        data += block
                        if len(data) > most_bytes:
                            raise UnreachableError(f"{url}: exceeds the limit of {most_bytes:,} bytes")
                    return bytes(data), response
            except BROKEN as error:
                problem = UnreachableError(f"{url}: {reason_of(error)} ({attempt} attempts)")
            time.sleep(pause_s(self._config, url, attempt))
        raise problem


def pause_s(config: DownloadConfig, what: str, attempt: int) -> float:
    """Seconds to wait after a failed attempt: exponential backoff plus up to 50 % jitter.

    The jitter, derived from a hash of `what`, keeps requests that failed together from being retried together.
    """
    share = hashlib.sha256(f"{what} {attempt} {os.getpid()}".encode()).digest()[0] / 255
    return min(config.backoff_s * 2.0 ** (attempt - 1), _LONGEST_PAUSE_S) * (1 + share / 2)


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds that a response asks to wait: a number or date in Retry-After, else `t` in the hub's RateLimit."""
    text = str(headers.get("Retry-After", "")).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if text:
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            return None
    reset = re.search(r"\bt=(\d+)", str(headers.get("RateLimit", "")))
    return float(reset[1]) if reset else None


def _status(status: int) -> str:
    """Return the status with its standard phrase; the response's own phrase is text from the server."""
    return f"HTTP {status} {http.client.responses.get(status, '')}".strip()
