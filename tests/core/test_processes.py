"""Child processes import the same code as their parent, and those that read untrusted files hold no secrets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helix4d.core.processes import child_environment, child_environment_without_secrets

SECRETS = [
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "SOME_PASSWORD",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")


def test_only_a_child_that_needs_them_is_given_the_secrets() -> None:
    assert set(SECRETS) <= child_environment().keys()
    kept = child_environment_without_secrets(EXTRA="x")
    assert "hunter2" not in kept.values()
    assert (kept["CUDA_VISIBLE_DEVICES"], kept["OMP_NUM_THREADS"], kept["EXTRA"]) == ("1", "3", "x")


def test_a_child_without_secrets_still_imports_the_package() -> None:
    command = [sys.executable, "-c", "import helix4d.core, os; print(sorted(os.environ))"]
    environment = child_environment_without_secrets()
    found = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True).stdout
    assert not any(name in found for name in SECRETS)
