# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible import context
from ansible.errors import AnsibleError
from ansible.utils.context_objects import CLIArgs
from ansible_collections.omnirelay.mesh.plugins.lookup.whole_run import LookupModule


@pytest.fixture
def started_with(monkeypatch):
    def start(other_hosts=False, **options):
        monkeypatch.setattr(context, "CLIARGS", CLIArgs(options))
        return LookupModule().run(["localhost"], other_hosts=other_hosts)

    return start


@pytest.mark.parametrize(
    "options", [{}, dict(subset=None, skip_tags=[], start_at_task=None), dict(subset="localhost"), dict(tags=["x"]), dict(other_hosts=True)]
)
def test_whole_run_is_let_through(started_with, options):
    assert started_with(**options) == ["localhost"]


@pytest.mark.parametrize(
    "options",
    [
        dict(subset="nowhere"),
        dict(subset="eu:us"),
        dict(subset="eu,localhost"),
        dict(subset="localhost:!localhost"),
        dict(subset="localhost:&nowhere"),
        dict(subset="localhost", other_hosts=True),
        dict(skip_tags=["always"]),
        dict(start_at_task="Promote"),
    ],
)
def test_part_of_a_run_is_refused(started_with, options):
    with pytest.raises(AnsibleError, match="runs as a whole"):
        started_with(**options)
