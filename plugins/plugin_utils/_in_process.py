# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: runs a module's code in the controller's own process.

Starting a Python process for a module costs about half a second, and between drain and promote that is half a second
without writes. The result is the module's: same code, same argument spec, same check mode.

Each task runs in a fork of its own. Which endpoint answered is kept in a file for as long as the run takes, so that a
cluster that is silent costs one task of a run its timeout, and not every one.
"""

from __future__ import annotations

import contextlib
import os

from ansible import constants
from ansible.plugins.action.normal import ActionModule as ModuleAction
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import perform


class InProcessAction(ModuleAction):
    """Base of the action plugins that stand before a module of the same name."""

    SPEC = None
    """The module's argument spec."""
    always_here = False
    """Whether the task is the controller's own, wherever its connection leads."""

    def perform(self, client, params, check_mode):
        """The module's C(run)."""
        raise NotImplementedError

    def run(self, tmp=None, task_vars=None):
        self._task_vars = task_vars or {}
        if not (self.always_here or self._would_run_here()):
            return super().run(tmp, task_vars)
        with self._environment():
            dummy, params = self.validate_argument_spec(**self.SPEC)
            params["endpoint"] = _preferred(params["endpoint"])
            return perform(self.perform, params, self._task.check_mode, self._task.diff, _remember)

    def _would_run_here(self):
        """Whether a module process would run on this machine, as this user, and be waited for."""
        return self._connection.transport == "local" and not self._connection.become and not self._task.async_val

    @contextlib.contextmanager
    def _environment(self):
        """The task's C(environment) as a module process would see it."""
        wanted = {}
        self._compute_environment_string(wanted)
        before = dict(os.environ)
        os.environ.update({name: str(value) for name, value in wanted.items()})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _memory():
    return os.path.join(constants.DEFAULT_LOCAL_TMP, "omnirelay-endpoint")


def _preferred(endpoints):
    """The endpoints, first the one that answered the task before."""
    try:
        with open(_memory(), encoding="utf-8") as memory:
            last = memory.read()
    except OSError:
        return endpoints
    return sorted(endpoints, key=lambda endpoint: endpoint.strip().rstrip("/") != last)


def _remember(endpoint):
    with contextlib.suppress(OSError), open(_memory(), "w", encoding="utf-8") as memory:
        memory.write(endpoint)
