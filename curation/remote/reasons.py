"""Describes network errors without the messages of libraries, which quote what a server sent."""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator

import requests
import urllib3

from helix4d.core import Helix4DError

_TIMEOUTS = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{1,60}")
_DEPTH = 10
_WORDS = {FileNotFoundError: "no such file", PermissionError: "access denied"}


class BrokenError(OSError):
    """A transfer that failed and may be retried. Its message contains no text from the server."""


class SlowError(BrokenError):
    """A transfer that was too slow."""


def reason_of(error: BaseException) -> str:
    """Return a description of an error without any received text: from its type, its number, or its error code."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, Helix4DError | BrokenError):
            return str(one)
        if isinstance(one, urllib3.exceptions.NameResolutionError | socket.gaierror):
            return "the host name cannot be resolved"
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"the server's certificate is not valid ({ssl_reason(one)})"
        if isinstance(one, ssl.SSLError):
            return f"the TLS connection failed ({ssl_reason(one)})"
        if isinstance(one, requests.TooManyRedirects):
            return "too many redirects"
        if isinstance(one, http.client.RemoteDisconnected):
            return "the server closed the connection without a response"
        if isinstance(one, http.client.IncompleteRead | urllib3.exceptions.IncompleteRead):
            return "the connection was interrupted"
        if isinstance(one, http.client.HTTPException):
            return "the response is not valid HTTP"
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    for one in chain:
        if code := _code(one):
            return f"{type(error).__name__} ({code})"
        if isinstance(one, OSError) and one.errno is not None and one.errno in errno.errorcode:
            return f"{type(one).__name__}: {os.strerror(one.errno)}"
    if any(isinstance(one, _TIMEOUTS) for one in chain):
        return "timed out"
    return type(chain[-1] if isinstance(error, requests.RequestException) else error).__name__


def ssl_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's description of an error."""
    return str(getattr(error, "verify_message", "") or error.reason or type(error).__name__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes; requests and urllib3 also wrap errors as arguments."""
    seen: list[BaseException] = []
    following = [error]
    while following and len(seen) < _DEPTH:
        one = following.pop(0)
        if one in seen:
            continue
        seen.append(one)
        yield one
        inner = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        following += [other for other in inner if isinstance(other, BaseException)]


def _code(error: BaseException) -> str:
    """Return the HTTP status or error code in an error of an object store's client (botocore, aiohttp), or ""."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return f"HTTP {status}"
    response = getattr(error, "response", None)
    details = response.get("Error") if isinstance(response, dict) else None
    code = str(details.get("Code", "")) if isinstance(details, dict) else ""
    if code.isdigit() and len(code) == 3:
        return f"HTTP {code}"
    return code if _CODE.fullmatch(code) else ""
