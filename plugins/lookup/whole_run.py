# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a playbook refuse a run that would leave parts of it out and yet end green."""

from __future__ import annotations

DOCUMENTATION = r"""
name: whole_run
short_description: Name the host of a play, unless only a part of the playbook would run
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - A play that C(--limit) leaves without hosts is skipped, and the run ends with exit code 0 though it did nothing. The same
    holds for C(--skip-tags always) and for C(--start-at-task) with a name that does not exist.
  - Used as C(hosts) of a play this lookup fails such a run before its first task.
options:
  _terms:
    description: The one host that the play is for.
    required: true
  other_hosts:
    description: The playbook has plays for other hosts too, so that no C(--limit) leaves it whole.
    type: bool
    default: false
notes:
  - A C(--limit) that is exactly the one host leaves nothing out, so it is not refused. Every other one is, because what its
    pattern comes to depends on the inventory.
  - C(--tags) leaves nothing out of a play that has the tag V(always), so it is not refused.
  - An inventory in which C(--limit) matches nothing is refused by ansible-playbook itself.
"""

EXAMPLES = r"""
- name: Do it all or fail
  hosts: "{{ lookup('omnirelay.mesh.whole_run', 'localhost') }}"
  gather_facts: false
  tags: [always]
  tasks: []
"""

RETURN = r"""
_raw:
  description: The host.
  type: list
  elements: str
"""

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    def run(self, terms, variables=None, other_hosts=False, **kwargs):
        limit = context.CLIARGS.get("subset")
        if limit and (other_hosts or [limit] != terms):
            self._refuse("--limit " + limit)
        if context.CLIARGS.get("skip_tags"):
            self._refuse("--skip-tags")
        if context.CLIARGS.get("start_at_task"):
            self._refuse("--start-at-task")
        return terms

    @staticmethod
    def _refuse(option):
        raise AnsibleError(
            "This playbook runs as a whole, so it does not run with %s. To go on with a failover that was interrupted, "
            "name it with -e mesh_failover_id=ID." % option
        )
