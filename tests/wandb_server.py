"""A W&B server on the loopback address: as much of it as one run, its files and an artifact need."""

import contextlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
ARTIFACT = {"id": "a", "state": "PENDING", "artifactSequence": {"id": "s", "latestArtifact": None}}


class Server(ThreadingHTTPServer):
    """Keeps what it is told: `history` lines, `operations` by name, `uploads` by file name, `config`, `ids`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.deaf = threading.Event()  # set: connections are accepted and never answered
        self.history, self.summaries, self.operations, self.ids, self.uploads = [], [], [], [], {}
        self.run, self.complete, self.exit_code = {}, False, None

    def handle_error(self, request, client_address):
        """Clients that hang up are no error here."""

    def answer(self, operation: str, variables: dict) -> dict:
        """The `data` of a GraphQL reply."""
        files = [
            {"name": name, "url": f"{self.url}/upload/{name}", "uploadUrl": f"{self.url}/upload/{name}"}
            | {
                "displayName": name,
                "storagePath": name,
                "uploadHeaders": [],
                "artifact": {"id": "a"},
                "uploadMultipartUrls": None,
            }
            for name in variables.get("files") or [spec["name"] for spec in variables.get("artifactFiles", ())]
        ]
        replies = {
            "ArtifactType": {"project": {"artifact": None}},
            "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": None}},
            "Viewer": {
                "viewer": {
                    "id": "v",
                    "entity": "e",
                    "username": "u",
                    "email": "",
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            },
            "RunResumeStatus": {"model": {**PROJECT, "bucket": None}},
            "UpsertBucket": {
                "upsertBucket": {
                    "bucket": {
                        "id": "b",
                        "name": variables.get("name"),
                        "displayName": "n",
                        "project": PROJECT,
                        "historyLineCount": 0,
                    },
                    "inserted": True,
                }
            },
            "CreateRunFiles": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}},
            "CreateArtifact": {"createArtifact": {"artifact": ARTIFACT}},
            "CreateArtifactManifest": {
                "createArtifactManifest": {
                    "artifactManifest": {
                        "id": "m",
                        "file": {
                            "id": "f",
                            "name": "m",
                            "displayName": "m",
                            "uploadUrl": f"{self.url}/upload/manifest",
                            "uploadHeaders": [],
                        },
                    }
                }
            },
            "UpdateArtifactManifest": {
                "updateArtifactManifest": {
                    "artifactManifest": {
                        "id": "m",
                        "file": {
                            "id": "f",
                            "name": "m",
                            "displayName": "m",
                            "uploadUrl": f"{self.url}/upload/manifest",
                            "uploadHeaders": [],
                        },
                    }
                }
            },
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
        }
        return replies.get(operation, {})


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Says nothing."""

    def do_POST(self):
        """GraphQL and file_stream."""
        body = self.read()
        if "graphql" in self.path:
            operation = re.search(r"(?:query|mutation)\s+(\w+)", body["query"]).group(1)
            self.server.operations.append((operation, body.get("variables") or {}))
            import sys

            if self.server.answer(operation, {}) == {}:
                print("UNKNOWN", body["query"][:3000], body["variables"], file=sys.stderr)
            else:
                print(operation, body.get("variables"), file=sys.stderr)
            self.reply({"data": self.server.answer(operation, body.get("variables") or {})})
        else:
            import sys

            print(self.path, str(body)[:500], file=sys.stderr)
            for name, chunk in body.get("files", {}).items():
                lines = (
                    [json.loads(line) for line in chunk["content"]]
                    if name.endswith("jsonl") or "summary" in name
                    else []
                )
                if "history" in name:
                    self.server.history += lines
                if "summary" in name:
                    self.server.summaries += lines
            self.server.complete |= bool(body.get("complete"))
            self.reply({})

    def do_PUT(self):
        """Uploads."""
        self.server.uploads[self.path] = self.read(False)
        self.reply({})

    def do_GET(self):
        print("GET", self.path)
        self.reply({})

    def read(self, parse=True):
        """The request's body."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        while self.server.deaf.is_set():
            time.sleep(0.1)
        return json.loads(raw) if parse else raw

    def reply(self, value):
        """Answers with JSON."""
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def serve():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
