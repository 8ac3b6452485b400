"""Decides which hosts a download may reach, and where it may use the operator's credentials.

The URLs of a manifest and the redirects of servers are untrusted, but are fetched from inside the operator's network.
They may lead only to public addresses, and object stores and hub repositories are read anonymously, unless the operator
named the host, bucket or repository (`--allow-host`, `--source`, HF_ENDPOINT). Address ranges: IANA's special-purpose
registries, as in `ipaddress`.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from helix4d.core import ConfigError, Helix4DError
from helix4d.core.redaction import redact
from helix4d.curation.remote.hub import endpoint, label_at, label_of, parse_hub_url, token_headers

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\](:\d{1,5})?|[^\s/@\[\]:?#]+(:\d{1,5})?|[0-9A-Fa-f:]+:[0-9A-Fa-f:.]*")
PORTS = {"http": 80, "https": 443}
_SAME_STORE = {"s3a": "s3", "gcs": "gs"}
_ANONYMOUS: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}}
"""fsspec options for access without credentials, by protocol."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PLATFORM = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32")))
"""Addresses that cloud providers use for platform services, and that Python 3.11 takes for public."""


class UnreachableError(Helix4DError):
    """A URL could not be read.

    Attributes:
        status: HTTP status; 0 if there was no response.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(redact(message))  # it ends in the ledger and the report
        self.status = status


class RefusedHostError(UnreachableError):
    """An untrusted URL or a redirect leads to a host that only the operator may name.

    Args:
        problem: where it leads.
        advice: what an operator who trusts it can do; appended to the message.

    Attributes:
        problem: the message without the advice.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem, self.advice = problem, advice

    def at(self, url: str) -> RefusedHostError:
        """Return the same error for a URL that led there."""
        return RefusedHostError(f"{url}: {self.problem}", self.advice)

    def __reduce__(self) -> tuple[type[RefusedHostError], tuple[str, str]]:
        return type(self), (self.problem, self.advice)


class Network:
    """The hosts that the operator named, and the checks of all others.

    Args:
        allow_host: entries `HOST`, `HOST:PORT`, `PROTOCOL://BUCKET` or `hf://datasets/OWNER/NAME`.

    Raises:
        ConfigError: if an entry has another form.
    """

    def __init__(self, allow_host: Sequence[str]) -> None:
        self._hosts: set[tuple[str, int | None]] = set()
        self._stores: set[tuple[str, str]] = set()
        self._repositories: set[str] = set()
        for entry in allow_host:
            protocol, _, place = entry.rpartition("://")
            bucket = place.strip("/")
            if protocol.lower() == "hf" and (label := label_of(bucket)):
                self._repositories.add(label)
            elif protocol and protocol.lower() not in (*PORTS, "hf") and bucket and "/" not in bucket:
                self._stores.add((_store_protocol(protocol), bucket))
            elif not protocol and _HOST.fullmatch(entry):
                self._hosts.add(_host_and_port(entry))
            else:
                raise ConfigError(
                    f"--allow-host {entry}: expected HOST, HOST:PORT, PROTOCOL://BUCKET or hf://datasets/OWNER/NAME"
                )

    def names(self, host: str, port: int | None) -> bool:
        """Return whether the operator named a host; the hub's host counts as named."""
        hub = urlsplit(endpoint())
        named = self._hosts | {(_plain_host(hub.hostname or ""), hub.port or PORTS.get(hub.scheme))}
        return not named.isdisjoint({(_plain_host(host), None), (_plain_host(host), port)})

    def addresses(self, host: str, port: int) -> list[str]:
        """Resolve a host once and check its addresses, so that connections go to the addresses that were checked.

        Raises:
            RefusedHostError: if one of them is not public, unless the operator named the host.
            socket.gaierror: if the name cannot be resolved.
            UnicodeError: if it is not a valid name.
        """
        found = socket.getaddrinfo(_plain_host(host), port, 0, socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self.names(host, port):
            for address in addresses:
                _refuse_unless_public(host, address)
        return addresses

    def check_behind_proxy(self, host: str, port: int) -> None:
        """Check a host that a proxy will connect to, as far as this machine can tell.

        The proxy resolves the name itself, perhaps differently. A name that this machine cannot resolve is not checked.

        Raises:
            RefusedHostError: see `addresses`.
        """
        if not self.names(host, port):
            for address in _resolved_here(host):
                _refuse_unless_public(host, address)

    def store_options(self, url: str) -> dict[str, Any]:
        """Return fsspec options for a URL: the operator's credentials only for stores that the operator named.

        Raises:
            RefusedHostError: if the operator did not name it, and its protocol has no anonymous access.
        """
        protocol, bucket = _store_protocol(url.partition("://")[0]), urlsplit(url).netloc
        if (protocol, bucket) in self._stores:
            return {}
        if protocol not in _ANONYMOUS:
            raise RefusedHostError(
                f"{url}: {protocol}:// needs your credentials, which are used only for hosts and buckets that you name",
                f"pass --allow-host {protocol}://{bucket.rpartition('@')[2]} if you trust the list of assets",
            )
        return _ANONYMOUS[protocol]

    def hub_headers(self, address: str) -> dict[str, str]:
        """Return the operator's token as a header, for addresses in repositories of the hub that the operator named."""
        return token_headers() if label_at(address) in self._repositories else {}

    def token_advice(self, address: str) -> str:
        """Return how to read a repository of the hub with the operator's token, if the request for it was anonymous."""
        label = label_at(address)
        if not label or label in self._repositories or not token_headers():
            return ""
        return f": pass --allow-host hf://{label} to read it with your token"


def named_by(url: str) -> tuple[str, ...]:
    """Return the `allow_host` entries of a URL that the operator typed, as `--source`; none if it is no URL."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        return ()
    if protocol.lower() == "hf":
        return (f"hf://{parse_hub_url(url)[0].label}",)
    if protocol.lower() not in PORTS:
        return (f"{protocol}://{rest.partition('/')[0]}",) if rest.partition("/")[0] else ()
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.netloc.rpartition("]")[2].rpartition("@")[2].partition(":")[2]
    named = (f"{f'[{host}]' if ':' in host else host}:{port or PORTS[protocol.lower()]}",) if host else ()
    return (*named, f"hf://{label}") if (label := label_at(url)) else named


def kind_of(address: str) -> str:
    """Return why an address is not public: loopback, link-local, private, ...; "" if it is public."""
    found: _Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = _embedded(found) or found
    for kind in ("unspecified", "loopback", "link_local", "multicast", "private"):
        if getattr(found, f"is_{kind}"):
            return kind.replace("_", "-")
    platform = any(found in network for network in _PLATFORM if network.version == found.version)
    unassigned = found.is_reserved or not found.is_global or getattr(found, "is_site_local", False)
    return "reserved" if platform or unassigned else ""


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _refuse_unless_public(host: str, address: str) -> None:
    if kind := kind_of(address):
        raise RefusedHostError(
            f"{host} has a {kind} address, but lists of assets and redirects may lead only to public addresses",
            f"pass --allow-host {host} if you trust it",
        )


@functools.lru_cache(maxsize=4096)
def _resolved_here(host: str) -> tuple[str, ...]:
    """Return the addresses of a host as this machine resolves it; none if it cannot. Slow behind some proxies."""
    try:
        return tuple(str(entry[4][0]) for entry in socket.getaddrinfo(_plain_host(host), None, 0, socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return ()


def _host_and_port(entry: str) -> tuple[str, int | None]:
    if entry.count(":") > 1 and not entry.startswith("["):
        return _plain_host(entry), None  # an IPv6 address
    parts = urlsplit(f"//{entry}")
    try:
        return _plain_host(parts.hostname or ""), parts.port
    except ValueError as error:
        raise ConfigError(f"--allow-host {entry}: the port must be at most 65535") from error


def _plain_host(host: str) -> str:
    """Return the canonical spelling of a host: lower case, without brackets and the final dot."""
    plain = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        return plain


def _store_protocol(protocol: str) -> str:
    return _SAME_STORE.get(protocol.lower(), protocol.lower())
