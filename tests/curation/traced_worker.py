"""The worker of the sandbox, under strace; its log is named after the process."""

from __future__ import annotations

import os
from pathlib import Path

from tests.curation.file_watch import TRACE_VARIABLE, exec_traced

if __name__ == "__main__":
    exec_traced("helix4d.curation.work.worker", Path(os.environ[TRACE_VARIABLE]) / f"{os.getpid()}.trace")
