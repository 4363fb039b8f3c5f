"""Values that are of the right kind and still cannot be meant."""

import pytest
import yaml

from omnirelay.config.settings import load, parse
from omnirelay.errors import ConfigInvalid

PLAIN = {
    "cluster": "us-east",
    "data_dir": "data",
    "tls": {"ca": "ca.crt", "certificate": "us-east.crt", "key": "us-east.key"},
    "coordination": {"path": "coordination.db"},
}


@pytest.mark.parametrize("address", ["[::1]:7400", "127.0.0.1:7400", "replicator.example:7400", "0.0.0.0:0"])
def test_an_address(address):
    assert parse({**PLAIN, "listen": {"grpc": address}}).listen.grpc == address


@pytest.mark.parametrize(
    "address", ["::1:7400", "[::1]", "[::1:7400", ":7400", "host:", "host:seven", "host:65536", "host:²"]
)
def test_an_address_that_is_none_is_named(address):
    with pytest.raises(ConfigInvalid, match=r"listen\.grpc: .*is not HOST:PORT"):
        parse({**PLAIN, "listen": {"grpc": address}})


@pytest.mark.parametrize("size", ["0B", "33MiB", "3GiB"])
def test_a_batch_size_that_no_stream_carries_is_named(size):
    with pytest.raises(ConfigInvalid, match=r"log\.max_batch"):
        parse({**PLAIN, "log": {"max_batch": size}})


@pytest.mark.parametrize("key", ["retain_for", "retain_size"])
def test_a_quantity_beyond_all_numbers_is_named(key):
    unit = "d" if key == "retain_for" else "TiB"
    with pytest.raises(ConfigInvalid, match=rf"log\.{key}: .*beyond anything"):
        parse({**PLAIN, "log": {key: "9" * 400 + unit}})


def rule(name="ci", digest="a" * 64):
    return {"name": name, "sha256": digest, "scopes": ["mesh.read"]}


ADVERTISED = {"grpc": "us-east.example:7400", "control": "https://us-east.example:7401"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_dir": ""}, r"data_dir: '' is no path"),
        ({"data_dir": "  "}, r"data_dir: '  ' is no path"),
        ({"data_dir": "a\0b"}, r"data_dir: .* is no path"),
        ({"coordination": {"path": ""}}, r"coordination\.path: '' is no path"),
        ({"tls": {**PLAIN["tls"], "key": ""}}, r"tls\.key: '' is no path"),
        ({"advertise": {**ADVERTISED, "grpc": "us-east.example"}}, r"advertise\.grpc: .*is not HOST:PORT"),
        ({"advertise": {**ADVERTISED, "grpc": "us-east.example:0"}}, r"advertise\.grpc: .*names no port"),
        ({"advertise": {**ADVERTISED, "control": "us-east.example:7401"}}, r"advertise\.control: .*is not https://"),
        ({"advertise": {**ADVERTISED, "control": "http://us-east.example"}}, r"advertise\.control: .*is not https://"),
        ({"advertise": {**ADVERTISED, "control": "https://"}}, r"advertise\.control: .*is not https://"),
        ({"advertise": {**ADVERTISED, "control": "https://[::1"}}, r"advertise\.control: "),
        ({"advertise": {**ADVERTISED, "control": "https://host:99999"}}, r"advertise\.control: "),
        ({"advertise": {"grpc": ADVERTISED["grpc"]}}, r"advertise\.control: "),
        ({"advertise": {**ADVERTISED, "url": "x"}}, r"advertise\.url: there is no such setting"),
        *(
            ({"access": [{"principal": principal, "scopes": ["mesh.read"]}]}, r"access\.0\.principal: .*is not cluster")
            for principal in ("", "*", "alice", "operator/", "operator/a b", "human/alice", "operator/a*b", "/alice")
        ),
        ({"tokens": [rule(name="")]}, r"tokens\.0\.name: '' is not 1 to 128"),
        ({"tokens": [rule(name="c i")]}, r"tokens\.0\.name: 'c i' is not 1 to 128"),
        ({"tokens": [rule(), rule("backup")]}, r"tokens\.1\.sha256: the same token as tokens\.0, which is ci"),
    ],
)
def test_what_was_taken_silently_is_named_with_its_file(tmp_path, changes, said):
    file = tmp_path / "replicator.yml"
    file.write_text(yaml.safe_dump({**PLAIN, **changes}), encoding="utf-8")
    with pytest.raises(ConfigInvalid, match=rf"replicator\.yml: {said}") as refused:
        load(file)
    assert refused.value.details["file"] == str(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cluster: us-\xe9ast\n", r"is not UTF-8: .* at byte 12"),
        (b"cluster: 2026-13-45\n", "holds a value that cannot be read"),
        (b"cluster: " + b"9" * 5000, "holds a value that cannot be read"),
        (b"cluster: " + b"[" * 20_000, "holds a value that cannot be read"),
        (b"cluster: [\n", "is not YAML"),
        (b"cluster: \x01\n", "is not YAML"),
        (b"", "must hold settings"),
    ],
    ids=["Latin-1", "date", "number", "nesting", "syntax", "control character", "empty"],
)
def test_a_file_that_cannot_be_read_was_a_traceback(tmp_path, content, said):
    file = tmp_path / "replicator.yml"
    file.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=rf"replicator\.yml {said}"):
        load(file)


def test_a_configuration_with_every_name_spelt_right():
    principals = ["operator/alice", "client/*", "client/shop-*", "cluster/us-east"]
    access = [{"principal": principal, "scopes": ["mesh.read"]} for principal in principals]
    tokens = [rule(digest="a" * 64), rule(digest="b" * 64)]  # one name, while its token is replaced
    settings = parse({**PLAIN, "access": access, "tokens": tokens, "advertise": ADVERTISED})
    assert [each.principal for each in settings.access] == principals
    assert settings.advertise.grpc == ADVERTISED["grpc"]
