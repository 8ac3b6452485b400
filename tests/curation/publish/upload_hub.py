"""A model hub that accepts uploads: it creates repositories and commits files."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.curation.servers import Handler, HubServer


@dataclass
class UploadHub(HubServer):
    """`HubServer` with the protocol of `create_repo` and `upload_folder`.

    Attributes:
        private: `datasets/OWNER/NAME` -> whether it was created private.
        committed: paths of each commit.
        refuses: number of commits to refuse with 403.
    """

    private: dict[str, bool] = field(default_factory=dict)
    committed: list[list[str]] = field(default_factory=list)
    refuses: int = 0

    def answer(self, handler: Handler) -> None:
        words = urlsplit(handler.path).path.strip("/").split("/")
        body = handler.request_seen.body
        if words == ["api", "repos", "create"]:
            wanted = json.loads(body)
            name = f"datasets/{wanted['organization']}/{wanted['name']}"
            status = 409 if name in self.repositories else 200
            self.private.setdefault(name, wanted.get("private", wanted.get("visibility") == "private"))
            self.repositories.setdefault(name, {})
            return handler.give(status, json.dumps({"url": f"{self.url}/{name}"}).encode())
        if words == ["api", "validate-yaml"]:
            return handler.give(200, b'{"errors": [], "warnings": []}')
        name = "/".join(words[1:4])
        if words[0] == "api" and name in self.repositories:
            files = self.repositories[name]
            rest = words[4:]
            if not rest or rest == ["revision", "main"] or rest == ["revision", "c" * 40]:
                found = {"sha": "c" * 40, "id": "/".join(words[2:4]), "private": self.private[name], "tags": []}
                return handler.give(200, json.dumps({**found, "siblings": [{"rfilename": f} for f in files]}).encode())
            if rest[0] == "preupload":
                return handler.give(200, json.dumps({"files": _modes(json.loads(body)["files"], files)}).encode())
            if rest[0] == "commit":
                return self._commit(handler, name, body)
        name = "/".join(words[:3])
        if name in self.repositories and words[3:4] == ["resolve"]:
            path = "/".join(words[5:])
            if path not in self.repositories[name]:
                return handler.give(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
            return handler.give_file(self.repositories[name][path], headers={"X-Repo-Commit": "c" * 40})
        return super().answer(handler)

    def _commit(self, handler: Handler, name: str, body: bytes) -> None:
        if self.refuses:
            self.refuses -= 1
            return handler.give(403, b'{"error": "no write access"}')
        paths = []
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = line["value"]
                assert content["encoding"] == "base64"
                self.repositories[name][content["path"]] = base64.b64decode(content["content"])
                paths.append(content["path"])
        self.committed.append(paths)
        address = f"{self.url}/{name}/commit/{'c' * 40}"
        return handler.give(200, json.dumps({"commitUrl": address, "commitOid": "c" * 40}).encode())

    def _tree(self, handler: Handler, files: dict, folder: str, query: dict, here: str) -> None:
        base = f"{folder}/" if folder else ""
        entries: dict[str, dict] = {}
        for path in sorted(files):
            head, _, tail = path.removeprefix(base).partition("/")
            if path.startswith(base) and tail:
                entries[base + head] = {"type": "directory", "path": base + head, "size": 0, "oid": "d" * 40}
            if path.startswith(base) and (not tail or query.get("recursive", [""])[0].lower() == "true"):
                entries[path] = self._entry(path, files[path])
        if not entries:
            return handler.give(404, b'{"error": "Entry not found"}', {"X-Error-Code": "EntryNotFound"})
        return handler.give(200, json.dumps(list(entries.values())).encode())


def _modes(wanted: list[dict], files: dict[str, bytes]) -> list[dict]:
    return [
        {
            "path": file["path"],
            "uploadMode": "regular",
            "shouldIgnore": False,
            "oid": _git_hash(files[file["path"]]) if file["path"] in files else None,
        }
        for file in wanted
    ]


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
