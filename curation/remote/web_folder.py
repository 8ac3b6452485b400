"""Lets fsspec read folders of web servers through connections to hosts that a `Network` permits."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from helix4d.curation.remote.network import Network


@functools.cache  # fsspec keeps one file system, with its connections, per value of its options
def guarded_client(allow_host: tuple[str, ...]) -> Callable[..., Awaitable[aiohttp.ClientSession]]:
    """Return the `get_client` of fsspec's HTTP file system that opens sessions with checked connections.

    Args:
        allow_host: entries of `Network`; the host of the folder must be among them if it is not public.
    """
    network = Network(allow_host)

    async def get_client(**options: Any) -> aiohttp.ClientSession:
        guard = _Guard(network)
        connector = aiohttp.TCPConnector(resolver=guard, socket_factory=guard.open_socket)
        return aiohttp.ClientSession(connector=connector, **options)

    return get_client


class _Guard(AbstractResolver):
    """Resolves names to checked addresses, and checks numeric addresses in URLs and redirects.

    Raises:
        RefusedHostError: if an address is not public, unless the operator named the host.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._checked: set[tuple[str, int]] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await asyncio.to_thread(self._network.addresses, host, port)
        self._checked.update((address, port) for address in addresses)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def open_socket(self, where: Any) -> socket.socket:
        """Open the socket of a connection: aiohttp does not resolve numeric addresses."""
        family, kind, protocol, _, address = where
        host, port = address[:2]
        if (host, port) not in self._checked:
            self._network.addresses(host, port)
        return socket.socket(family, kind, protocol)
