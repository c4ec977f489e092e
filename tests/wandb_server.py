"""A W&B server on the loopback address: as much of it as one run, its files and an artifact need."""

import contextlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
VIEWER = {"id": "v", "entity": "e", "username": "u", "email": "", "flags": "{}", "teams": {"edges": []}}


class Server(ThreadingHTTPServer):
    """Keeps what it is told; once `deaf` is set, accepts requests and never answers them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.deaf = threading.Event()
        self.history, self.summaries, self.operations, self.uploads = [], [], [], {}

    def handle_error(self, request, client_address):
        """A client that hangs up is no error."""

    def asked(self, operation: str) -> list[dict]:
        """The variables of each request for `operation`."""
        return [variables for name, variables in self.operations if name == operation]

    def answer(self, operation: str, variables: dict) -> dict:
        """The data of a GraphQL reply."""
        names = variables.get("files") or [spec["name"] for spec in variables.get("artifactFiles") or ()]
        files = [self._file(name) for name in names]
        bucket = {"id": "b", "name": variables.get("name"), "displayName": "n", "project": PROJECT}
        manifest = {"artifactManifest": {"id": "m", "file": self._file("manifest")}}
        artifact = {"id": "a", "state": "PENDING", "artifactSequence": {"id": "s", "latestArtifact": None}}
        return {
            "Viewer": {"viewer": VIEWER},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": None}},
            "RunResumeStatus": {"model": {**PROJECT, "bucket": None}},
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "CreateRunFiles": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}},
            "ArtifactType": {"project": {"artifact": None}},
            "CreateArtifact": {"createArtifact": {"artifact": artifact}},
            "CreateArtifactManifest": {"createArtifactManifest": manifest},
            "UpdateArtifactManifest": {"updateArtifactManifest": manifest},
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
        }.get(operation, {})

    def _file(self, name: str) -> dict:
        file = {"id": name, "name": name, "displayName": name, "storagePath": name, "artifact": {"id": "a"}}
        url = f"{self.url}/upload/{name}"
        return file | {"url": url, "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Says nothing."""

    def do_POST(self):
        """GraphQL, or lines of a run's files."""
        body = json.loads(self.read())
        if self.path != "/graphql":
            for name, chunk in body.get("files", {}).items():
                kept = {"wandb-history.jsonl": self.server.history, "wandb-summary.json": self.server.summaries}
                kept.get(name, []).extend(json.loads(line) for line in chunk["content"] if name in kept)
            return self.reply({})
        operation = (re.findall(r"(?:query|mutation)\s+(\w+)", body["query"]) or [""])[0]
        variables = body.get("variables") or {}
        self.server.operations.append((operation, variables))
        self.reply({"data": self.server.answer(operation, variables)})

    def do_PUT(self):
        """A file."""
        self.server.uploads[self.path.removeprefix("/upload/")] = self.read()
        self.reply({})

    def read(self) -> bytes:
        """The request's body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        while self.server.deaf.is_set():
            time.sleep(0.1)
        return body

    def reply(self, value: dict) -> None:
        """Answers with JSON."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serve():
    """A server in a thread of its own."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
