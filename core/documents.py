"""JSON documents: parsed strictly, and for documents with a version checked in the same step.

Files of an output may come from other people, so their content is not trusted: nesting deeper than the interpreter
allows, NaN, infinite numbers and invalid UTF-8 are errors, like a missing brace.
"""

from __future__ import annotations

import json
import math
from typing import Any

from helix4d.core.errors import FormatError
from helix4d.core.schema import Schema


def parse_json(data: str | bytes, where: object, kind: str) -> Any:
    """Parse JSON of unknown origin.

    Args:
        data: content of the file.
        where: name of the file, for messages.
        kind: kind of file, for messages.

    Raises:
        FormatError: if it is not valid JSON, is nested too deeply, or contains a number that is not finite.
    """
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise FormatError(f"{where}: not valid JSON (nested too deeply): the {kind} is corrupt") from error
    except ValueError as error:
        raise FormatError(f"{where}: not valid JSON ({error}): the {kind} is truncated or corrupt") from error


def parse_document(data: str | bytes, schema: Schema, where: object) -> dict[str, Any]:
    """Parse a JSON document and check its version.

    Args:
        data: content of the file.
        schema: kind of file.
        where: name of the file, for messages.

    Raises:
        FormatError: if the document is damaged, or too old to be read.
        NewerError: if it was written by a newer version.
    """
    content = parse_json(data, where, schema.name)
    schema.check(content, where)
    return dict(content)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} exceeds the range of a double")
    return value
