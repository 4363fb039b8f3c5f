"""The lock files must hold everything that pyproject.toml asks for, and nothing that names a machine or a registry."""

import re
import sys
import tomllib

from outcome import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main() -> int:
    lock = (ROOT / "requirements/dev.txt").read_text()
    locked = {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    faults = []
    for requirement in (Requirement(text) for group in wanted for text in group):
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"requirements/dev.txt has {version}, pyproject.toml wants {requirement}")
    faults += [f"requirements/dev.txt: {line}" for line in re.findall(r"^-.*|.*://.*|.*\d\+\w.*", lock, re.MULTILINE)]
    faults += re.findall(r'.*"resolved".*', (ROOT / "package-lock.json").read_text())
    for fault in faults:
        print(fault)
    if faults:
        print("Run `make lock` and commit the result.")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
