"""Secrets of URLs are hidden in whatever is shown."""

from __future__ import annotations

import logging

import pytest

from helix4d.core import setup_logging
from helix4d.core.redaction import redact, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a.glb", "https://example.org/a.glb"),
        ("https://ann:hunter2@example.org/a.glb", "https://***@example.org/a.glb"),
        ("https://s3.example.org/a.glb?X-Amz-Signature=hunter2&x=1", "https://s3.example.org/a.glb?***"),
        ("https://hunter2@h/a?sig=hunter2#part", "https://***@h/a?***#part"),
        ("sftp://ann:hunter2@h/folder", "sftp://***@h/folder"),
        ("hf://datasets/OWNER/NAME@main/a.glb", "hf://datasets/OWNER/NAME@main/a.glb"),
        ("s3://bucket/a@b.glb", "s3://bucket/a@b.glb"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert redact(f"cannot read {url}: HTTP 403 (again {url}), '{url}'") == (
        f"cannot read {shown}: HTTP 403 (again {shown}), '{shown}'"
    )


def test_text_without_urls_is_unchanged() -> None:
    assert redact("50% of 3? ann@example.org: what? no!") == "50% of 3? ann@example.org: what? no!"


def test_logs_hide_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        setup_logging()
        logging.getLogger("helix4d.test").warning("%s: slow", "https://ann:hunter2@h/a?token=hunter2")
        found = capsys.readouterr().err
    finally:
        logging.getLogger().handlers[:] = before
    assert "https://***@h/a?***" in found
    assert "hunter2" not in found
