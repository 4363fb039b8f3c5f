"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from omnirelay.failover import planned

ROOT = Path(__file__).resolve().parents[3]


def test_the_diagram_of_the_planned_failover_is_its_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- planned failover: begin -->\n```mermaid\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == planned.MACHINE.mermaid()
