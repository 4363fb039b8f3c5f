# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: steady_state
short_description: Say whether the mesh is in steady state
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - Steady is a mesh whose clusters are ready, whose every lag is known and within a limit, and whose namespaces are where they belong.
options:
  _input:
    description: The clusters, as M(omnirelay.mesh.cluster_info) returns them.
    type: list
    elements: dict
    required: true
  limit:
    description: The longest lag in seconds.
    type: float
    required: true
  without:
    description: Clusters that do not count, because they are down on purpose. Then readiness of the others does not count either.
    type: list
    elements: str
    default: []
  owner:
    description: The cluster that must own O(namespaces). Without it nobody has to.
    type: str
    default: ""
  namespaces:
    description: What O(owner) must own. An empty list is anything.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what keeps the mesh from a drill
  ansible.builtin.debug:
    msg: "{{ (mesh.clusters | omnirelay.mesh.steady_state(limit=5)).problems }}"
"""

RETURN = r"""
_value:
  description: RV(ignore:steady), the worst RV(ignore:lag_seconds), null if one is unknown, and the RV(ignore:problems).
  type: dict
"""

from ansible_collections.omnirelay.mesh.plugins.plugin_utils._drill import steady


class FilterModule:
    def filters(self):
        return dict(steady_state=steady)
