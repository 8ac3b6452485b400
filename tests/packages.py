"""Skips tests whose packages are not installed, with a reason that names the package and its extra.

The model half's tests also run where the packages of the curation half are missing (docs/testing.md).
"""

from __future__ import annotations

import importlib.util

import pytest

from helix4d.core.extras import EXTRA_OF


def installed(module: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(module) is not None


def needs(*modules: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test unless all packages are installed."""
    missing = [module for module in modules if not installed(module)]
    return pytest.mark.skipif(bool(missing), reason=_reason(missing))


def skip_without(*modules: str) -> None:
    """Skip the calling test, or the module that is being imported, unless all packages are installed."""
    if missing := [module for module in modules if not installed(module)]:
        pytest.skip(_reason(missing), allow_module_level=True)


def _reason(missing: list[str]) -> str:
    extras = {module: f"extra {EXTRA_OF[module]!r}" if EXTRA_OF[module] else "a requirement" for module in missing}
    return "; ".join(f"{module} is not installed ({extra})" for module, extra in extras.items())
