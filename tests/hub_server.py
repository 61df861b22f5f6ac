"""A local server with those parts of the hub's protocol that this package uses."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_test"
MAIN = "main"


@dataclass
class Hub:
    """Repositories: files by branch, and the paths and contents of requests."""

    address: str = ""
    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    visibility: dict[str, str | None] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    cards: list[dict] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def find(self, repo, revision):
        """Return the files of a branch or commit, or ``None``."""
        for name, files in self.files.get(repo, {}).items():
            if revision in (name, commit_of(files)):
                return files
        return None


def commit_of(files):
    """Return the name of a commit: a checksum of all files."""
    content = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(files.items())]
    return hashlib.sha1(json.dumps(content).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers like the hub."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        path = self._words()
        self.hub.requests.append("/".join(path))
        match path:
            case ["api", "models", owner, name]:
                self._describe(f"{owner}/{name}", MAIN)
            case ["api", "models", owner, name, "revision", revision]:
                self._describe(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "tree", revision, *_]:
                files = self.hub.find(f"{owner}/{name}", revision)
                if files is None:
                    self._refuse(404, "RepoNotFound")
                else:
                    self._answer([describe(one, data) for one, data in files.items()])
            case [owner, name, "resolve", revision, *rest]:
                self._send_file(self.hub.find(f"{owner}/{name}", revision), "/".join(rest))
            case _:
                self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815  (the name that http.server looks for)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._words()
        if path == ["api", "validate-yaml"]:
            self._validate(json.loads(body)["content"])
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "")
        else:
            self._write(path, body)

    def _write(self, path, body):
        match path:
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "models", owner, name, "branch", branch]:
                branches = self.hub.files[f"{owner}/{name}"]
                if branch in branches:
                    self._refuse(409, "")
                else:
                    branches[branch] = dict(branches[MAIN])
                    self._answer({})
            case ["api", "models", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                self._answer({"files": [{"path": one["path"], **modes} for one in files]})
            case ["api", "models", owner, name, "commit", branch]:
                self._commit(f"{owner}/{name}", branch, body)
            case _:
                self._refuse(404, "EntryNotFound")

    def _create(self, wanted):
        repo = f"{wanted['organization']}/{wanted['name']}"
        exists = repo in self.hub.files
        if not exists:
            self.hub.files[repo] = {MAIN: {".gitattributes": b""}}
            private = {True: "private", False: "public", None: None}[wanted.get("private")]
            self.hub.visibility[repo] = wanted.get("visibility", private)
        self._answer({"url": f"{self.hub.address}/{repo}"}, 409 if exists else 200)

    def _commit(self, repo, branch, body):
        files = dict(self.hub.files[repo][branch])
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    self.hub.messages.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "deletedFile":
                    del files[value["path"]]
        self.hub.files[repo][branch] = files
        commit = commit_of(files)
        url = f"{self.hub.address}/{repo}/commit/{commit}"
        self._answer({"commitUrl": url, "commitOid": commit, "success": True})

    def _validate(self, card):
        metadata = yaml.safe_load(card.split("---")[1])
        self.hub.cards.append(metadata)
        bases = metadata.get("base_model", [])
        bases = [bases] if isinstance(bases, str) else bases
        wrong = [one for one in bases if one.count("/") != 1]
        errors = [{"message": f"base_model {one} is no id of a model"} for one in wrong]
        self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _describe(self, repo, revision):
        files = self.hub.find(repo, revision)
        if repo not in self.hub.files or self._hidden(repo):
            self._refuse(404, "RepoNotFound")
        elif files is None:
            self._refuse(404, "RevisionNotFound")
        else:
            siblings = [{"rfilename": name} for name in files]
            self._answer({"id": repo, "sha": commit_of(files), "siblings": siblings})

    def _hidden(self, repo):
        is_private = self.hub.visibility.get(repo) == "private"
        return is_private and self.headers.get("Authorization") != f"Bearer {TOKEN}"

    def _send_file(self, files, name):
        if files is None or name not in files:
            self._refuse(404, "EntryNotFound" if files is not None else "RepoNotFound")
            return
        data = files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit_of(files))
        self._send(data)

    def _answer(self, content, code=200):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self._send(json.dumps(content).encode())

    def _refuse(self, code, kind):
        self.send_response(code)
        self.send_header("X-Error-Code", kind)
        self._send(b"")

    def _send(self, data):
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _words(self):
        return [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]


def describe(name, data):
    """Return a file as a listing has it."""
    checksum = hashlib.sha1(data).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": checksum}


@contextmanager
def running_hub():
    """Run a hub on a free local port."""
    hub = Hub()
    handler = type("HandlerOfThisHub", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
