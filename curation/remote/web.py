"""Polite HTTP requests: rate-limited per host, retried with exponential backoff, waiting as long as a server asks.

The rate limit is kept in files of the cache folder, so all processes of a machine share it, and a single "429 Too Many
Requests" slows all of them down.
"""

from __future__ import annotations

import hashlib
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

from helix4d import __version__
from helix4d.core import Helix4DError
from helix4d.core.locks import file_lock
from helix4d.core.redaction import redact
from helix4d.curation.remote.config import DownloadConfig

log = logging.getLogger("helix4d.curation")

_LONGEST_PAUSE_S = 60.0
_LONGEST_HOLD_S = 600.0
_PATIENCE_S = 1800.0
"""Total waiting time that a server may ask of one request."""
_MOST_HOLDS = 100
"""How often a server may ask one request to wait: it may ask for zero seconds every time."""
_CONNECT_S = 20.0
_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})


class UnreachableError(Helix4DError):
    """A URL could not be read.

    Attributes:
        status: HTTP status; 0 if there was no response.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(redact(message))  # it ends in the ledger and the report
        self.status = status


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
        config: rate limit, attempts and pauses.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._config = config
        self.pace = Pace(config.cache.expanduser() / "pace", config.requests_per_s)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"helix4d/{__version__}"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=32))

    def request(self, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> requests.Response:
        """Send a GET, or with a body a POST, which must be safe to repeat.

        Returns:
            A successful response, or "416 Range Not Satisfiable"; its content is not read yet.

        Raises:
            UnreachableError: if a retry cannot help, or the attempts are used up.
        """
        host = urlsplit(url).netloc
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
                )
            except (requests.ConnectionError, requests.Timeout) as error:
                problem = UnreachableError(f"{url}: {_short(error)}")
            except requests.RequestException as error:
                raise UnreachableError(f"{url}: {_short(error)}") from error
            else:
                if response.ok or response.status_code == 416:
                    return response
                problem = UnreachableError(
                    f"{url}: HTTP {response.status_code} {response.reason}", response.status_code
                )
                asked = _retry_after(response.headers)
                response.close()
                if response.status_code != 429 and response.status_code not in _TRANSIENT:
                    raise problem
            if problem.status == 429 and asked is not None:
                # The server said how long to wait: not a failed attempt.
                waited, holds = waited + asked, holds + 1
                if waited > _PATIENCE_S or holds > _MOST_HOLDS:
                    raise UnreachableError(f"{problem}; the server asked for {waited:.0f} s of waiting in total", 429)
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

    def read_page(
        self, url: str, most_bytes: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[bytes, requests.Response]:
        """`request` a small document: its content and the response.

        Raises:
            UnreachableError: as `request`; if every attempt breaks off, or the content exceeds `most_bytes`.
        """
        for attempt in range(1, self._config.download_attempts + 1):
            try:
                with self.request(url, headers, body) as response:
                    data = bytearray()
                    for block in response.iter_content(1 << 16):
                        data += block
                        if len(data) > most_bytes:
                            raise UnreachableError(f"{url}: exceeds the limit of {most_bytes:,} bytes")
                    return bytes(data), response
            except requests.RequestException as error:
                problem = UnreachableError(f"{url}: {_short(error)} ({attempt} attempts)")
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


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
