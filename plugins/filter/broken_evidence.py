# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: broken_evidence
short_description: Find the first place where a hash-chained record was tampered with
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - Checks what the callback P(omnirelay.mesh.failover_evidence#callback) has written, with nothing but the file.
options:
  _input:
    description: The content of the file.
    type: str
    required: true
  head:
    description: The digest that the last line must have, where it is known. Without it a cut-off end is not found.
    type: str
"""

EXAMPLES = r"""
- name: Refuse evidence that was changed
  ansible.builtin.assert:
    that: broken is none
    fail_msg: "Line {{ broken.number }}: {{ broken.reason }}"
  vars:
    broken: "{{ lookup('ansible.builtin.file', '/var/lib/evidence/runs.jsonl') | omnirelay.mesh.broken_evidence }}"
"""

RETURN = r"""
_value:
  description: Null if nothing is wrong, otherwise C(number), the line, and C(reason).
  type: dict
"""

from ansible_collections.omnirelay.mesh.plugins.plugin_utils._evidence import broken


def broken_evidence(content, head=None):
    return broken(content.splitlines(), head)


class FilterModule:
    def filters(self):
        return dict(broken_evidence=broken_evidence)
