"""JSON documents with a version: parsed and checked in one step."""

from __future__ import annotations

import json
from typing import Any

from helix4d.core.errors import FormatError
from helix4d.core.schema import Schema


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
    try:
        content = json.loads(data)
    except ValueError as error:
        raise FormatError(f"{where}: not valid JSON ({error}): the {schema.name} is truncated or corrupt") from error
    schema.check(content, where)
    return dict(content)
