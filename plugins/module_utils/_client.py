# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: the control API over HTTPS, with nothing but what ansible-core brings.

Any cluster can serve any call, so several endpoints are one service: a call goes to the endpoint that answered
last, and to the next one when that does not answer or says that another try may succeed. A call is repeated only
in these two cases; every mutation of the control API is idempotent or names the ETag of what it changes, so a repeated
one does no harm.
"""

from __future__ import annotations

import collections
import http.client
import json
import random
import re
import socket
import ssl
import time
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit

from ansible.module_utils.urls import Request, make_context
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._file import not_saved

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
SHORTEST_CALL = 0.1
CHUNK_BYTES = 64 * 1024
SENDABLE = re.compile(r"[\x21-\x7e]+")
"""A token that a header can carry (RFC 9110, 5.5)."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Answer = collections.namedtuple("Answer", "status body request_id endpoint etag", defaults=("",))


class MeshClient:
    """Calls the control API. Durations are seconds: O(timeout) bounds one attempt, O(deadline) all attempts of a call."""

    def __init__(
        self,
        endpoints,
        ca_path=None,
        client_cert=None,
        client_key=None,
        token=None,
        validate_certs=True,
        timeout=10,
        deadline=60,
        retries=3,
    ):
        self._endpoints = collections.deque(_checked(endpoint) for endpoint in endpoints)
        self._timeout = timeout
        self._deadline = deadline
        self._retries = retries
        self.secrets = {token} if token else set()
        if token and not SENDABLE.fullmatch(token):
            # Refused here: what refuses it further down quotes it, cut and escaped so that no_log does not know it again.
            raise MeshApiError(
                "config_invalid",
                "The token holds a blank, a line break or another character that no header can carry.",
                hint="Give the token alone: no second line, no comment beside it.",
            )
        tls = dict(validate_certs=validate_certs, client_cert=client_cert, client_key=client_key)
        try:
            make_context(cafile=ca_path, **tls)
        except (OSError, ValueError) as error:
            raise MeshApiError(
                "config_invalid",
                "The certificates cannot be used: %s." % error,
                hint="Check ca_path, client_cert and client_key: readable PEM files, the key belonging to the certificate.",
            ) from error
        self._request = Request(
            headers={"Authorization": "Bearer " + token} if token else {},
            http_agent="ansible-omnirelay.mesh",
            follow_redirects="none",
            use_netrc=False,
            ca_path=ca_path,
            **tls,
        )

    @property
    def endpoint(self):
        """The endpoint that answered last, or that is tried next."""
        return self._endpoints[0]

    def hurry(self, seconds):
        """From now on no call takes longer than this, over all its attempts."""
        self._deadline = min(self._deadline, max(seconds, SHORTEST_CALL))

    def get(self, *path, **query):
        return self._call("GET", path, query)

    def post(self, *path, body=None, **query):
        return self._call("POST", path, query, body={} if body is None else body)

    def patch(self, *path, body, etag, **query):
        """Changes the resource that had this ETag; refused if it has changed since."""
        return self._call("PATCH", path, query, body=body, etag=etag)

    def delete(self, *path, etag, **query):
        return self._call("DELETE", path, query, etag=etag)

    def text(self, *path, media_type):
        return self._call("GET", path, {}, media_type=media_type)

    def download(self, sink, *path, media_type, body=None, **query):
        """What a POST answers with, written to the file C(sink) as it comes. The answer's body is empty."""
        return self._call("POST", path, query, body=body or {}, media_type=media_type, sink=sink)

    def pages(self, key, *path, **query):
        """All items of a paginated listing, and the last answer."""
        items = []
        while True:
            answer = self.get(*path, **query)
            items.extend(answer.body[key])
            query["page_token"] = answer.body.get("next_page_token")
            if not query["page_token"]:
                return items, answer

    def _call(self, method, path, query, body=None, media_type="application/json", sink=None, etag=""):
        wait = query.get("wait", 0)
        gives_up_at = time.monotonic() + self._deadline + wait
        target = _target(path, query)
        failures = {}
        for attempt in range(self._retries + 1):
            for dummy in range(len(self._endpoints)):
                left = gives_up_at - time.monotonic()
                if left <= 0:
                    raise _summary(failures)
                try:
                    return self._attempt(method, target, body, media_type, min(self._timeout + wait, left), sink, etag)
                except MeshApiError as error:
                    if not (error.retryable or error.code == "unreachable"):
                        raise
                    failures[self.endpoint] = error
                    self._endpoints.rotate(-1)
            if not any(error.retryable for error in failures.values()):
                break
            pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)
            if attempt == self._retries or time.monotonic() + pause >= gives_up_at:
                break
            time.sleep(pause)
        raise _summary(failures)

    def _attempt(self, method, target, body, media_type, timeout, sink, etag):
        headers = {"Accept": media_type + ", application/problem+json"}
        if etag:
            headers["If-Match"] = etag
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        try:
            with self._request.open(method, self.endpoint + target, data=data, headers=headers, timeout=timeout) as answer:
                status, received = answer.getcode(), answer.headers
                content = answer.read().decode("utf-8") if sink is None else _pour(answer, sink)
        except HTTPError as error:
            raise MeshApiError.from_answer(self.endpoint, error.code, error.headers, error.read()) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.endpoint, error, timeout) from error
        if received.get_content_type() == "application/json":
            try:
                content = json.loads(content)
            except ValueError as error:
                raise MeshApiError.from_answer(self.endpoint, status, received, "") from error
        elif media_type != received.get_content_type():
            raise MeshApiError.from_answer(self.endpoint, status, received, "")
        return Answer(status, content, received.get("X-Request-Id", ""), self.endpoint, received.get("ETag", ""))


def _pour(answer, sink):
    """Writes what comes to a file, over what an earlier attempt may have left there."""
    sink.seek(0)
    sink.truncate()
    for chunk in iter(lambda: answer.read(CHUNK_BYTES), b""):
        try:
            sink.write(chunk)
        except OSError as error:
            raise not_saved(error) from error
    return ""


def _checked(endpoint):
    """An endpoint fit to be called: credentials never leave the machine unencrypted."""
    endpoint = endpoint.strip().rstrip("/")
    parts = urlsplit(endpoint)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise MeshApiError(
            "config_invalid",
            "The endpoint %r is no address of a control API." % endpoint,
            hint="Give https://HOST:PORT; plain http is for loopback addresses only.",
        )
    return endpoint


def _target(path, query):
    target = "/control/" + "/".join(quote(part, safe="") for part in path)
    given = [(name, "true" if value is True else value) for name, value in sorted(query.items()) if _is_given(value)]
    return target + "?" + urlencode(given) if given else target


def _is_given(value):
    return value is not None and value is not False and value != ""


def _unreachable(endpoint, error, timeout):
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLError):
        return MeshApiError(
            "unreachable",
            "%s: no TLS connection: %s." % (endpoint, reason),
            hint="Check ca_path and client_cert, and that the endpoint's name is in its certificate.",
        )
    if isinstance(reason, socket.timeout):
        reason = "no answer within %.0f s" % timeout
    return MeshApiError(
        "unreachable",
        "%s: %s." % (endpoint, reason),
        hint="Check that the endpoint is right and its replicator runs, or name another in endpoint.",
        retryable=True,
    )


def _summary(failures):
    """One error for all endpoints: what a cluster said itself tells more than silence does."""
    if not failures:
        return MeshApiError("unreachable", "There was no time left to call any endpoint.", hint="Raise deadline.", retryable=True)
    spoken = [error for error in failures.values() if error.code != "unreachable"]
    if spoken or len(failures) == 1:
        return (spoken or list(failures.values()))[-1]
    last = list(failures.values())[-1]
    return MeshApiError(
        "unreachable",
        "No endpoint answered: " + " ".join(error.message for error in failures.values()),
        hint=last.hint,
        retryable=any(error.retryable for error in failures.values()),
        details={"endpoints": {endpoint: error.message for endpoint, error in failures.items()}},
    )
