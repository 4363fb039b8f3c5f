# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what a real run would, without changing anything.
  diff_mode:
    description: Returns what changed, or would change in check mode, when run in diff mode.
  idempotent:
    description: Run a second time with the same options, it changes nothing.
  action_group:
    description: Use C(group/omnirelay.mesh.mesh) in C(module_defaults) to set the connection options once.
    support: full
    membership:
      - omnirelay.mesh.mesh
  platform:
    description: Operating systems that the module can run on.
    platforms: posix
    support: full
  in_process:
    description:
      - With a local connection and neither C(become) nor C(async), the task runs inside the process of ansible-core.
        No Python interpreter is started, which makes it about ten times faster.
    support: full
"""
