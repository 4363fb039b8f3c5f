"""What the machine says: disk and certificate."""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography import x509

from omnirelay.runtime.reporter import Host


class HostFacts:
    """Reads the disk at each call, the certificate when its file changes."""

    def __init__(self, data_dir: Path, certificate: Path) -> None:
        self._data_dir = data_dir
        self._certificate = certificate
        self._read_at: int | None = None
        self._expires_ms = 0

    def __call__(self) -> Host:
        usage = shutil.disk_usage(self._data_dir)
        return Host(usage.free, usage.total, self.certificate_expires_ms())

    def certificate_expires_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        changed = self._certificate.stat().st_mtime_ns
        if changed != self._read_at:
            certificate = x509.load_pem_x509_certificate(self._certificate.read_bytes())
            self._expires_ms = int(certificate.not_valid_after_utc.timestamp() * 1000)
            self._read_at = changed
        return self._expires_ms
