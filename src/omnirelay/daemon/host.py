"""What the machine says: disk and certificate."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from cryptography import x509

from omnirelay.runtime.reporter import Host

_log = logging.getLogger(__name__)


class HostFacts:
    """Reads the disk at each call, the certificate when its file changes.

    What cannot be read ends nobody's work: a disk that does not answer is unknown (0 bytes), and a certificate that is
    away or half written, as it is while it is replaced, is taken to be the one before.
    """

    def __init__(self, data_dir: Path, certificate: Path) -> None:
        self._data_dir = data_dir
        self._certificate = certificate
        self._read_at: int | None = None
        self._expires_ms = 0
        self._problem = ""

    def __call__(self) -> Host:
        try:
            usage = shutil.disk_usage(self._data_dir)
            free, total = usage.free, usage.total
        except OSError:
            free, total = 0, 0
        return Host(free, total, self.certificate_expires_ms())

    def certificate_expires_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        try:
            changed = self._certificate.stat().st_mtime_ns
            if changed != self._read_at:
                certificate = x509.load_pem_x509_certificate(self._certificate.read_bytes())
                self._expires_ms = int(certificate.not_valid_after_utc.timestamp() * 1000)
                self._read_at = changed
            self._problem = ""
        except (OSError, ValueError) as error:
            if str(error) != self._problem:
                _log.warning("%s cannot be read: %s", self._certificate, error)
            self._problem = str(error)
        return self._expires_ms
