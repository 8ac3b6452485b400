"""Logging for commands: one handler on the root logger, installed by entry points only."""

from __future__ import annotations

import logging
import sys


def setup_logging() -> None:
    """Send log records to standard error. Each command calls this once; library code never does."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
