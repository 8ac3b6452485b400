"""How the fields of a settings dataclass appear on a command line.

`helix4d.core.command_line` reads these annotations. This module does not import tyro, so code that only uses the
settings, such as training, does not need it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """Annotation of a field, for `Annotated`.

    Attributes:
        metavar: placeholder of the value in the help text; None for the type's.
        default: what the help text says about the default, such as "(optional)"; None for the value.
        flat: whether the fields of a nested dataclass become options without its name as a prefix.
        hidden: whether there is no such option.
        append: whether the option may be repeated, with one value each time.
        only_on: whether a flag has no `--no-NAME` counterpart.
    """

    metavar: str | None = None
    default: str | None = None
    flat: bool = False
    hidden: bool = False
    append: bool = False
    only_on: bool = False
