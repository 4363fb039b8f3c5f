# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_summary
short_description: Say the plan of a failover in lines for people
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - The same lines that M(omnirelay.mesh.approval) shows at a terminal.
options:
  _input:
    description: A failover, as M(omnirelay.mesh.failover) and M(omnirelay.mesh.failover_info) return it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is about to happen
  ansible.builtin.debug:
    msg: "{{ plan.failover | omnirelay.mesh.plan_summary }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from ansible_collections.omnirelay.mesh.plugins.plugin_utils._summary import summary


class FilterModule:
    def filters(self):
        return dict(plan_summary=summary)
