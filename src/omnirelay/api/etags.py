"""ETags are revisions: strong, quoted integers that a client sends back as If-Match."""

from __future__ import annotations

import re

from omnirelay.errors import BadRequest, EtagRequired

_ETAG = re.compile('"([0-9]{1,19})"')
"""A revision of the store has 63 bits."""


def etag(revision: int) -> str:
    return f'"{revision}"'


def expected_revision(if_match: str | None) -> int:
    """The revision that a mutation is for. Raises EtagRequired without one, BadRequest for what no ETag of ours is.

    `*` is refused too: it would mean "whatever it is now", and the point is that the caller has seen what it changes.
    """
    if if_match is None:
        raise EtagRequired("this change needs the ETag of what it changes as If-Match")
    ours = _ETAG.fullmatch(if_match.strip())
    if ours is None:
        raise BadRequest(f"If-Match {if_match[:64]!r} is not an ETag of this API", path="If-Match")
    return int(ours[1])
