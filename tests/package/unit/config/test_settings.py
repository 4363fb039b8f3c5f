"""Values that are of the right kind and still cannot be meant."""

import pytest

from omnirelay.config.settings import parse
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
