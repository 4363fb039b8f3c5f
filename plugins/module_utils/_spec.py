# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: the options that every module shares, and the client that they describe."""

from __future__ import annotations

import os

from ansible.module_utils.basic import env_fallback
from ansible_collections.omnirelay.mesh.plugins.module_utils._client import MeshClient
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError

CREDENTIALS = dict(
    token="OMNIRELAY_TOKEN",
    token_file="OMNIRELAY_TOKEN_FILE",
    client_cert="OMNIRELAY_CERT",
    client_key="OMNIRELAY_KEY",
)
"""Option and the variable that stands in for it."""

CONNECTION_SPEC = dict(
    endpoint=dict(type="list", elements="str", required=True, fallback=(env_fallback, ["OMNIRELAY_ENDPOINT"])),
    ca_path=dict(type="path", fallback=(env_fallback, ["OMNIRELAY_CA"])),
    client_cert=dict(type="path"),
    client_key=dict(type="path", no_log=False),
    token=dict(type="str", no_log=True),
    token_file=dict(type="path", no_log=False),
    validate_certs=dict(type="bool", default=True),
    timeout=dict(type="int", default=10),
    deadline=dict(type="int", default=60),
    retries=dict(type="int", default=3),
)


def mesh_spec(options=None, **constraints):
    """What AnsibleModule and an action plugin need to know about a module's arguments."""
    constraints.setdefault("mutually_exclusive", []).append(("token", "token_file"))
    constraints.setdefault("required_by", {})["client_key"] = ["client_cert"]
    return dict(argument_spec=dict(CONNECTION_SPEC, **(options or {})), **constraints)


def client_from(params):
    """The client that a task's options describe.

    An identity is taken as a whole: the environment's stands in only when the task names none, so that a token in
    the task never travels beside another person's certificate from the environment.
    """
    given = {name: params[name] for name in CREDENTIALS}
    if not any(given.values()):
        given = {name: os.environ.get(variable) for name, variable in CREDENTIALS.items()}
    token = (given["token"] or _read(given["token_file"]) or "").strip()
    return MeshClient(
        params["endpoint"],
        token=token,
        client_cert=given["client_cert"],
        client_key=given["client_key"],
        **{name: params[name] for name in ("ca_path", "validate_certs", "timeout", "deadline", "retries")},
    )


def _read(token_file):
    if not token_file:
        return None
    try:
        with open(token_file, encoding="utf-8") as source:
            return source.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, OSError) else "it is no text"
        raise MeshApiError(
            "config_invalid", "The token file cannot be read: %s." % reason, hint="Check token_file and its permissions."
        ) from None
