"""An HTTP session that connects only to hosts that a `Network` permits, and whose response headers must arrive in time.

The check is part of each connection, so it covers every redirect and every spelling of an address. The connection goes
to the address that was checked; the name is not resolved again.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, ClassVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import connection as connections

from helix4d.curation.remote.network import PORTS, Network
from helix4d.curation.remote.watch import Watch

_MOST_REDIRECTS = 10
_MOST_ADDRESSES = 4
_REDIRECT_BYTES = 64 << 10
"""Limit for reading a redirect's body so that the connection can be reused; with a longer body it is closed."""

logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # its warnings quote malformed headers


class Session(requests.Session):
    """A session that checks where it connects to, and uses `~/.netrc` only for hosts that the operator named.

    Args:
        network: permitted hosts.
        answer_s: seconds until the headers of a response must be complete.
    """

    def __init__(self, network: Network, answer_s: float) -> None:
        super().__init__()
        self.max_redirects = _MOST_REDIRECTS
        self._network = network
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(network, answer_s))

    def auth_for(self, url: str) -> AuthBase | None:
        """Return the credentials in the URL; None lets requests decide, which also reads `~/.netrc`."""
        if self._network.names(*_host_and_port(url)):
            return None
        user, password = get_auth_from_url(url)
        return HTTPBasicAuth(user, password) if user or password else _NoAuth()

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove the credentials when redirected to another host, and add none."""
        before = response.request.url or ""
        if self.should_strip_auth(before, prepared_request.url or ""):
            prepared_request.headers.pop("Authorization", None)


class _NoAuth(AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Guard:
    """Checks the addresses and the response times of an adapter's connections."""

    def __init__(self, network: Network, answer_s: float) -> None:
        self._network, self._answer_s = network, answer_s

    def connect(self, connection: HTTPConnection) -> socket.socket:
        """Replace `HTTPConnection._new_conn`: connect only to addresses that were checked."""
        try:
            addresses = self._network.addresses(connection.host, connection.port)
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(connection.host, connection, error) from error
        except UnicodeError:
            raise urllib3.exceptions.LocationParseError("invalid host name") from None
        problem: OSError | None = None
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return connections.create_connection(
                    (address, connection.port),
                    connection.timeout,
                    source_address=connection.source_address,
                    socket_options=connection.socket_options,
                )
            except OSError as error:
                problem = error
        if isinstance(problem, TimeoutError):
            raise urllib3.exceptions.ConnectTimeoutError(connection, "connecting timed out") from problem
        raise urllib3.exceptions.NewConnectionError(connection, "no connection") from problem

    def answer(self, connection: HTTPConnection, receive: Callable[[], Any]) -> Any:
        """Call `HTTPConnection.getresponse`; the headers must be complete in time."""
        with Watch(connection.sock.fileno(), self._answer_s, 1) as watch:
            try:
                response = receive()
            except Exception:
                if watch.problem:
                    raise TimeoutError(watch.problem) from None
                raise
        return response

    def pools(self, *, proxied: bool) -> dict[str, type[HTTPConnectionPool]]:
        """Return connection pools by scheme; those for a proxy do not check its address, which the operator chose."""
        values = {"guard": self, "proxied": proxied}
        http, https = (type(kind.__name__, (_Guarded, kind), values) for kind in (HTTPConnection, HTTPSConnection))
        return {
            "http": type("Http", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("Https", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }


class _Guarded(HTTPConnection):
    """Mixin that precedes urllib3's connection class among the bases."""

    guard: ClassVar[_Guard]
    proxied: ClassVar[bool]

    def _new_conn(self) -> socket.socket:
        return super()._new_conn() if self.proxied else self.guard.connect(self)

    def getresponse(self) -> Any:
        return self.guard.answer(self, super().getresponse)


class _Adapter(HTTPAdapter):
    def __init__(self, network: Network, answer_s: float) -> None:
        self._network, self._answer_s = network, answer_s
        self._guard = _Guard(network, answer_s)
        super().__init__(pool_maxsize=32)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._guard.pools(proxied=False)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if new and not proxy.lower().startswith("socks"):  # a manager for SOCKS has connections of its own
            manager.pool_classes_by_scheme = self._guard.pools(proxied=True)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = request.url or ""
        if select_proxy(url, options.get("proxies")):
            self._network.check_behind_proxy(*_host_and_port(url))
        response = super().send(request, *args, **options)
        if response.is_redirect:
            self._drop_body(response.raw)
        return response

    def _drop_body(self, raw: urllib3.HTTPResponse) -> None:
        """Read the short body of a redirect; requests would read all of it, however long and slow it is."""
        if raw.closed:
            return
        left = _REDIRECT_BYTES
        with Watch(raw.fileno(), self._answer_s, 1), contextlib.suppress(urllib3.exceptions.HTTPError):
            while left > 0 and (block := raw.read1(left)):
                left -= len(block)
        if not raw.closed:
            raw.close()


def _host_and_port(url: str) -> tuple[str, int]:
    """Return host and port as urllib3 interprets them."""
    parts = urllib3.util.parse_url(url)
    return parts.host or "", parts.port or PORTS.get(parts.scheme or "", 0)
