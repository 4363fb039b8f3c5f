# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: drill_result
short_description: Hold what a drill measured against what was asked of it
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - A figure that is not known misses its objective.
options:
  _input:
    description: Evidence of the drill's failovers, as M(omnirelay.mesh.failover_report) returns it, in their order.
    type: list
    elements: dict
    required: true
  slo:
    description: The limits C(outage_seconds), C(loss_records) and C(lag_seconds).
    type: dict
    required: true
  samples:
    description: Results of P(omnirelay.mesh.steady_state#filter), each with its C(moment).
    type: list
    elements: dict
    required: true
  problems:
    description: What failed.
    type: list
    elements: str
    default: []
  fault:
    description: The fault that was injected.
    type: str
    default: ""
  fault_at:
    description: When, RFC 3339 in UTC. An emergency's outage is counted from there.
    type: str
    default: ""
  past:
    description: Evidence of earlier drills.
    type: list
    elements: dict
    default: []
  saved:
    description: Earlier results of this filter, which win over O(past).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Judge
  ansible.builtin.set_fact:
    verdict: "{{ [evidence.report] | omnirelay.mesh.drill_result(slo=objectives, samples=[]) }}"
"""

RETURN = r"""
_value:
  description:
    - The drill's report - RV(ignore:passed), RV(ignore:missed), RV(ignore:legs), RV(ignore:objectives), RV(ignore:samples) and the
      RV(ignore:trend), oldest first, with this drill as the last.
  type: dict
"""

from ansible_collections.omnirelay.mesh.plugins.plugin_utils._drill import result


class FilterModule:
    def filters(self):
        return dict(drill_result=result)
