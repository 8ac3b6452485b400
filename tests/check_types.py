"""Run mypy over every file of the package: `python -m tests.check_types`, part of `make lint`.

mypy is quiet about folders that it does not find, so the number of files that it checked is compared with those there.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tests.package_tree import PACKAGES, REPOSITORY, link_package


def main() -> int:
    """Return mypy's exit status, or 1 if it did not check every file."""
    expected = sum(len(list((REPOSITORY / name).rglob("*.py"))) for name in (*PACKAGES, "helix4d"))
    mypy = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml")]
    mypy += ["--cache-dir", str(REPOSITORY / ".mypy_cache")]
    tree = link_package(REPOSITORY / ".cache" / "package")
    done = subprocess.run(mypy, cwd=tree, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode:
        return done.returncode
    checked = re.search(r"(\d+) source files", done.stdout)
    if checked is None or int(checked[1]) != expected:
        print(f"mypy was to check {expected} files", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
