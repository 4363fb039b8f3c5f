"""Who a client is and whom it trusts: paths of PEM files, read when a connection is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omnirelay.errors import ConfigInvalid


@dataclass(frozen=True, slots=True)
class Credentials:
    """`ca` alone authenticates the servers; `cert` and `key`, which come together, authenticate the client."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigInvalid("a client certificate and its key must be given together")

    @staticmethod
    def read(path: Path) -> bytes:
        """Raises ConfigInvalid, which names the file."""
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigInvalid(f"cannot read {path}: {error.strerror}", path=str(path)) from error
