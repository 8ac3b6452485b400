"""A worker that misbehaves as its job demands: it answers, sleeps, crashes or allocates memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import time

kept = []
with os.fdopen(int(os.environ["HELIX4D_EVENTS_FD"]), "w") as events:
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.write(f"doing {job['do']}\n")
        sys.stdout.flush()
        events.write('{"event": "progress", "stage": "bake", "step": 0, "steps": 1}\n')
        events.flush()
        tempfile.mkstemp(prefix="left-by-")
        if job["do"] == "hang":
            time.sleep(60)
        elif job["do"] == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif job["do"] == "fall silent":
            os.close(events.fileno())
            time.sleep(60)
        elif job["do"] == "exit":
            os._exit(3)
        elif job["do"] == "keep":
            kept.append(os.urandom(120 << 20))
        elif job["do"] == "eat":
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20) * 20))
                time.sleep(0.02)
        failure = {
            "refuse": {"refused": errno.EMFILE, "where": None},
            "lack a driver": {"unfit": "no driver"},
            "raise": {"outcome": {"reason": "crashed"}},
        }.get(job["do"], {})
        end = {"event": "end", "pid": os.getpid(), "temporary": tempfile.gettempdir(), **failure}
        events.write(json.dumps(end) + "\n")
        events.flush()
