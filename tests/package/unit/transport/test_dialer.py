"""A dial that cannot begin is a peer that cannot be reached: the receiving loop tries again, and does not end."""

import pytest

from omnirelay.errors import Unreachable
from omnirelay.transport.dialer import GrpcDialer
from omnirelay.transport.tls import TlsFiles


async def test_a_certificate_that_is_being_replaced_is_no_defect(tmp_path):
    files = TlsFiles(tmp_path / "ca.crt", tmp_path / "us-east.crt", tmp_path / "us-east.key")
    with pytest.raises(Unreachable, match="certificate cannot be read"):
        await GrpcDialer(files, 1024).dial("eu-west", "127.0.0.1:1")
