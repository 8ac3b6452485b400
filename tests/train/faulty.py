"""`python -m tests.train.faulty FAULTS --config FILE`: a training run whose step has faults, for tests with torchrun.

FAULTS is JSON: `{"after": N, "slow_s": S, "oom": [KEY, ...]}`. Every pass over a microbatch after the first N takes S
seconds, and every pass that contains one of the clips runs out of memory.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch import Tensor

from helix4d.train import step
from helix4d.train.command import main


def inject(faults: dict[str, Any]) -> Any:
    """Return `squared_errors` with these faults."""
    original, calls = step.squared_errors, 0

    def faulty(network: Any, batch: Any, cond: Tensor, first_frame: bool) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > faults.get("after", 0):
            time.sleep(faults.get("slow_s", 0))
        errors = original(network, batch, cond, first_frame)
        if set(batch.keys) & set(faults.get("oom", ())):
            raise torch.OutOfMemoryError("tried to allocate 99 GiB")
        return errors

    return faulty


if __name__ == "__main__":
    step.squared_errors = inject(json.loads(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
