"""Command-line arguments become a settings dataclass, parsed by tyro. Only commands import this module."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from helix4d.core.options import Option

_Settings = TypeVar("_Settings")


def parse(kind: type[_Settings], program: str, arguments: Sequence[str] | None = None) -> _Settings:
    """Parse arguments (default: those of the process) to a dataclass; exits with a message if they are invalid.

    Args:
        kind: the dataclass; its fields may carry an `Option`.
        program: name of the command in its help text.
        arguments: the arguments after the command.
    """
    registry = ConstructorRegistry()
    registry.struct_rule(functools.partial(_read_options, set()))
    options = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(kind, prog=program, args=arguments, config=options, registry=registry)


def _read_options(in_progress: set[type], info: StructTypeInfo) -> StructConstructorSpec | None:
    """Describe a dataclass as tyro does by default, with every `Option` translated to tyro's configuration."""
    if not is_dataclass(info.type) or info.type in in_progress:
        return None
    in_progress.add(info.type)  # this rule must not apply to the call below
    try:
        described = ConstructorRegistry.get_struct_spec(info)
    finally:
        in_progress.discard(info.type)
    if not isinstance(described, StructConstructorSpec):
        return None
    return replace(described, fields=tuple(replace(field, type=_translate(field.type)) for field in described.fields))


def _translate(annotation: Any) -> Any:
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *marks = get_args(annotation)
    translated = [new for mark in marks for new in (_marks(mark) if isinstance(mark, Option) else [mark])]
    return Annotated[(kind, *translated)] if translated else kind


def _marks(option: Option) -> list[Any]:
    chosen = {
        tyro.conf.Suppress: option.hidden,
        tyro.conf.UseAppendAction: option.append,
        tyro.conf.FlagCreatePairsOff: option.only_on,
    }
    argument = tyro.conf.arg(
        name="" if option.flat else None, metavar=option.metavar, help_behavior_hint=option.default
    )
    return [argument, *(mark for mark, wanted in chosen.items() if wanted)]
