"""Prints each row of docs/failure-modes.md with its tests: those whose names carry its number, as in `fm07`.

A row without a test fails, and so does a test for a row that does not exist.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from outcome import ROOT, Outcome

TABLE = ROOT / "docs/failure-modes.md"
LATER = frozenset({"05", "06", "27", "30", "31"})
"""Rows that describe what is still to come. Tests that they have already are shown all the same."""
ROW = re.compile(r"^\| (\d\d) \| (.*?) \|", re.MULTILINE)
NUMBER = re.compile(r"(?<![a-z0-9])fm(\d\d)(?!\d)", re.IGNORECASE)


def rows(text: str) -> dict[str, str]:
    """Number → what goes wrong."""
    return dict(ROW.findall(text))


def names(source: str) -> Iterator[str]:
    """`test_…` and `TestX::test_…`, in the order of the file."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from (f"{node.name}::{each.name}" for each in node.body if _is_test(each))
        elif _is_test(node):
            yield node.name


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def collect(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Number → its tests, each as `file::name`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(path for folder in folders for path in folder.rglob("test_*.py")):
        for name in names(path.read_text(encoding="utf-8")):
            for number in sorted(set(NUMBER.findall(name.replace("_", " ")))):
                found[number].append(f"{path.name}::{name}")
    return found


def judge(wanted: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> Outcome:
    lacking = [number for number in wanted if number not in found and number not in LATER]
    unknown = [number for number in found if number not in wanted]
    failed = [f"failure mode {number} has no test: {wanted[number]}" for number in lacking]
    failed += [f"{test}: there is no failure mode {number}" for number in unknown for test in found[number]]
    return Outcome(passed=sum(number in found for number in wanted), failed=tuple(failed))


def run(folders: Sequence[Path]) -> Outcome:
    wanted, found = rows(TABLE.read_text(encoding="utf-8")), collect(folders)
    print(f"== failure modes: {TABLE.relative_to(ROOT)}")
    for number, what in wanted.items():
        tests = found.get(number, [])
        print(f"fm{number} {what}{'' if tests else ' (to come)' if number in LATER else ' (NO TEST)'}")
        for test in tests:
            print(f"       {test}")
    return judge(wanted, found)


if __name__ == "__main__":
    sys.exit(run([ROOT / "tests/package", *ROOT.glob("tests/s*"), *ROOT.glob("tests/model")]).report())
