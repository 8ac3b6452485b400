"""Parses YAML with a limit on alias expansion: a few lines of nested aliases can expand to billions of values."""

from __future__ import annotations

from typing import Any

import yaml

_MOST_VALUES = 100_000
_MOST_LEVELS = 100
"""Also limits the recursion of code that traverses the values."""


def parse_yaml(text: str) -> Any:
    """Parse a YAML document into plain values, lists and mappings; tags for Python objects are errors.

    Raises:
        ValueError: if it is not valid YAML, or has more than 100,000 values or 100 levels with all aliases expanded.
            The message is a single line.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_extent(node, {}, ())  # before construction: merge keys (`<<`) copy the mappings of their aliases
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    finally:
        loader.dispose()


def _check_extent(node: yaml.Node, known: dict[int, tuple[int, int]], above: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of values and of levels of a node with aliases expanded; `known` caches them by node id."""
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
        raise ValueError(f"expands to more than {_MOST_VALUES:,} values: use fewer aliases")
    if levels >= _MOST_LEVELS:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep")
    known[id(node)] = values, levels + 1
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
