"""Commits, trees and published hashes of hub repositories, through huggingface_hub.

huggingface_hub sets no timeouts and no rate limit, and follows a listing's links to any host, with the user's token.
Its requests therefore go through `Web`, and links are followed on the configured endpoint only. Importing this module
is slow: import it where a repository is listed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import httpx2
from huggingface_hub import HfApi, RepoFile, RepoFolder, set_client_factory
from huggingface_hub.utils import _http as hub_http

from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import HubRepository, endpoint
from helix4d.curation.remote.network import UnreachableError
from helix4d.curation.remote.web import Web

_PAGE_BYTES = 64 << 20
_PATHS_AT_ONCE = 500
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ONE_CLIENT = threading.RLock()


class Hub:
    """Queries to the hub.

    Args:
        web: HTTP session for the requests.
    """

    def __init__(self, web: Web) -> None:
        self._web = web

    def pin(self, repository: HubRepository) -> HubRepository:
        """Return the repository at the commit that its revision currently refers to.

        Raises:
            UnreachableError: if the hub does not respond, or has no such repository or revision.
        """
        with self._api(repository) as api:
            info = api.repo_info(repository.name, repo_type=repository.type, revision=repository.revision, expand="sha")
        if not info.sha:
            raise UnreachableError(f"{repository.name}: the hub returned no commit for {repository.revision}")
        return replace(repository, revision=info.sha)

    def tree(self, repository: HubRepository, folder: str = "") -> Iterator[tuple[str, RemoteFile]]:
        """Paths of all files below a folder of a pinned repository, and what the hub publishes about each.

        Raises:
            UnreachableError: if the hub does not respond, or there is no such folder.
        """
        with self._api(repository) as api:
            entries = api.list_repo_tree(
                repository.name,
                folder.strip("/") or None,
                recursive=True,
                repo_type=repository.type,
                revision=repository.revision,
            )
            yield from _files(repository, entries)

    def files(self, repository: HubRepository, paths: Sequence[str]) -> dict[str, RemoteFile]:
        """Return what the hub publishes about files of a pinned repository; paths that are not files are omitted.

        Raises:
            UnreachableError: if the hub does not respond.
        """
        files: dict[str, RemoteFile] = {}
        with self._api(repository) as api:
            for start in range(0, len(paths), _PATHS_AT_ONCE):
                entries = api.get_paths_info(
                    repository.name,
                    list(paths[start : start + _PATHS_AT_ONCE]),
                    repo_type=repository.type,
                    revision=repository.revision,
                )
                files.update(_files(repository, entries))
        return files

    @contextmanager
    def _api(self, repository: HubRepository) -> Iterator[HfApi]:
        """huggingface_hub with its HTTP client, one per process, replaced by ours; the block's end restores it."""
        with _ONE_CLIENT:
            before = hub_http._GLOBAL_CLIENT_FACTORY
            set_client_factory(lambda: httpx2.Client(transport=_PacedTransport(self._web)))
            try:
                yield HfApi(endpoint=endpoint(), token=False)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                message = f"{repository.label}: unexpected response from {endpoint()} ({type(error).__name__})"
                raise UnreachableError(message) from error
            finally:
                set_client_factory(before)


class _PacedTransport(httpx2.BaseTransport):
    """Sends requests through a `Web`, with the token for repositories that the operator named only."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        if url.endswith("/api/agent-harnesses"):  # asked for once per process, only for huggingface_hub's User-Agent
            return httpx2.Response(404)
        body, headers = request.read(), self._web.network.hub_headers(url)
        if body:
            headers["content-type"] = request.headers["content-type"]
        data, answer = self._web.read_page(url, _PAGE_BYTES, headers, body)
        if not answer.ok:
            raise UnreachableError(f"{url}: HTTP {answer.status_code}", answer.status_code)
        following = answer.links.get("next", {}).get("url")
        links = {"Link": f'<{_at_endpoint(urljoin(url, following))}>; rel="next"'} if following else {}
        return httpx2.Response(answer.status_code, headers=links, content=data)


def _files(repository: HubRepository, entries: Iterable[RepoFile | RepoFolder]) -> Iterator[tuple[str, RemoteFile]]:
    for entry in entries:
        if isinstance(entry, RepoFile):
            digest = entry.lfs.sha256 if entry.lfs else ""
            size = entry.lfs.size if entry.lfs else entry.size
            published = digest if _SHA256.fullmatch(digest) else ""
            yield entry.path, RemoteFile(repository.url(entry.path), size, published, repository.revision)


def _at_endpoint(url: str) -> str:
    """Return the same page on the configured endpoint: mirrors may repeat the links of the hub itself."""
    parts = urlsplit(url)
    _, api, path = parts.path.partition("/api/")
    if not api:
        raise ValueError("the next page is outside of the API")
    return f"{endpoint()}/api/{path}?{parts.query}"
