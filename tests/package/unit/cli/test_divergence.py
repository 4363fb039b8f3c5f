import json

import pytest
from tests.package.unit.cli.conftest import divergence

from omnirelay.errors import AccessDenied, BadRequest, Unreachable

DIVERGENCE = ("mesh", "divergence")


@pytest.fixture(autouse=True)
def diverged(api):
    api.divergences = {"default.1": divergence()}
    return api.divergences["default.1"]


def posted(api):
    return [(path.rpartition("/")[2], query, body) for method, path, query, body, _ in api.requests if method == "POST"]


def test_list_and_show(api, run):
    listed = run(*DIVERGENCE, "list").stdout.splitlines()
    assert listed[2].split() == ["default.1", "us-east", "101", "to", "120", "20", "3", "0", "17", "-", "-", "-"]
    shown = run(*DIVERGENCE, "show", "default.1").stdout
    assert "Fenced ranges of default.1" in shown
    assert "k1" in shown
    assert json.loads(run(*DIVERGENCE, "list", "-o", "json").stdout)["divergences"] == list(api.divergences.values())


def test_what_does_not_exist_is_said_with_how_to_find_what_does(run):
    result = run(*DIVERGENCE, "show", "default.7")
    assert result.exit_code == 2
    assert "omnirelay mesh divergence list" in result.stderr


def test_discard_is_for_those_who_mean_it(api, run, diverged):
    discard = (*DIVERGENCE, "discard", "default.1")
    assert run(*discard, "--yes").exit_code == 2, "needs a reason"
    assert run(*discard, "--reason", "test data").exit_code == 2, "needs --yes"
    assert run(*discard, "--reason", "test data", "--dry-run").exit_code == 0
    assert diverged["resolution"] is None
    assert "discarded" in run(*discard, "--reason", "test data", "--yes").stdout
    assert posted(api)[-1] == ("discard", {}, {"reason": "test data"})


@pytest.mark.parametrize(("typed", "exit_code"), [("default.1\n", 0), ("yes\n", 2)])
def test_on_a_terminal_the_id_is_typed_after_reading_what_would_be_gone(run, terminal, diverged, typed, exit_code):
    result = run(*DIVERGENCE, "discard", "default.1", "--reason", "test data", stdin=typed)
    assert result.exit_code == exit_code
    assert "k1" in result.stdout
    assert (diverged["resolution"] == "discarded") == (exit_code == 0)


def test_a_discard_without_the_scope_is_refused_and_names_it(api, run, diverged):
    denied = AccessDenied("no", scope="mesh.admin", principal="spiffe://m/operator/bob")
    api.refusals["POST", "/control/divergence/default.1/discard"] = [denied]
    result = run(*DIVERGENCE, "discard", "default.1", "--reason", "x", "--yes")
    assert result.exit_code == 3
    assert "error[permission_denied]" in result.stderr
    assert "mesh.admin for spiffe://m/operator/bob" in result.stderr


def test_replay_waits_until_everything_is_published_again(api, run):
    api.replay_after = 3
    result = run(*DIVERGENCE, "replay", "default.1", "--reason", "orders")
    assert result.exit_code == 0
    assert "replayed" in result.stdout.splitlines()[-1]


def test_a_replay_that_takes_longer_goes_on_by_itself(api, run):
    api.replay_after = 1000
    result = run(*DIVERGENCE, "replay", "default.1", "--wait-timeout", "5")
    assert result.exit_code == 8
    assert "17 records" in result.stderr
    assert "omnirelay mesh divergence show default.1" in result.stderr


def test_nothing_left_to_decide_is_an_error(api, run):
    api.refusals["POST", "/control/divergence/default.1/replay"] = [BadRequest("no open records: discarded")]
    assert run(*DIVERGENCE, "replay", "default.1").exit_code == 2


def test_export_writes_a_whole_file_or_none(api, run, tmp_path):
    file = tmp_path / "fenced.jsonl"
    result = run(*DIVERGENCE, "export", "default.1", "-f", str(file))
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"sequence": 101}, {"sequence": 102}]
    assert "2 records written" in result.stderr
    api.refusals["POST", "/control/divergence/default.1/export"] = [Unreachable("gone")]
    assert run(*DIVERGENCE, "export", "default.1", "-f", str(tmp_path / "other")).exit_code == 7
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["fenced.jsonl"]
    assert run(*DIVERGENCE, "export", "default.1", "-f", str(tmp_path / "no/where")).exit_code == 2


def test_export_to_standard_output(run):
    result = run(*DIVERGENCE, "export", "default.1", "-f", "-")
    assert result.stdout == '{"sequence": 101}\n{"sequence": 102}\n'
