# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.omnirelay.mesh.plugins.modules.failover_ticket import SPEC, run
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._in_process import InProcessAction


class ActionModule(InProcessAction):
    SPEC = SPEC
    perform = staticmethod(run)
