"""Signatures of the generic webhook, for both directions.

`X-OmniRelay-Signature: sha256=HEX` is the HMAC-SHA256 of the time stamp, a full stop and the body's bytes, under the
shared secret. `X-OmniRelay-Timestamp` is the time of signing, seconds since the Unix epoch. Whoever receives refuses
what is older or newer than the replay window, and answers each request `id` once.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

TIMESTAMP = "X-OmniRelay-Timestamp"
SIGNATURE = "X-OmniRelay-Signature"


def sign(secret: str, body: bytes, now: float) -> dict[str, str]:
    """The two headers."""
    timestamp = str(int(now))
    return {TIMESTAMP: timestamp, SIGNATURE: f"sha256={_digest(secret, timestamp, body)}"}


def flaw(secret: str, headers: Mapping[str, str], body: bytes, now: float, window_seconds: float) -> str:
    """Why this is not to be trusted; empty when it is."""
    timestamp, signature = headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, "")
    if not timestamp.isdecimal() or not timestamp.isascii():
        return "it is not signed"
    if not hmac.compare_digest(signature.encode(), f"sha256={_digest(secret, timestamp, body)}".encode()):
        return "its signature is wrong"
    if abs(now - int(timestamp)) > window_seconds:
        return f"it was signed {now - int(timestamp):.0f} s ago, {window_seconds:g} s are allowed"
    return ""


def _digest(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
