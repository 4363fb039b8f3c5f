# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mesh
short_description: Clusters of the mesh as hosts
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - Reads the clusters from the control plane. Each is a host, in a group for its state, C(state_active), C(state_passive), C(state_draining) or
    C(state_maintenance), and in one for its region, C(region_us_east_1).
  - A host has the variables C(mesh_cluster), with the keys that RV(omnirelay.mesh.cluster_info#module:clusters) documents, and
    C(ansible_host), the host of its event service.
  - The file's name must end with C(mesh.yml) or C(mesh.yaml).
  - Nothing is cached, for a state of an hour ago would be no state.
  - To move activity, name no host of this inventory. The playbooks of this collection run on C(localhost) and refuse C(--limit).
extends_documentation_fragment:
  - ansible.builtin.constructed
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [omnirelay.mesh.mesh]
  endpoint:
    description:
      - Addresses of control APIs, C(https://HOST:PORT). They are tried in turn.
      - Plain C(http) is accepted for loopback addresses only.
    type: list
    elements: str
    required: true
    env:
      - name: OMNIRELAY_ENDPOINT
  ca_path:
    description: PEM file with the certificate authorities that the control API's certificate is checked against.
    type: path
    env:
      - name: OMNIRELAY_CA
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
    description: Bearer token that says who is calling.
    type: str
  token_file:
    description: File with the bearer token.
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
    description: Seconds after which reading is given up, over all attempts and endpoints.
    type: int
    default: 60
  retries:
    description: How often all endpoints are tried again after none answered.
    type: int
    default: 3
"""

EXAMPLES = r"""
# mesh.yml
plugin: omnirelay.mesh.mesh
endpoint: [https://control.us-east.example.net:8443, https://control.eu-west.example.net:8443]
ca_path: /etc/omnirelay/ca.pem
token_file: ~/.omnirelay/token

# Groups of your own beside those for state and region
groups:
  behind: not mesh_cluster.ready
keyed_groups:
  - key: mesh_cluster.namespaces | map(attribute='namespace')
    prefix: owns
"""

from urllib.parse import urlsplit

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import CONNECTION_SPEC, client_from

STATES = ("active", "passive", "draining", "maintenance")


class InventoryModule(BaseInventoryPlugin, Constructable):
    NAME = "omnirelay.mesh.mesh"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("mesh.yml", "mesh.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            client = client_from({name: self.get_option(name) for name in CONNECTION_SPEC})
            clusters = client.pages("clusters", "clusters")[0]
        except MeshApiError as error:
            raise AnsibleParserError("The mesh cannot be read: %s" % error) from error
        for state in STATES:
            self._group("state_" + state)  # also where it is empty, so that a play may name it
        for cluster in clusters:
            self._add(cluster)

    def _add(self, cluster):
        host = cluster["cluster_id"]
        self.inventory.add_host(host)
        variables = dict(mesh_cluster=cluster, ansible_host=urlsplit("//" + cluster["endpoints"]["grpc"]).hostname)
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        for name in ("state_" + cluster["state"], "region_" + cluster["region"]):
            self.inventory.add_child(self._group(name), host)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _group(self, name):
        return self.inventory.add_group(to_safe_group_name(name, force=True, silent=True))
