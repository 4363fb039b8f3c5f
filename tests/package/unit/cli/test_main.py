import stat
import subprocess
import sys

import pytest

from omnirelay.cli.main import cli
from omnirelay.cli.settings import resolve
from omnirelay.errors import ConfigInvalid

HEAVY = ("grpc", "requests", "rich", "cryptography", "yaml", "google", "fastapi")


def commands(group, context, path=()):
    yield path, group
    if hasattr(group, "list_commands"):
        for name in group.list_commands(context):
            yield from commands(group.get_command(context, name), context, (*path, name))


def test_every_command_has_help(run):
    import click

    found = [path for path, _ in commands(cli, click.Context(cli)) if path != ("demo",)]
    assert ("mesh", "clusters", "replication", "status") in found
    for path in found:
        result = run(*path, "--help")
        assert result.exit_code == 0
        assert "Usage: omnirelay" in result.stdout


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from omnirelay.cli.main import cli
cli(["--help"], standalone_mode=False)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_no_endpoint_is_a_usage_error(run, monkeypatch):
    monkeypatch.delenv("OMNIRELAY_ENDPOINT")
    result = run("mesh", "clusters", "list")
    assert result.exit_code == 2
    assert "OMNIRELAY_ENDPOINT" in result.stderr


def test_endpoints_are_tried_in_turn(api, run):
    dead = ("mesh", "clusters", "list", "--endpoint", "http://127.0.0.1:1")
    assert run(*dead, "--endpoint", api.endpoint).exit_code == 0
    result = run(*dead)
    assert result.exit_code == 7
    assert "127.0.0.1:1" in result.stderr


def test_options_go_before_the_environment_and_that_before_the_profile(tmp_path):
    profile = tmp_path / "profile.yaml"
    profile.write_text("endpoint: https://p\nca: ca.crt\noutput: yaml\n")
    environ = {"OMNIRELAY_PROFILE": str(profile)}
    settings = resolve({}, environ)
    assert (settings.endpoints, settings.ca, settings.output) == (("https://p",), tmp_path / "ca.crt", "yaml")
    environ |= {"OMNIRELAY_ENDPOINT": "https://a, https://b", "OMNIRELAY_OUTPUT": "json"}
    assert resolve({}, environ).endpoints == ("https://a", "https://b")
    settings = resolve({"endpoint": ("https://o",), "ca": None}, environ)
    assert (settings.endpoints, settings.output, settings.ca) == (("https://o",), "json", tmp_path / "ca.crt")


def test_an_identity_comes_from_one_place(tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    environ = {"OMNIRELAY_ENDPOINT": "https://a", "OMNIRELAY_CERT": "c", "OMNIRELAY_KEY": "k", "HOME": str(tmp_path)}
    settings = resolve({"token_file": str(token)}, environ)
    assert (settings.token, settings.cert, settings.key) == ("secret", None, None)
    assert str(resolve({}, environ).cert) == "c"


@pytest.mark.parametrize("text", ["unknown: 1\n", "- 1\n", "[", "endpoint: x\ntoken: y\n"])
def test_a_wrong_profile_is_named(tmp_path, text):
    profile = tmp_path / "profile.yaml"
    profile.write_text(text)
    with pytest.raises(ConfigInvalid, match=r"profile\.yaml"):
        resolve({}, {"OMNIRELAY_PROFILE": str(profile)})


def test_a_token_goes_as_a_bearer(api, run, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    assert run("mesh", "clusters", "list", "--token-file", str(token)).exit_code == 0
    assert api.requests[0][4]["Authorization"] == "Bearer secret"
    assert run("mesh", "clusters", "list", "--token-file", str(tmp_path / "none")).exit_code == 2


def test_pki_writes_an_authority_and_certificates(run, tmp_path):
    directory = str(tmp_path / "pki")
    assert run("pki", "init", "--trust-domain", "mesh.example", "--dir", directory).exit_code == 0
    result = run("pki", "issue", "--cluster", "us-east", "--host", "us-east.example", "--dir", directory)
    assert result.exit_code == 0
    assert "spiffe://mesh.example/cluster/us-east" in result.stdout
    assert "PRIVATE" not in result.output
    assert stat.S_IMODE((tmp_path / "pki/us-east.key").stat().st_mode) == 0o600
    assert run("pki", "issue", "--cluster", "us-east", "--dir", directory).exit_code == 6
    assert run("pki", "issue", "--cluster", "us-east", "--dir", directory, "--force").exit_code == 0
    assert run("pki", "issue", "--operator", "a", "--client", "b", "--dir", directory).exit_code == 2
    assert run("pki", "issue", "--operator", "a", "--host", "h", "--dir", directory).exit_code == 2
    assert run("pki", "issue", "--operator", "alice", "--dir", directory, "--out", str(tmp_path / "o")).exit_code == 0


def test_a_certificate_without_its_key_is_refused(run, tmp_path):
    result = run("mesh", "clusters", "list", "--ca", "ca", "--cert", "c")
    assert (result.exit_code, "together" in result.stderr) == (2, True)


def test_completion_lists_commands_without_loading_them(run, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "omnirelay mesh ")
    monkeypatch.setenv("COMP_CWORD", "2")
    from click.testing import CliRunner

    result = CliRunner().invoke(cli, prog_name="omnirelay", env={"_OMNIRELAY_COMPLETE": "bash_complete"})
    assert "plain,failovers" in result.stdout
