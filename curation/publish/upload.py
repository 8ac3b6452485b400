"""Uploads an output to a dataset repository on the model hub, with huggingface_hub's resumable upload.

Uploads only what a user of the data needs: shards with their sidecars, the index and the descriptions. Plan, ledger,
summary and report are not uploaded, because they contain paths of the local machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from helix4d.core import ConfigError, FormatError, Helix4DError, first_line
from helix4d.core.locks import locked
from helix4d.core.redaction import redact
from helix4d.curation.index.table import write_index
from helix4d.curation.plan.plan_file import read_plan
from helix4d.curation.publish.describe import DESCRIPTION_FILES, write_description
from helix4d.curation.remote.hub import endpoint, parse_hub_url
from helix4d.curation.shards.layout import INDEX_FOLDER, SPLITS
from helix4d.curation.shards.sidecar import read_sidecar

_PUBLISHED = (
    *(f"{split}/*{suffix}" for split in SPLITS for suffix in (".tar", ".json")),
    f"{INDEX_FOLDER}/*.parquet",
    *DESCRIPTION_FILES,
)
"""Patterns of the files that are uploaded; nothing else is."""


class PublishError(Helix4DError):
    """The hub refused the upload, or did not respond."""


def publish(output: Path, url: str, public: bool = False) -> str:
    """Upload an output, or the files that changed since the last upload. Rerun it to resume a killed upload.

    Args:
        output: folder written by `helix4d curate`, whose run has finished.
        url: `hf://datasets/OWNER/NAME`; the repository is created if it does not exist.
        public: whether a new repository is public. An existing one keeps its visibility.

    Returns:
        Address of the repository.

    Raises:
        ConfigError: if the output is not finished, or the URL names no dataset.
        FormatError: if a shard is damaged.
        PublishError: if the hub refuses the upload.
    """
    repository, path = parse_hub_url(url)
    if repository.type != "dataset" or path or repository.revision != "main":
        raise ConfigError(f"{url}: expected hf://datasets/OWNER/NAME, without a path or revision")
    if not output.is_dir():
        raise ConfigError(f"{output}: no such folder (an output at a URL must be copied to a folder first)")
    with locked(output):
        _prepare(output)
        return _upload(output, repository.name, private=not public)


def _prepare(output: Path) -> None:
    """Check that only shards in the plan would be uploaded, and rewrite index and descriptions."""
    stored = read_plan(output)
    if stored is None:
        raise ConfigError(f"{output}: contains no plan.json: pass an output of `helix4d curate`")
    shards = [shard.name for shard in stored.plan().shards]
    for name in shards:
        sidecar = read_sidecar(output / f"{name}.tar")
        tar = output / f"{name}.tar"
        if sidecar is None or not tar.is_file():
            raise ConfigError(f"{tar}: not committed: let `helix4d curate` finish first")
        if tar.stat().st_size != sidecar["bytes"]:
            raise FormatError(
                f"{tar}: has {tar.stat().st_size:,} bytes, but its sidecar states {sidecar['bytes']:,}: "
                "run `helix4d verify`"
            )
        _check_names(sidecar, tar)
    planned = {f"{name}{suffix}" for name in shards for suffix in (".tar", ".json")}
    found = {path.relative_to(output).as_posix() for split in SPLITS for path in (output / split).rglob("*")}
    if strays := sorted(found - planned):
        raise ConfigError(f"{output}: {strays[0]} is not in the plan: run `helix4d verify`")
    write_index(output, shards, output)
    write_description(output)


def _check_names(sidecar: Mapping[str, object], tar: Path) -> None:
    """Refuse asset names that are absolute paths of this machine, as a manifest may contain."""
    entries = [*sidecar["samples"], *sidecar["gaps"]]  # type: ignore[misc]
    for name in sorted({str(entry.get("asset", "")) for entry in entries}):
        if name.startswith("/"):
            raise ConfigError(
                f"{tar}: the name of the asset {name!r} is a path of this machine, which would be published: curate "
                "from a manifest with other values of uid"
            )


def _upload(output: Path, name: str, private: bool) -> str:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    api = HfApi(endpoint=endpoint())
    try:
        created = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=output,
            allow_patterns=list(_PUBLISHED),
            commit_message="Publish with helix4d",
        )
    except (httpx2.HTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise PublishError(
            redact(
                f"hf://datasets/{name}: cannot publish ({first_line(error)}): fix this and rerun; files that were "
                "uploaded are not sent again"
            )
        ) from error
    return str(created)
