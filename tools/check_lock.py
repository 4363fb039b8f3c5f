"""The lock files must hold everything that pyproject.toml and requirements/*.in ask for, and name no machine and no
registry."""

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from itertools import chain

from outcome import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"dev": [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]}
    for path in (ROOT / "requirements").glob("*.in"):
        wanted[path.stem] = re.findall(r"^[^#\n].*", path.read_text(), re.MULTILINE)
    faults = [fault for name, requirements in wanted.items() for fault in judge(name, requirements)]
    faults += re.findall(r'.*"resolved".*', (ROOT / "package-lock.json").read_text())
    for fault in faults:
        print(fault)
    if faults:
        print("Run `make lock` and commit the result.")
    return bool(faults)


def judge(name: str, wanted: Sequence[str]) -> Iterator[str]:
    lock = (ROOT / f"requirements/{name}.txt").read_text()
    locked = {
        canonicalize_name(package): version for package, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    }
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"requirements/{name}.txt has {version}, wanted is {requirement}"
    for line in re.findall(r"^-.*|.*://.*|.*\d\+\w.*", lock, re.MULTILINE):
        yield f"requirements/{name}.txt: {line}"


if __name__ == "__main__":
    sys.exit(main())
