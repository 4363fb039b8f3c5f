# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: the one exception that a module ends with.

The control API answers every refusal with a problem document (RFC 9457) that carries a stable code and a hint.
What never reached it (no endpoint answers, a wait ran out) has the same shape and uses the same codes, so a
playbook matches on RV(error.code) alone.
"""

from __future__ import annotations

import json


class MeshApiError(Exception):
    """A call that did not do what was asked: what and why, what to do next, and the parts that programs match on."""

    def __init__(self, code, message, hint="", http_status=None, retryable=False, details=None, request_id=""):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.http_status = http_status
        self.retryable = retryable
        self.details = details or {}
        self.request_id = request_id

    def __str__(self):
        return " ".join(part for part in (self.message, self.hint) if part)

    def as_dict(self):
        return dict(
            code=self.code,
            message=self.message,
            hint=self.hint,
            http_status=self.http_status,
            retryable=self.retryable,
            details=self.details,
            request_id=self.request_id,
        )

    @classmethod
    def from_answer(cls, endpoint, status, headers, body):
        """The error of an HTTP answer, also of one that something in between the mesh and us has written."""
        try:
            problem = json.loads(body)
            code = problem["code"]
        except (ValueError, TypeError, KeyError):
            return cls(
                "unreachable",
                "%s answered HTTP %s, and not as the control API does." % (endpoint, status),
                hint="Check that the endpoint is a replicator's control address and that no proxy answers for it.",
                http_status=status,
                retryable=status in (502, 503, 504),
            )
        return cls(
            code,
            problem.get("detail") or problem.get("title") or code,
            hint=problem.get("hint", ""),
            http_status=status,
            retryable=bool(problem.get("retryable")),
            details=problem.get("details"),
            request_id=problem.get("request_id") or headers.get("X-Request-Id", ""),
        )
