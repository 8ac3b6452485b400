"""Settings for fetching files behind URLs: cache, rate limit, retries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError


@dataclass(frozen=True)
class DownloadConfig:
    """How remote assets are fetched."""

    cache: Path = Path("~/.cache/helix4d")
    """Folder for downloaded assets. On a cluster, each machine has its own."""
    cache_gb: float = 50.0
    """Size limit of the cache in gigabytes (10^9 bytes). The least recently used assets are evicted first."""
    requests_per_s: float = 8.0
    """Requests per second and host, over all processes of this machine. "429 Too Many Requests" delays all of them."""
    download_attempts: int = 6
    """Consecutive attempts without progress before a download fails."""
    backoff_s: float = 1.0
    """Seconds to wait after the first failed attempt; doubled each time, up to a minute."""
    stall_s: float = 60.0
    """Seconds without data before an attempt fails."""

    def __post_init__(self) -> None:
        for name in ("cache_gb", "requests_per_s", "stall_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must be greater than 0")
        if self.download_attempts < 1:
            raise ConfigError(f"download_attempts {self.download_attempts}: must be at least 1")
        if self.backoff_s < 0:
            raise ConfigError(f"backoff_s {self.backoff_s}: must not be negative")

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {**asdict(self), "cache": str(self.cache)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DownloadConfig:
        """Invert `to_json`."""
        return cls(**{**values, "cache": Path(values["cache"])})
