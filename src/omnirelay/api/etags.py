"""ETags are revisions: strong, quoted integers that a client sends back as If-Match."""

from __future__ import annotations

from omnirelay.errors import BadRequest, EtagRequired


def etag(revision: int) -> str:
    return f'"{revision}"'


def expected_revision(if_match: str | None) -> int:
    """The revision that a mutation is for. Raises EtagRequired without one, BadRequest for what no ETag of ours is.

    `*` is refused too: it would mean "whatever it is now", and the point is that the caller has seen what it changes.
    """
    if if_match is None:
        raise EtagRequired("this change needs the ETag of what it changes as If-Match")
    quoted = if_match.strip()
    if len(quoted) > 2 and quoted[0] == quoted[-1] == '"' and quoted[1:-1].isdecimal():
        return int(quoted[1:-1])
    raise BadRequest(f"If-Match {if_match!r} is not an ETag of this API", path="If-Match")
