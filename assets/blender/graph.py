"""Follows the links of a shader graph: through groups, reroutes and muted nodes to the node that drives a socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MOST_STEPS = 1000
"""Bound of one path of links. Blender marks links that form a cycle as invalid, but a damaged file may contain one."""


class UnreadableError(Exception):
    """A node that cannot be converted to constants and images; the message names it."""


@dataclass(frozen=True)
class Origin:
    """What drives an input.

    Attributes:
        node: node that computes the value; None if nothing does, and `socket` has the value itself.
        socket: output of `node`, or an input without a link.
        groups: group nodes around it, outermost first.
        types: socket types along the links, that of `socket` first; Blender converts the value between them.
    """

    node: Any
    socket: Any
    groups: tuple[Any, ...]
    types: tuple[str, ...]

    def key(self) -> tuple[object, ...]:
        """Return a hashable name of the socket, the same for equal origins of one material."""
        groups = (group.name for group in self.groups)
        return (*groups, self.socket.node.name, self.socket.is_output, self.socket.identifier, self.types)


def origin(socket: Any, groups: tuple[Any, ...] = ()) -> Origin:
    """Return what drives an input socket of a node inside `groups`.

    Raises:
        UnreadableError: if the links end at a group without a definition, or form a cycle.
    """
    types = [socket.type]
    for _ in range(_MOST_STEPS):
        link = next(_valid_links(socket), None)
        if link is None:
            return Origin(None, socket, groups, tuple(reversed(types)))
        node, output = link.from_node, link.from_socket
        if node.mute:
            inner = next((own for own in node.internal_links if own.to_socket.identifier == output.identifier), None)
            if inner is None:
                raise UnreadableError(f"{label(node)} is muted and has no internal link")
            socket = inner.from_socket
        elif node.type == "REROUTE":
            socket = node.inputs[0]
        elif node.type == "GROUP":
            socket = _group_result(node, output.identifier)
            groups = (*groups, node)
        elif node.type == "GROUP_INPUT" and groups:
            socket = next((own for own in groups[-1].inputs if own.identifier == output.identifier), None)
            if socket is None:
                raise UnreadableError(f"{label(groups[-1])} lacks an input of its group")
            groups = groups[:-1]
        else:
            return Origin(node, output, groups, (output.type, *reversed(types)))
        types.append(socket.type)
    raise UnreadableError("its links form a cycle")


def label(node: Any) -> str:
    """Return the name of a node and its type, for messages."""
    return f"node {node.name[:40]!r} ({node.bl_label})"


def _valid_links(socket: Any) -> Iterator[Any]:
    if socket.is_linked:
        yield from (link for link in socket.links if link.is_valid and not link.is_muted)


def _group_result(group: Any, identifier: str) -> Any:
    """Return the socket inside a group that drives one of its outputs."""
    nodes = group.node_tree.nodes if group.node_tree is not None else ()
    outputs = [node for node in nodes if node.type == "GROUP_OUTPUT"]
    output = next((node for node in outputs if node.is_active_output), None)
    found = next((own for own in output.inputs if own.identifier == identifier), None) if output else None
    if found is None:
        raise UnreadableError(f"{label(group)} does not define that output")
    return found
