"""Names of files on the model hub, and the addresses behind them.

Files are named `hf://datasets/OWNER/NAME@COMMIT/PATH`, as in fsspec. The host is resolved when a file is fetched, from
HF_ENDPOINT as in huggingface_hub, so a plan made with one mirror can continue with another.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from helix4d.core import ConfigError, first_line

_TYPES = ("dataset", "model", "space")
_KINDS = tuple(f"{kind}s" for kind in _TYPES)
_PART = re.compile(r"(?!\.\.?$)[\w.-]+")


@dataclass(frozen=True)
class HubRepository:
    """A repository at a revision.

    Attributes:
        type: dataset, model or space.
        name: OWNER/NAME.
        revision: a branch, tag or commit.
    """

    type: str
    name: str
    revision: str = "main"

    @property
    def label(self) -> str:
        """`datasets/OWNER/NAME`, as plans record it and `--allow-host hf://` names it."""
        return f"{self.type}s/{self.name}"

    def url(self, path: str) -> str:
        """`hf://datasets/OWNER/NAME@REVISION/PATH`."""
        name = self.name if self.type == "model" else self.label
        return f"hf://{name}@{quote(self.revision, safe='')}/{quote(path)}"


def parse_hub_url(url: str) -> tuple[HubRepository, str]:
    """Split `hf://datasets/OWNER/NAME@REVISION/PATH` into the repository and the path in it.

    Raises:
        ConfigError: if the URL names no repository.
    """
    from huggingface_hub import parse_hf_uri

    try:
        uri = parse_hf_uri(url)
    except ValueError as error:
        raise ConfigError(f"{url}: expected hf://datasets/OWNER/NAME@REVISION/PATH ({first_line(error)})") from error
    if uri.type not in _TYPES:
        raise ConfigError(f"{url}: a {uri.type} is not supported, only {', '.join(f'{kind}s' for kind in _TYPES)}")
    return HubRepository(uri.type, uri.id, uri.revision or "main"), unquote(uri.path_in_repo)


def endpoint() -> str:
    """Address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def web_address(url: str) -> str:
    """`https://HUB/datasets/OWNER/NAME/resolve/REVISION/PATH` for a `hf://` URL; other URLs are returned unchanged.

    Raises:
        ConfigError: if a `hf://` URL names no repository.
    """
    if not url.startswith("hf://"):
        return url
    from huggingface_hub import hf_hub_url

    repository, path = parse_hub_url(url)
    return hf_hub_url(
        repository.name, path, repo_type=repository.type, revision=repository.revision, endpoint=endpoint()
    )


def label_of(place: str) -> str:
    """Return the label of a repository, `datasets/OWNER/NAME`, for a model also of `OWNER/NAME`; "" for other text."""
    kind, *name = place.split("/") if place.split("/")[0] in _KINDS else ["models", *place.split("/")]
    return "/".join([kind, *name]) if len(name) == 2 and all(map(_PART.fullmatch, name)) else ""


def label_at(address: str) -> str:
    """Return the label of the repository that an address on the hub belongs to, a file's or the API's; "" if unclear.

    A path with `..`, however it is written, belongs to none: servers resolve it to another repository.
    """
    hub, _, path = address.partition(f"{endpoint()}/")
    words = unquote(re.split(r"[?#]", path)[0]).split("/")
    if hub or {"", ".", ".."} & set(words) or "\\" in path:
        return ""
    words = words[words[0] == "api" :]
    return label_of("/".join(words[: 3 if words[0] in _KINDS else 2]))


def token_headers() -> dict[str, str]:
    """Return the user's token as a header, as huggingface_hub finds it; empty without one."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}
