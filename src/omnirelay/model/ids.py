"""Names: clusters, namespaces, origins, principals."""

from __future__ import annotations

import re

from omnirelay.errors import BadRequest

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PRODUCER_ID_LIMIT = 128


def cluster_id(text: str) -> str:
    """A DNS label (RFC 1123, lower case). Raises BadRequest."""
    return _label("cluster id", text)


def namespace(text: str) -> str:
    """A DNS label. Raises BadRequest."""
    return _label("namespace", text)


def producer_id(text: str) -> str:
    """1 to 128 printable ASCII characters without spaces. Raises BadRequest."""
    if 0 < len(text) <= _PRODUCER_ID_LIMIT and text.isascii() and text.isprintable() and " " not in text:
        return text
    raise BadRequest(
        f"producer id {text[:140]!r} is not 1 to {_PRODUCER_ID_LIMIT} printable ASCII characters without spaces"
    )


def consumer_id(text: str) -> str:
    """As a producer's id, or empty. Raises BadRequest."""
    return producer_id(text) if text else text


def origin_of(cluster: str, incarnation: int) -> str:
    """The origin that a cluster's log bears: the id, from the second incarnation on with `~n`."""
    return cluster if incarnation == 1 else f"{cluster}~{incarnation}"


def cluster_of(origin: str) -> str:
    """The cluster behind an origin."""
    return origin.partition("~")[0]


def incarnation_of(origin: str) -> int:
    """The number in `cluster~n`; 1 without one."""
    _, tilde, number = origin.partition("~")
    return int(number) if tilde else 1


def _label(what: str, text: str) -> str:
    if _LABEL.fullmatch(text):
        return text
    raise BadRequest(f"{what} {text[:80]!r} is not a DNS label (a-z, 0-9, '-', at most 63 characters)")
