"""Settings for fetching files behind URLs: cache, rate limit, retries, permitted hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from helix4d.core import ConfigError
from helix4d.core.options import Option
from helix4d.curation.remote.network import Network


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
    """Seconds without data, or below --min-bytes-per-s, before an attempt fails."""
    min_bytes_per_s: float = 1000.0
    """Minimum rate of a download, measured over --stall-s; a slower attempt fails."""
    download_timeout_s: float = 3600.0
    """Time limit of a download in seconds, including all attempts and the files that a .gltf refers to."""
    allow_host: Annotated[tuple[str, ...], Option(metavar="HOST", default="(repeatable)", append=True)] = ()
    """Host that lists of assets and redirects may lead to even if its address is not public: HOST or HOST:PORT.
    PROTOCOL://BUCKET and hf://datasets/OWNER/NAME allow reading a bucket or repository with your credentials.
    See docs/security.md."""

    def __post_init__(self) -> None:
        for name in ("cache_gb", "requests_per_s", "stall_s", "min_bytes_per_s", "download_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must be greater than 0")
        if self.download_attempts < 1:
            raise ConfigError(f"download_attempts {self.download_attempts}: must be at least 1")
        if self.backoff_s < 0:
            raise ConfigError(f"backoff_s {self.backoff_s}: must not be negative")
        Network(self.allow_host)  # refuses malformed entries

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {**asdict(self), "cache": str(self.cache)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DownloadConfig:
        """Invert `to_json`."""
        return cls(**{**values, "cache": Path(values["cache"]), "allow_host": tuple(values["allow_host"])})
