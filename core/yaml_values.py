"""YAML with bounded aliases: a few lines of nested aliases can stand for billions of values ("billion laughs")."""

from __future__ import annotations

from typing import Any

import yaml

_MOST_VALUES = 100_000
_MOST_LEVELS = 100
"""Also bounds the recursion of code that walks the values."""


def parse_yaml(text: str) -> Any:
    """Parse a YAML document: plain values, lists and mappings, no objects.

    Raises:
        ValueError: if it is not YAML, or if it has, with all aliases written out, more than 100,000 values or 100
            levels; the message has one line.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_extent(node, {}, ())  # before values are made: merge keys (`<<`) copy what their aliases name
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    finally:
        loader.dispose()


def _check_extent(node: yaml.Node, known: dict[int, tuple[int, int]], above: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of values and of levels of a node with all aliases written out; `known` has those checked."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:
        raise ValueError("an alias refers to the list or mapping that contains it")
    if len(above) >= _MOST_LEVELS:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep")
    values, levels = 1, 0
    for child in _children(node):
        below_values, below_levels = _check_extent(child, known, (*above, id(node)))
        values, levels = values + below_values, max(levels, below_levels)
    if values > _MOST_VALUES:
        raise ValueError(f"stands for more than {_MOST_VALUES:,} values: write fewer aliases")
    if levels >= _MOST_LEVELS:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep")
    known[id(node)] = values, levels + 1
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
