"""A W&B server on the loopback address: as much of it as runs, their files, an artifact and a sweep's agent need."""

import collections
import contextlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
VIEWER = {"id": "v", "entity": "e", "username": "u", "email": "", "flags": "{}", "teams": {"edges": []}}


class Run:
    """What a server knows of one run: what it was begun with, its records, and its exit status once it has ended."""

    def __init__(self):
        self.settings, self.history, self.summary, self.exit = {}, [], {}, None

    def begin(self, variables: dict) -> None:
        """Keeps the settings that come first; later ones are the same, or what this server made of them."""
        for key, value in variables.items():
            if value is not None:
                self.settings.setdefault(key, value)

    def tail(self) -> dict:
        """What somebody who goes on with it is told."""
        last = [json.dumps(record) for record in self.history[-1:]]
        counts = {"historyLineCount": len(self.history), "eventsLineCount": 0, "logLineCount": 0}
        texts = {"historyTail": last, "eventsTail": [], "summaryMetrics": self.summary, "wandbConfig": {"t": 1}}
        config = {"config": self.settings.get("config") or "{}", "tags": [], "notes": ""}
        return counts | config | {name: json.dumps(value) for name, value in texts.items()}


class Server(ThreadingHTTPServer):
    """Keeps what it is told; once `deaf` is set, accepts requests and never answers them.

    An agent of its `sweep` which names no trial that runs is given the next of `trials`, (run id, parameters) each, and
    sent away where there is none; it is told to stop those in `stops`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.deaf = threading.Event()
        self.history, self.summaries, self.operations, self.uploads = [], [], [], {}
        self.runs: dict[str, Run] = collections.defaultdict(Run)
        self.sweep, self.trials, self.stops = "sweep", [], []

    def handle_error(self, request, client_address):
        """A client that hangs up is no error."""

    def requests(self, operation: str) -> list[dict]:
        """The variables of each request for `operation`."""
        return [variables for name, variables in self.operations if name == operation]

    def answer(self, operation: str, variables: dict) -> dict:
        """The data of a GraphQL reply."""
        names = variables.get("files") or [spec["name"] for spec in variables.get("artifactFiles") or ()]
        files = [self._file(name) for name in names]
        name = variables.get("name")
        known = self.runs[name].tail() if operation == "RunResumeStatus" and name in self.runs else None
        if operation == "UpsertBucket":
            self.runs[name].begin(variables)
        commands = self._commands(variables) if operation == "Heartbeat" else ""
        agent = f"agent{len(self.requests('CreateAgent'))}"
        bucket = {"id": "b", "name": name, "displayName": "n", "project": PROJECT}
        manifest = {"artifactManifest": {"id": "m", "file": self._file("manifest")}}
        artifact = {"id": "a", "state": "PENDING", "artifactSequence": {"id": "s", "latestArtifact": None}}
        return {
            "Viewer": {"viewer": VIEWER},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": None}},
            "RunResumeStatus": {"model": {**PROJECT, "bucket": known and {**bucket, **known}}},
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "CreateAgent": {"createAgent": {"agent": {"id": agent}} if self.sweep else None},
            "Heartbeat": {"agentHeartbeat": {"agent": {"id": variables.get("id")}, "commands": commands}},
            "UpsertSweep": {"upsertSweep": {"sweep": {"name": self.sweep, "project": PROJECT}}},
            "CreateRunFiles": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}},
            "ArtifactType": {"project": {"artifact": None}},
            "CreateArtifact": {"createArtifact": {"artifact": artifact}},
            "CreateArtifactManifest": {"createArtifactManifest": manifest},
            "UpdateArtifactManifest": {"updateArtifactManifest": manifest},
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
        }.get(operation, {})

    def _commands(self, variables: dict) -> str:
        running = [name for name, there in json.loads(variables.get("runState", "{}")).items() if there]
        if running:
            return json.dumps([{"type": "stop", "run_id": name} for name in running if name in self.stops])
        if not self.trials:
            return json.dumps([{"type": "exit"}])
        name, parameters = self.trials.pop(0)
        values = {parameter: {"value": value} for parameter, value in parameters.items()}
        return json.dumps([{"type": "run", "run_id": name, "args": values}])

    def stream(self, name: str, body: dict) -> None:
        """Takes what a run says of itself."""
        run = self.runs[name]
        for file, chunk in body.get("files", {}).items():
            lines = [json.loads(line) for line in chunk["content"]] if file.endswith((".jsonl", "summary.json")) else []
            if file == "wandb-history.jsonl":
                self.history += lines
                run.history += lines
            if file == "wandb-summary.json":
                self.summaries += lines
                run.summary |= lines[-1]
        if body.get("complete"):
            run.exit = body["exitcode"]

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
            self.server.stream(self.path.split("/")[-2], body)
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
