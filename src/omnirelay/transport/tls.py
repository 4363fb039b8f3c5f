"""TLS for gRPC: both sides prove themselves, nothing older than TLS 1.3."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# gRPC's Python API has no least TLS version. Its cipher list governs TLS 1.2 and older only, so a list with nothing
# that a certificate-based handshake could choose leaves TLS 1.3. It is read once, when gRPC is loaded.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-AES128-CBC-SHA"

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files."""

    ca: Path
    certificate: Path
    key: Path


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(files.key.read_bytes(), files.certificate.read_bytes())],
        root_certificates=files.ca.read_bytes(),
        require_client_auth=True,
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=files.ca.read_bytes(),
        private_key=files.key.read_bytes(),
        certificate_chain=files.certificate.read_bytes(),
    )
