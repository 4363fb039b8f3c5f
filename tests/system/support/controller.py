"""A controller (AWX) for tests: its REST API as far as the collection awx.awx and a job use it, kept in memory; and
that collection itself."""

from __future__ import annotations

import fcntl
import itertools
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.system.support.playbooks import CHECKOUT

TOKEN = "a-token-of-the-controller"
SINGULAR = {"inventories": "inventory", "workflow_approval_templates": "workflow_approval_template"}
UNIFIED = ("job_templates", "projects", "workflow_job_templates", "workflow_approval_templates")


def awx_collection() -> Path:
    """A path for ANSIBLE_COLLECTIONS_PATH with awx.awx in it."""
    kept = CHECKOUT / ".cache/awx"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "whole").exists():
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "-d",
                str(kept),
            ]
            subprocess.run([*command, "-r", str(CHECKOUT / "requirements/awx.txt")], check=True)
            (wheel,) = kept.glob("ansible-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(kept, [name for name in archive.namelist() if "/awx/awx/" in name])
            wheel.unlink()
            (kept / "whole").touch()
    return kept


class Controller:
    """Resources by kind, as they were posted; `links` are associations and surveys."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[int, dict[str, Any]]] = {}
        self.links: dict[tuple[str, int, str], Any] = {}
        self.unauthorized = 0
        self._numbers = itertools.count(1)
        self.add("organizations", {"name": "Default"})
        self._lock = threading.Lock()

    def add(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        url = f"/api/v2/{kind}/{number}/"
        made = {
            **fields,
            "id": number,
            "type": SINGULAR.get(kind, kind.removesuffix("s")),
            "url": url,
            "related": {"survey_spec": f"{url}survey_spec/"},
            "summary_fields": fields.get("summary_fields", {}),
            **({"status": "successful", "scm_revision": "0" * 40} if kind == "projects" else {}),
        }
        self.kinds.setdefault(kind, {})[number] = made
        return made

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        return {each.get("name") or each["identifier"]: each for each in self.kinds.get(kind, {}).values()}

    def linked(self, kind: str, number: int, way: str) -> list[dict[str, Any]]:
        everything = {key: each for kinds in self.kinds.values() for key, each in kinds.items()}
        return [everything[each] for each in self.links.get((kind, number, way), [])]

    # --- requests --------------------------------------------------------------------------------------------------

    def handle(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self._lock:
            parts = path.removeprefix("/api/v2/").strip("/").split("/")
            if len(parts) == 1:
                return (
                    (201, self.add(parts[0], body))
                    if method == "POST"
                    else (200, self._page(self._find(parts[0], query)))
                )
            kind, number = parts[0], int(parts[1])
            found = self.kinds.get(kind, {}).get(number)
            if found is None:
                return 404, {"detail": "Not found."}
            if len(parts) == 2:
                return self._one(method, kind, number, found, body)
            return self._sub(method, kind, number, parts[2], found, body)

    def _one(self, method: str, kind: str, number: int, found: dict[str, Any], body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            del self.kinds[kind][number]
            self.links = {key: linked for key, linked in self.links.items() if key[:2] != (kind, number)}
            return 204, None
        if method == "PATCH":
            found.update(body)
        return 200, found

    def _sub(self, method: str, kind: str, number: int, way: str, found: dict[str, Any], body: Any) -> tuple[int, Any]:
        if way == "survey_spec":
            if method == "POST":
                self.links[kind, number, way] = body
            return 200, self.links.get((kind, number, way), {})
        if way == "create_approval_template":
            made = self.add("workflow_approval_templates", {name: body.get(name) for name in ("name", "timeout")})
            found["unified_job_template"] = made["id"]
            found["related"]["unified_job_template"] = made["url"]
            return 201, made
        if method == "POST":
            linked = self.links.setdefault((kind, number, way), [])
            linked.remove(body["id"]) if body.get("disassociate") else linked.append(body["id"])
            return 204, None
        return 200, self._page(self.linked(kind, number, way) if way != "workflow_nodes" else self._nodes(number))

    def _nodes(self, workflow_job: int) -> list[dict[str, Any]]:
        return [
            each for each in self.kinds.get("workflow_job_nodes", {}).values() if each["workflow_job"] == workflow_job
        ]

    def _find(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        kinds = UNIFIED if kind == "unified_job_templates" else (kind,)
        wanted = {name: value for name, value in query.items() if name not in ("page_size", "order_by")}
        return [
            each
            for of in kinds
            for each in self.kinds.get(of, {}).values()
            if all(str(each.get(name)) == value for name, value in wanted.items())
        ]

    @staticmethod
    def _page(results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"count": len(results), "next": None, "previous": None, "results": results}


@contextmanager
def serving(controller: Controller) -> Iterator[str]:
    """Its address. A request without the token is refused, and counted."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                controller.unauthorized += 1
                status, answer = 401, {"detail": "Authentication credentials were not provided."}
            else:
                status, answer = controller.handle(self.command, parts.path, dict(parse_qsl(parts.query)), body)
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", "24.6.1")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - names that the base class looks for

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="controller", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
