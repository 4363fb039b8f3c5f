# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  endpoint:
    description:
      - Addresses of control APIs, C(https://HOST:PORT). Any cluster can serve any call.
      - They are tried in turn, so naming two clusters or more keeps the task working while one of them is down.
      - If not set, the environment variable E(OMNIRELAY_ENDPOINT) is used, with commas between addresses.
      - Plain C(http) is accepted for loopback addresses only.
    type: list
    elements: str
    required: true
  ca_path:
    description:
      - PEM file with the certificate authorities that the control API's certificate is checked against.
      - If not set, the environment variable E(OMNIRELAY_CA) is used, and without it the system's authorities.
    type: path
  client_cert:
    description:
      - PEM file with the client certificate that says who is calling.
      - If none of O(client_cert), O(token) and O(token_file) is set, the identity is read from the environment
        variables E(OMNIRELAY_CERT), E(OMNIRELAY_KEY), E(OMNIRELAY_TOKEN) and E(OMNIRELAY_TOKEN_FILE).
    type: path
  client_key:
    description: PEM file with the private key of O(client_cert), unless that file holds it too.
    type: path
  token:
    description:
      - Bearer token that says who is calling. See O(client_cert) for what happens without it.
      - The module tells it to nobody, but C(ansible-runner), and with it AWX, writes down the options of a task as they
        were given. Use O(token_file) there, or C(no_log) on the task.
    type: str
  token_file:
    description: File with the bearer token, so that the token itself appears in no playbook, environment or job artifact.
    type: path
  validate_certs:
    description: Whether the control API's certificate must be valid. Never switch this off outside a laboratory.
    type: bool
    default: true
  timeout:
    description: Seconds that one attempt at one endpoint may take.
    type: int
    default: 10
  deadline:
    description: Seconds after which a call is given up, over all its attempts and endpoints.
    type: int
    default: 60
  retries:
    description: How often all endpoints are tried again after none answered, or one answered that another try may succeed.
    type: int
    default: 3
"""
