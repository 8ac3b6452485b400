"""The process of one check: `python -m benchmarks.kit.child MODULE:FUNCTION CONTEXT ROWS`.

Each row is written when the check yields it, so that the rows before a crash or the time limit are kept.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import sys
from pathlib import Path

from benchmarks.kit.context import Context


def main() -> None:
    """Run the check named on the command line."""
    run, document, path = sys.argv[1:]
    context = Context.from_json(json.loads(document))
    faulthandler.dump_traceback_later(max(context.left_s, 0.1), exit=True)  # prints where it hung
    module, _, function = run.partition(":")
    check = getattr(importlib.import_module(module), function)
    with Path(path).open("a", encoding="utf-8") as stream:
        for row in check(context):
            stream.write(json.dumps(row.to_json(), allow_nan=False) + "\n")
            stream.flush()
            print(f"{row.verdict}: {row.figure}", flush=True)


if __name__ == "__main__":
    main()
