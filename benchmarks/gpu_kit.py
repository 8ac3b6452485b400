"""All GPU checks and benchmarks, in at most 470 seconds: `python benchmarks/gpu_kit.py --out FOLDER`.

    python benchmarks/gpu_kit.py --out results                        # on a machine with an NVIDIA GPU
    python benchmarks/gpu_kit.py --out results --device cpu --small   # small sizes, to check the kit itself

Writes `results.json`, `table.md` and `log.txt`. Exit status: 1 if a result is wrong, else 2 if a check crashed,
else 0. What each check means: benchmarks/gpu_kit.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run the kit."""
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.kit.checks import CHECKS
    from benchmarks.kit.runner import Settings, run_kit

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="small sizes; targets are not judged")
    parser.add_argument("--seconds", type=float, default=470, help="budget of the whole run")
    parser.add_argument("--only", nargs="+", choices=[check.name for check in CHECKS], help="run only these checks")
    args = parser.parse_args()
    if args.device == "cpu" and not args.small:
        parser.error("full sizes need a GPU: add --small")
    chosen = [check for check in CHECKS if args.only is None or check.name in args.only]
    return run_kit(chosen, Settings(args.out, args.device, args.small, args.seconds))


if __name__ == "__main__":
    sys.exit(main())
