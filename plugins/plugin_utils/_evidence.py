# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: lines that are chained by hash, so that a changed, missing or added one is found.

The form is that of the mesh's audit chain: JSON with sorted keys, no spaces, ASCII only; each entry has its number, the
digest of the entry before, and a digest over all of that. What no chain shows by itself is a cut-off end: for that the
last digest has to be known from elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os

START_DIGEST = "0" * 64
"""What entry number 1 is chained to."""


class NotAChain(Exception):
    """The file that is to be continued does not end with an entry."""


def append(path, content):
    """Adds an entry with this content to the file, which may be written by several runs at once. Raises OSError, NotAChain."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+b") as chain:
        fcntl.flock(chain, fcntl.LOCK_EX)
        last = _last(chain)
        entry = dict(content, number=last["number"] + 1, previous=last["digest"])
        entry["digest"] = digest(entry)
        chain.write(_canonical(entry) + b"\n")
        chain.flush()
        os.fsync(chain.fileno())


def broken(lines, head=None):
    """The first place where these lines are not the chain that was written, as number and reason; None if they are.

    C(head) is the digest that the last entry must have, where it is known.
    """
    number, previous = 0, START_DIGEST
    for line in lines:
        reason = _flaw(line, number + 1, previous)
        if reason:
            return dict(number=number + 1, reason=reason)
        entry = json.loads(line)
        number, previous = entry["number"], entry["digest"]
    if head is not None and head != previous:
        return dict(number=number + 1, reason="it ends with entry %s, which is not the head %s" % (number, head))
    return None


def digest(entry):
    return hashlib.sha256(_canonical({name: value for name, value in entry.items() if name != "digest"})).hexdigest()


def _flaw(line, number, previous):
    try:
        entry = json.loads(line)
        found = entry["number"], entry["previous"], entry["digest"]
        form = _canonical(entry)
    except (ValueError, TypeError, KeyError, RecursionError):
        return "it is not an entry"
    if form != (line if isinstance(line, bytes) else line.encode("utf-8")):
        return "its form is not canonical"
    if found[0] != number:
        return "entry %s stands in its place" % found[0]
    if found[1] != previous:
        return "it follows %s, and the entry before it has %s" % (found[1], previous)
    if found[2] != digest(entry):
        return "its content has the digest %s, and it claims %s" % (digest(entry), found[2])
    return None


def _last(chain):
    """The last entry of an open file; what entry number 1 follows if there is none."""
    end = chain.seek(0, os.SEEK_END)
    if end == 0:
        return dict(number=0, digest=START_DIGEST)
    begin, tail = end, b""
    while begin > 0 and b"\n" not in tail[:-1]:
        begin = max(0, begin - 65536)
        chain.seek(begin)
        tail = chain.read(end - begin)
    try:
        if not tail.endswith(b"\n"):
            raise ValueError("the last line is cut off")
        entry = json.loads(tail[:-1].rpartition(b"\n")[2])
        return dict(number=int(entry["number"]), digest=str(entry["digest"]))
    except (ValueError, TypeError, KeyError) as error:
        raise NotAChain("%s does not end with an entry of a chain: %s" % (chain.name, error)) from error


def _canonical(values):
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
