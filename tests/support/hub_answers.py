"""The test Hub's answers: what a Hub says to each request, before any socket is involved.

Follows the public behaviour of huggingface.co as its client `huggingface_hub` 2.4.0 reads it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from tests.support.hub_card import card_errors
from tests.support.hub_protocol import Answer, Host, Refusal, Request, json_answer, route
from tests.support.hub_repository import (
    GIT_ATTRIBUTES,
    Blob,
    Commit,
    History,
    HubRepository,
    Kind,
    about_blob,
    is_lfs,
    is_repository_path,
    read_blob,
    read_files,
    tree_entry,
)

_DATE = "2024-08-01T00:00:00.000Z"


class Hub:
    """Repositories and the answers about them; safe to ask from many threads.

    Args:
        objects: a folder of its own, for what is uploaded.
        token: if given, needed for writing and for private repositories; a wrong one is always refused.
        user: whose token that is.
        lfs_bytes: files above this size are LFS objects whatever their name.
    """

    def __init__(self, objects: Path, *, token: str | None, user: str, lfs_bytes: int) -> None:
        self.objects, self.token, self.user, self.lfs_bytes = objects, token, user, lfs_bytes
        self.urls: dict[Host, str] = {}
        self.histories: dict[tuple[Kind, str], History] = {}
        self._lock = threading.RLock()
        self._awaited: set[str] = set()
        api, plain = r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)", r"/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+)"
        revision, path = r"(?P<revision>[^/]+)", r"(?P<path>.+)"
        self._routes = (
            route("GET", r"/api/whoami-v2", self._whoami, writes=True),
            route("POST", r"/api/repos/create", self._create, writes=True),
            route("POST", r"/api/validate-yaml", _validate_card),
            route("GET", rf"{api}(/revision/{revision})?", self._info),
            route("GET", rf"{api}/tree/{revision}(/{path})?", self._tree),
            route("POST", rf"{api}/paths-info/{revision}", self._paths_info),
            route("GET", rf"{api}/refs", self._refs),
            route("GET", rf"{api}/commits/{revision}", self._commits),
            route("POST", rf"{api}/preupload/{revision}", self._preupload, writes=True),
            route("POST", rf"{api}/commit/{revision}", self._commit, writes=True),
            route("GET HEAD", rf"{plain}/resolve/{revision}/{path}", self._resolve),
            route("POST", rf"{plain}\.git/info/lfs/objects/batch", self._lfs_batch, writes=True),
            route("GET HEAD", rf"/cdn/(?P<oid>[0-9a-f]{{64}})/{path}", self._cdn, host="cdn"),
            route("PUT", r"/upload/(?P<oid>[0-9a-f]{64})", self._upload, host="cdn"),
        )

    def add(self, repository: HubRepository) -> Commit:
        """Make `repository` the newest commit of its id, in a new repository where there is none."""
        files = read_files(repository.folder, lfs_bytes=self.lfs_bytes)
        with self._lock:
            fresh = History(repository.kind, repository.id, repository.private, [])
            history = self.histories.setdefault((repository.kind, repository.id), fresh)
            return history.add(files, f"served from {repository.folder.name}", id_=repository.commit)

    def answer(self, request: Request) -> Answer:
        """Answer a request; what the Hub turns down becomes an answer too."""
        for known in self._routes:
            match = known.pattern.fullmatch(request.path)
            if match and known.host == request.host and request.method in known.methods:
                try:
                    self._admit(request, match, writes=known.writes)
                    return known.answer(request, match)
                except Refusal as refusal:
                    return refusal.answer()
        return Refusal(404, f"the test Hub has no route for {request.method} {request.path}").answer()

    def _admit(self, request: Request, match: re.Match[str], *, writes: bool) -> None:
        header = request.headers.get("authorization")
        if self.token is None or request.host == "cdn":  # the addresses at the CDN are themselves secret
            return
        if header is not None and header != f"Bearer {self.token}":
            raise Refusal(401, "Invalid credentials in Authorization header")
        history = self._look_up(match) if "id" in match.groupdict() else None
        if header is None and (writes or (history and history.private)):
            # The client takes this code for "missing or not yours", which is what the Hub means by it.
            raise Refusal(401, "Invalid username or password.", code="RepoNotFound" if history else "")

    def _look_up(self, match: re.Match[str]) -> History | None:
        kind: Kind = "dataset" if (match["kind"] or "").startswith("datasets") else "model"
        return self.histories.get((kind, unquote(match["id"])))

    def _history(self, match: re.Match[str]) -> History:
        history = self._look_up(match)
        if history is None:
            raise Refusal(404, "Repository not found", code="RepoNotFound")
        return history

    def _find(self, match: re.Match[str]) -> tuple[History, Commit]:
        history, revision = self._history(match), unquote(match["revision"] or "main")
        commit = history.find(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return history, commit

    # Accounts

    def _whoami(self, _request: Request, _match: re.Match[str]) -> Answer:
        access = {"displayName": "test", "role": "write"}
        return json_answer({"type": "user", "name": self.user, "orgs": [], "auth": {"accessToken": access}})

    def _create(self, request: Request, _match: re.Match[str]) -> Answer:
        asked = json.loads(request.read())
        kind: Kind = "dataset" if asked.get("type") == "dataset" else "model"
        id_ = f"{asked.get('organization') or self.user}/{asked['name']}"
        url = {"url": f"{self.urls['hub']}/{'datasets/' if kind == 'dataset' else ''}{id_}", "name": id_}
        with self._lock:
            if (kind, id_) in self.histories:
                error = f"You already created this {kind} repo"
                return json_answer({**url, "error": error}, status=409, headers={"X-Error-Message": error})
            history = History(kind, id_, asked.get("visibility") == "private" or bool(asked.get("private")), [])
            history.add({".gitattributes": self._store(".gitattributes", GIT_ATTRIBUTES.encode())}, "initial commit")
            self.histories[kind, id_] = history
        return json_answer(url)

    # Reading

    def _info(self, request: Request, match: re.Match[str]) -> Answer:
        history, commit = self._find(match)
        detailed = "blobs" in request.query
        siblings = [{"rfilename": path} | (about_blob(blob) if detailed else {}) for path, blob in commit.files.items()]
        about = {"id": history.id, "modelId": history.id, "author": history.id.split("/")[0], "sha": commit.id}
        flags = {"private": history.private, "gated": False, "disabled": False}
        counts = {"downloads": 0, "likes": 0, "tags": [], "createdAt": _DATE, "lastModified": _DATE}
        return json_answer({**about, **flags, **counts, "siblings": siblings})

    def _tree(self, request: Request, match: re.Match[str]) -> Answer:
        _, commit = self._find(match)
        prefix = f"{unquote(match['path'])}/" if match["path"] else ""
        below = [path for path in commit.files if path.startswith(prefix)]
        if prefix and not below:
            raise Refusal(404, f"{prefix[:-1]} does not exist on the repo", code="EntryNotFound")
        depth = None if request.query.get("recursive", [""])[0].lower() in {"true", "1"} else prefix.count("/") + 1
        folders = {str(parent) for path in below for parent in PurePosixPath(path).parents}
        shown = [path for path in sorted({*below, *folders}) if path.startswith(prefix) and path != "."]
        return json_answer(
            [tree_entry(path, commit.files.get(path)) for path in shown if depth is None or path.count("/") < depth]
        )

    def _paths_info(self, request: Request, match: re.Match[str]) -> Answer:
        _, commit = self._find(match)
        asked = parse_qs(request.read().decode()).get("paths", [])
        folders = {str(parent) for path in commit.files for parent in PurePosixPath(path).parents}
        known = [path for path in asked if path in commit.files or path in folders]
        return json_answer([tree_entry(path, commit.files.get(path)) for path in known])

    def _refs(self, _request: Request, match: re.Match[str]) -> Answer:
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": self._history(match).commits[-1].id}
        return json_answer({"branches": [main], "converts": [], "tags": [], "pullRequests": []})

    def _commits(self, _request: Request, match: re.Match[str]) -> Answer:
        history, last = self._find(match)
        listed = history.commits[history.commits.index(last) :: -1]
        who = [{"user": self.user}]
        return json_answer(
            [
                {"id": commit.id, "title": commit.message, "message": commit.description, "date": _DATE, "authors": who}
                for commit in listed
            ]
        )

    def _resolve(self, _request: Request, match: re.Match[str]) -> Answer:
        _, commit = self._find(match)
        path, headers = unquote(match["path"]), {"X-Repo-Commit": commit.id}
        blob = commit.files.get(path)
        if blob is None:
            raise Refusal(404, "Entry not found", code="EntryNotFound", headers=headers)
        headers |= {"ETag": f'"{blob.oid}"'}
        if not blob.lfs:
            return Answer(headers=headers, file=blob.source)
        linked = {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
        location = f"{self.urls['cdn']}/cdn/{blob.sha256}/{quote(path)}"
        return Answer(302, {**headers, **linked, "Location": location})

    def _cdn(self, _request: Request, match: re.Match[str]) -> Answer:
        blob = self._known(match["oid"], self.histories.values())
        if blob is None:
            raise Refusal(404, "no such object")
        return Answer(headers={"ETag": f'"{blob.sha256}"'}, file=blob.source)

    # Writing

    def _preupload(self, request: Request, match: re.Match[str]) -> Answer:
        _, commit = self._find(match)
        files = []
        for file in json.loads(request.read())["files"]:
            path, old = file["path"], commit.files.get(file["path"])
            mode = "lfs" if is_lfs(path, file["size"], lfs_bytes=self.lfs_bytes) else "regular"
            answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            files.append({**answer, "oid": old.oid} if old else answer)
        return json_answer({"files": files})

    def _lfs_batch(self, request: Request, match: re.Match[str]) -> Answer:
        history, objects = self._history(match), []
        for wanted in json.loads(request.read())["objects"]:
            known = {"oid": wanted["oid"], "size": wanted["size"]}
            if not self._known(wanted["oid"], [history]):
                self._awaited.add(wanted["oid"])
                known["actions"] = {"upload": {"href": f"{self.urls['cdn']}/upload/{wanted['oid']}", "header": {}}}
            objects.append(known)
        return json_answer({"transfer": "basic", "objects": objects})

    def _upload(self, request: Request, match: re.Match[str]) -> Answer:
        if match["oid"] not in self._awaited:
            raise Refusal(403, "no upload of this object was announced")
        got = hashlib.sha256()
        partial = self.objects / f"{match['oid']}.{threading.get_ident()}"
        with partial.open("wb") as stream:
            for chunk in request.chunks:
                got.update(chunk)
                stream.write(chunk)
        if got.hexdigest() != match["oid"]:
            raise Refusal(400, f"sha256 of the body is {got.hexdigest()}, expected {match['oid']}")
        partial.rename(self.objects / match["oid"])
        return Answer()

    def _commit(self, request: Request, match: re.Match[str]) -> Answer:
        if "create_pr" in request.query:
            raise Refusal(400, "the test Hub takes no pull requests")
        lines = [json.loads(line) for line in request.read().splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        with self._lock:
            history, parent = self._find(match)
            if parent is not history.commits[-1] or header.get("parentCommit", parent.id) != parent.id:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = dict(parent.files)
            for line in lines:
                self._apply(line["key"], line["value"], files, history)
            # Like git with --allow-empty: that nothing changed is for the client to notice.
            commit = history.add(files, header["summary"], description=header.get("description", ""))
        url = f"{self.urls['hub']}/{history.id}/commit/{commit.id}"
        return json_answer({"success": True, "commitOid": commit.id, "commitUrl": url, "hookOutput": ""})

    def _apply(self, key: str, value: Mapping[str, Any], files: dict[str, Blob], history: History) -> None:
        path = str(value.get("path", ""))
        if key == "header":
            return
        if not is_repository_path(path.rstrip("/") if key == "deletedFolder" else path):
            raise Refusal(400, f"invalid path {path!r}")
        if key == "file":
            try:
                files[path] = self._store(path, base64.b64decode(value["content"], validate=True))
            except binascii.Error as error:
                raise Refusal(400, f"{path}: {error}") from error
        elif key == "lfsFile":
            known, uploaded = self._known(value["oid"], [history]), self.objects / value["oid"]
            if known is None and not (value["oid"] in self._awaited and uploaded.is_file()):
                raise Refusal(400, f"LFS object {value['oid']} of {path} was never uploaded")
            files[path] = known or replace(read_blob(uploaded, path), lfs=True)
        elif key in {"deletedFile", "deletedFolder"}:
            gone = [old for old in files if old == path or old.startswith(f"{path.rstrip('/')}/")]
            if not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", code="EntryNotFound")
            for old in gone:
                del files[old]
        else:
            raise Refusal(400, f"unknown operation {key!r}")

    def _store(self, path: str, content: bytes) -> Blob:
        stored = self.objects / hashlib.sha256(content).hexdigest()
        stored.write_bytes(content)
        return read_blob(stored, path, lfs_bytes=self.lfs_bytes)

    def _known(self, sha256: str, histories: Iterable[History]) -> Blob | None:
        commits = (commit for history in list(histories) for commit in list(history.commits))
        blobs = (blob for commit in commits for blob in commit.files.values())
        return next((blob for blob in blobs if blob.lfs and blob.sha256 == sha256), None)


def _validate_card(request: Request, _match: re.Match[str]) -> Answer:
    errors = card_errors(json.loads(request.read())["content"])
    listed = [{"message": error} for error in errors]
    return json_answer({"errors": listed, "warnings": []}, status=400 if errors else 200)
