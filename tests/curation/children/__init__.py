"""Modules that a sandbox runs in place of the real worker."""
