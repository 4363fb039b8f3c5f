"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omnirelay.failover import emergency, planned

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("machine", [planned.MACHINE, emergency.MACHINE], ids=lambda machine: machine.name)
def test_the_diagram_of_each_failover_is_its_table(machine) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    begin, end = (f"<!-- {machine.name} failover: {mark} -->" for mark in ("begin", "end"))
    shown = re.search(rf"{begin}\n```mermaid\n(.*?)```\n{end}", text, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == machine.mermaid()
