"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omnirelay.failover import emergency, planned

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("name", "machine"), [("planned", planned.MACHINE), ("emergency", emergency.MACHINE)])
def test_the_diagram_of_each_failover_is_its_table(name: str, machine: object) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    shown = re.search(rf"<!-- {name} failover: begin -->\n```mermaid\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == machine.mermaid()
