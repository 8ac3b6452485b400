"""How files behind URLs are fetched: the cache, the pace, the patience."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError


@dataclass(frozen=True)
class DownloadConfig:
    """How assets are fetched that lie elsewhere."""

    cache: Path = Path("~/.cache/helix4d")
    """Folder for downloaded assets; on a cluster, each machine has its own."""
    cache_gb: float = 50.0
    """Gigabytes (10^9 bytes) that the cache may hold; what was used longest ago goes first."""
    requests_per_s: float = 8.0
    """Requests that this machine begins per second and host; "429 Too Many Requests" slows them all down."""
    download_attempts: int = 6
    """Attempts in a row that bring no byte before a download fails."""
    backoff_s: float = 1.0
    """Pause after the first failed attempt; it doubles up to a minute."""
    stall_s: float = 60.0
    """Seconds without a byte after which an attempt has failed."""

    def __post_init__(self) -> None:
        for name in ("cache_gb", "requests_per_s", "stall_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: more than 0 is needed")
        if self.download_attempts < 1 or self.backoff_s < 0:
            raise ConfigError(
                f"download_attempts {self.download_attempts}, backoff_s {self.backoff_s}: at least 1 and 0 are needed"
            )

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return {**asdict(self), "cache": str(self.cache)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DownloadConfig:
        """The inverse of `to_json`."""
        return cls(**{**values, "cache": Path(values["cache"])})
