# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import tempfile

from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError


def save(dest, fill, check_mode):
    """Lets C(fill) write a file that takes the place of C(dest) when it is complete. Whether that changes anything.

    A missing directory is made. In check mode the file is only compared, and made elsewhere.
    """
    directory = os.path.dirname(os.path.abspath(dest))
    try:
        _make(directory, check_mode)
        handle, draft = tempfile.mkstemp(dir=None if check_mode else directory)
        try:
            with os.fdopen(handle, "wb") as target:
                fill(target)
                os.fchmod(target.fileno(), 0o640)
            if os.path.exists(dest) and filecmp.cmp(draft, dest, shallow=False):
                return False
            if not check_mode:
                os.replace(draft, dest)
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
    except OSError as error:
        raise not_saved(error) from error


def prepare(dest, check_mode):
    """Makes the directory that C(dest) will be saved in, and tries whether a file can be. Whether it had to be made.

    In check mode nothing is made or tried.
    """
    directory = os.path.dirname(os.path.abspath(dest))
    missing = not os.path.isdir(directory)
    try:
        if os.path.isdir(dest):
            raise _os_error(errno.EISDIR, dest)
        _make(directory, check_mode)
        if not check_mode:
            handle, draft = tempfile.mkstemp(dir=directory)
            os.close(handle)
            os.unlink(draft)
    except OSError as error:
        raise not_saved(error) from error
    return missing


def _make(directory, check_mode):
    """In check mode what is there already, and who may write to it, say what would happen."""
    if check_mode:
        _foresee(directory)
    else:
        os.makedirs(directory, mode=0o750, exist_ok=True)


def _foresee(directory):
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    if not os.path.isdir(directory):
        raise _os_error(errno.ENOTDIR, directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _os_error(errno.EACCES, directory)


def _os_error(number, path):
    return OSError(number, os.strerror(number), path)


def text_of(path):
    """What a file holds, for people to compare; None is no file."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as source:
            return source.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise not_saved(error) from error


def not_saved(error):
    return MeshApiError(
        "invalid_argument", "The file cannot be saved: %s." % error, hint="Name a file in a directory that can be written."
    )
