# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: reads the controller (AWX) in which a job runs.

Where it is and who reads come from the environment alone, where the controller's own credential puts them: an option would
be a variable, and variables are set by whoever starts a job.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.module_utils.urls import Request
from ansible_collections.omnirelay.mesh.plugins.module_utils._client import LOOPBACK
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError

PAUSE = 1.0
MOST_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
CODES = {401: "unauthenticated", 403: "permission_denied", 404: "not_found"}


class Controller:
    """Durations are seconds: O(timeout) bounds one attempt, O(deadline) everything that is ever read from it."""

    def __init__(self, environment, timeout, deadline, retries):
        host = environment.get("CONTROLLER_HOST", "").strip()
        self._token = environment.get("CONTROLLER_OAUTH_TOKEN", "")
        if not host or not self._token:
            raise _misconfigured("CONTROLLER_HOST and CONTROLLER_OAUTH_TOKEN are not both set")
        address = host if "://" in host else "https://" + host
        parts = urlsplit(address)
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
            raise _misconfigured("CONTROLLER_HOST is %r and has to be https://HOST" % host)
        try:
            validate_certs = boolean(environment.get("CONTROLLER_VERIFY_SSL") or True)
        except TypeError as error:
            raise _misconfigured("CONTROLLER_VERIFY_SSL is neither true nor false") from error
        self._address = address.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        self._ends_at = time.monotonic() + deadline
        self._request = Request(
            headers={"Authorization": "Bearer " + self._token, "Accept": "application/json"},
            http_agent="ansible-omnirelay.mesh",
            follow_redirects="none",
            use_netrc=False,
            decompress=False,
            validate_certs=validate_certs,
        )

    @property
    def secrets(self):
        return {self._token}

    def get(self, *path, **query):
        """A resource, as a dictionary. Raises MeshApiError."""
        url = "%s/api/v2/%s/" % (self._address, "/".join(quote(str(part), safe="") for part in path))
        if query:
            url += "?" + urlencode(query)
        attempts_left = self._retries
        while True:
            try:
                return self._attempt(url)
            except MeshApiError as error:
                if not (error.retryable and attempts_left and time.monotonic() + PAUSE < self._ends_at):
                    raise
            attempts_left -= 1
            time.sleep(PAUSE)

    def _attempt(self, url):
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise _silent(url, "there is no time left to ask")
        try:
            with self._request.open("GET", url, timeout=min(self._timeout, left)) as answer:
                found = json.loads(self._whole(url, answer))
        except HTTPError as error:
            raise MeshApiError(
                CODES.get(error.code, "unreachable"),
                "The controller answered HTTP %s for %s." % (error.code, url),
                hint="The job's credential for the controller needs a token of somebody who may read workflow jobs, their jobs and approvals.",
                http_status=error.code,
                retryable=error.code in (502, 503, 504),
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise _silent(url, "no answer in time" if isinstance(reason, socket.timeout) else reason) from error
        except ValueError as error:
            raise _stranger(url) from error
        if not isinstance(found, dict):
            raise _stranger(url)
        return found

    def _whole(self, url, answer):
        """The body, unless it is longer or slower than a resource ever is."""
        content = b""
        while chunk := answer.read1(CHUNK_BYTES):
            content += chunk
            if len(content) > MOST_BYTES:
                raise _stranger(url)
            if time.monotonic() >= self._ends_at:
                raise _silent(url, "it did not end in time")
        return content


def field(resource, *names):
    """A value inside a resource, None if the controller does not say."""
    for name in names:
        resource = resource.get(name) if isinstance(resource, dict) else None
    return resource


def _misconfigured(what):
    return MeshApiError(
        "config_invalid",
        "The controller cannot be asked: %s." % what,
        hint="Give the job template a credential of the controller's own type, with its address and an OAuth token.",
    )


def _silent(url, why):
    return MeshApiError(
        "unreachable",
        "The controller cannot be read at %s: %s." % (url, why),
        hint="Check CONTROLLER_HOST, that jobs can reach it, and that its certificate is one of an authority they know.",
        retryable=True,
    )


def _stranger(url):
    return MeshApiError(
        "unreachable",
        "What answered at %s is not a controller's API." % url,
        hint="Check CONTROLLER_HOST, and that no proxy answers for it.",
    )
