"""The gates that run nothing of the product: `check.py` runs them all, `check.py NAME…` some."""

import sys
from collections.abc import Sequence

from outcome import BIN, ROOT, Outcome, gate

GATES = {
    "ruff": [BIN / "ruff", "check", "--no-fix"],
    "format": [BIN / "ruff", "format", "--diff"],
    "mypy": [BIN / "mypy"],
    "layers": [BIN / "lint-imports", "--no-logo", "--cache-dir", ".cache/import-linter"],
    "buf": [ROOT / "node_modules/.bin/buf", "lint"],
    "proto": [BIN / "python", "tools/gen_proto.py", "--check"],
    "lock": [BIN / "python", "tools/check_lock.py"],
}


def run(names: Sequence[str] = ()) -> Outcome:
    return sum((gate(name, GATES[name]) for name in names or GATES), Outcome())


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]).report())
