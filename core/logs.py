"""Logging for commands: one handler on the root logger, installed by entry points only."""

from __future__ import annotations

import logging
import sys

from helix4d.core.redaction import redact
from helix4d.core.terminal import printable


def setup_logging() -> None:
    """Send log records to standard error. Each command calls this once; library code never does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Formatter(logging.Formatter):
    """Escapes control characters, which names from files may contain, and hides the secrets of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return printable(redact(super().format(record)))
