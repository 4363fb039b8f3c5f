import json

import yaml

from omnirelay.cli.replication import links_of
from omnirelay.failover.audit_chain import START_DIGEST, AuditFields, encode, seal


def test_clusters_are_listed_over_all_pages(api, run):
    lines = run("mesh", "clusters", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["CLUSTER", "eu-west", "us-east"]
    assert "unknown" in lines[1], "its version is not known"


def test_output_for_programs_is_what_the_api_said(api, run):
    assert json.loads(run("mesh", "clusters", "show", "us-east", "-o", "json").stdout) == api.clusters["us-east"]
    assert yaml.safe_load(run("mesh", "clusters", "show", "us-east", "-o", "yaml").stdout) == api.clusters["us-east"]
    assert "us-east:1" in run("mesh", "clusters", "show", "us-east").stdout


def test_what_came_from_elsewhere_does_not_steer_the_terminal(api, run):
    api.clusters["us-east"]["region"] = "\x1b[2Jgone"
    assert "\x1b" not in run("mesh", "clusters", "show", "us-east").stdout


def test_apply_creates_replaces_and_says_when_nothing_changed(api, run):
    text = "cluster_id: us-east\nregion: r2\nnamespaces: [default]\n---\ncluster_id: new\nregion: r3\n"
    first = json.loads(run("mesh", "clusters", "apply", "-f", "-", "-o", "json", stdin=text).stdout)["results"]
    again = json.loads(run("mesh", "clusters", "apply", "-f", "-", "-o", "json", stdin=text).stdout)["results"]
    assert [entry["result"] for entry in first] == ["replaced", "created"]
    assert [entry["result"] for entry in again] == ["unchanged", "unchanged"]
    replaced = next(body for method, path, _, body, _ in api.requests if method == "PUT")
    assert "namespaces" not in replaced


def test_apply_refuses_a_file_as_a_whole(api, run):
    for text in ("cluster_id: a\n---\nregion: r\n", "[1", "", "- 1\n"):
        assert run("mesh", "clusters", "apply", "-f", "-", stdin=text).exit_code == 2
    assert api.requests == []


def test_delete_names_the_version_that_was_read(api, run):
    assert run("mesh", "clusters", "delete", "us-east", "--change-ticket", "C").exit_code == 2, "needs --yes"
    assert run("mesh", "clusters", "delete", "us-east", "--change-ticket", "C", "--yes").exit_code == 0
    method, _, query, _, headers = api.requests[-1]
    assert (method, query, headers["If-Match"]) == ("DELETE", {"change_ticket": "C"}, '"1"')
    assert run("mesh", "clusters", "delete", "us-east", "--change-ticket", "C", "--yes").exit_code == 2


def peer(name, outbound, inbound, **fields):
    def lag(status):
        return {"status": status, "lag_records": 0, "lag_bytes": 0, "lag_seconds": 0.0} if status else None

    return {"peer": name, "outbound": lag(outbound), "inbound": lag(inbound), **fields}


def test_replication_is_never_better_than_what_is_known(api, run):
    api.clusters["us-east"]["peers"] = [peer("eu-west", "streaming", None)]
    link = links_of(list(api.clusters.values()))[1]
    assert (link["source"], link["target"], link["lag_records"]) == ("us-east", "eu-west", 0)
    assert link["mesh_replication_status"] == "unknown", "the receiver says nothing"
    back = links_of(list(api.clusters.values()))[0]
    assert (back["lag_records"], back["lag_seconds"], back["mesh_replication_status"]) == (None, None, "unknown")
    table = run("mesh", "clusters", "replication", "status").stdout.splitlines()
    assert table[1].split()[3:] == ["unknown"] * 8


def test_the_worse_of_both_sides_counts(api):
    api.clusters["us-east"]["peers"] = [peer("eu-west", "catching_up", "streaming")]
    api.clusters["eu-west"]["peers"] = [peer("us-east", "streaming", "stalled", digest_agrees=True)]
    [eastward, westward] = links_of(list(api.clusters.values()))
    assert (westward["mesh_replication_status"], westward["digest_agrees"]) == ("stalled", True)
    assert eastward["mesh_replication_status"] == "streaming"


def test_routing_shows_epochs_and_cuts(run):
    result = run("mesh", "routing", "show")
    assert "Routing version 3" in result.stdout
    assert "(0, 0)" in result.stdout


def audit_entry(number, previous):
    fields = AuditFields(
        number=number,
        at="2026-11-23T12:00:00Z",
        actor="alice",
        identity_proof="mtls",
        action="failover.plan",
        subject="failovers/fo-1",
        why="drill",
        change_ticket="",
        run_url="",
        before=None,
        after={"state": "ä"},
        outcome="done",
    )
    return seal(previous, fields)


def chain(count):
    entries, previous = [], START_DIGEST
    for number in range(1, count + 1):
        entries.append(audit_entry(number, previous))
        previous = entries[-1].digest
    return entries


def test_the_audit_list_could_not_be_narrowed(api, run, tmp_path):
    entries = [json.loads(encode(entry)) for entry in chain(5)]
    api.audit = [{**entry, "subject": f"failovers/fo-{entry['number'] % 2}"} for entry in entries]
    narrowed = run("mesh", "audit", "list", "--subject", "failovers/fo-1", "--outcome", "done", "--output", "json")
    assert [entry["number"] for entry in json.loads(narrowed.stdout)["entries"]] == [1, 3, 5]
    assert run("mesh", "audit", "list", "--change-ticket", "CHG-9").stdout.count("\n") <= 1
    asked = api.requests[-1][2]
    assert asked["change_ticket"] == "CHG-9"
    refused = run("mesh", "audit", "list", "--action", "failover.plan", "--copy", str(tmp_path / "copy"))
    assert refused.exit_code == 2
    assert not (tmp_path / "copy").exists()


def test_an_audit_copy_is_verified_offline(api, run, tmp_path):
    entries = chain(5)
    api.audit = [json.loads(encode(entry)) for entry in entries]
    copy = tmp_path / "copy"
    assert run("mesh", "audit", "list", "--copy", str(copy)).exit_code == 0
    assert len(run("mesh", "audit", "list", "--after", "2", "--limit", "2").stdout.splitlines()) == 3
    verified = run("mesh", "audit", "verify", str(copy), "--head", f"5:{entries[-1].digest}")
    assert (verified.exit_code, verified.stdout) == (0, "5 entries verified\n")
    assert run("mesh", "audit", "verify", str(copy), "--head", entries[-1].digest).stdout == "5 entries verified\n"
    assert run("mesh", "audit", "verify", str(copy), "--head", "0" * 64).exit_code == 3
    assert run("mesh", "audit", "verify", str(copy), "--head", f"6:{entries[-1].digest}").exit_code == 3
    assert run("mesh", "audit", "verify", str(copy), "--head", "5:cafe").exit_code == 2
    assert "takes --head" in run("mesh", "audit", "verify", str(copy)).stdout
    copy.write_text(copy.read_text().replace('"number":3', '"number":4'))
    broken = run("mesh", "audit", "verify", str(copy))
    assert broken.exit_code == 3
    assert "entry 3" in broken.stderr


def test_a_copy_without_an_entry_is_not_verified(run, tmp_path):
    empty = tmp_path / "copy"
    empty.touch()
    for head in ([], ["--head", START_DIGEST], ["--head", f"0:{START_DIGEST}"]):
        refused = run("mesh", "audit", "verify", str(empty), *head)
        assert (refused.exit_code, refused.stdout) == (3, "")
        assert "holds no entry" in refused.stderr


def test_a_copy_whose_end_is_cut_off_is_found_by_the_head(run, tmp_path):
    entries = chain(3)
    copy = tmp_path / "copy"
    copy.write_bytes(b"".join(encode(entry) + b"\n" for entry in entries[:2]))
    assert run("mesh", "audit", "verify", str(copy)).exit_code == 0
    refused = run("mesh", "audit", "verify", str(copy), "--head", f"3:{entries[-1].digest}")
    assert refused.exit_code == 3


def test_fm20_routing_readers_shows_who_has_not_acknowledged_the_routing(run):
    shown = run("mesh", "routing", "readers").output
    assert "have not acknowledged" in shown
    assert "spiffe://m/client/b" in shown
    assert "ap-south" in shown


def test_fm35_a_cluster_is_rebuilt_by_an_explicit_command(api, run):
    told = ["mesh", "clusters", "rebuild", "us-east", "--change-ticket", "CHG-7", "--reason", "its disk burnt"]
    assert run(*told).exit_code == 2, "without a terminal it needs --yes"
    rebuilt = run(*told, "--yes")
    assert "us-east goes on as us-east~2" in rebuilt.stderr
    method, path, _, body, _ = api.requests[-1]
    assert (method, path) == ("POST", "/control/clusters/us-east/rebuild")
    assert body == {"change_ticket": "CHG-7", "reason": "its disk burnt"}


def test_fm35_a_cluster_that_is_shown_says_under_which_name_its_log_goes_on(api, run):
    api.clusters["us-east"]["origin"] = "us-east~2"
    assert "us-east~2" in run("mesh", "clusters", "show", "us-east").stdout


def test_fm25_a_cluster_is_reseeded_by_an_explicit_command(api, run):
    told = ["mesh", "clusters", "reseed", "ap-south", "--change-ticket", "CHG-9", "--reason", "its line was down"]
    assert run(*told).exit_code == 2, "without a terminal it needs --yes"
    assert "ap-south takes a seed of us-east" in run(*told, "--yes").stderr
    assert api.requests[-1][:2] == ("POST", "/control/clusters/ap-south/reseed")
