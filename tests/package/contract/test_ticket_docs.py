"""What docs/change-tickets.md tells people to write is what the configuration takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tests.package.unit.config.test_settings import PLAIN

from omnirelay.cli.main import cli
from omnirelay.config.settings import parse

TEXT = (Path(__file__).resolve().parents[3] / "docs/change-tickets.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line.split("#")[0].split() for line in TEXT.splitlines() if line.startswith("omnirelay ")]


@pytest.mark.parametrize("section", SECTIONS, ids=["servicenow", "jira", "webhook"])
def test_a_configuration(section: str) -> None:
    tickets = parse({**PLAIN, **yaml.safe_load(section)}).tickets
    assert tickets is not None
    assert tickets.system.url.startswith("https://")


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 3


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command(command: list[str]) -> None:
    done = CliRunner().invoke(cli, [*command[1:], "--help"])
    assert done.exit_code == 0, done.output
    for option in (word for word in command if word.startswith("--")):
        assert option in done.output
