"""Tests the collection with Ansible's own tools, on a copy laid out the way they insist on.

ansible-test wants to be called from …/ansible_collections/omnirelay/mesh, resolves symbolic links before it looks,
and in a directory that some git repository ignores it skips every target and reports success. Hence a copy in a
temporary directory outside any repository, of what the collection consists of (uncommitted files included).
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from outcome import BIN, REPORTS, ROOT, Outcome, environment, gate, junit

# Not the collection's: the Python package, and what only serves to develop it.
OTHERS = (
    "src", "proto", "bench", "tools", "docs", "requirements", "pyproject.toml", "Makefile", ".ci",
    "tests/package", "tests/system", "tests/simulation", "tests/model", "package.json", "package-lock.json",
    "buf.yaml", ".npmrc",
)  # fmt: skip
OLDEST = "oldest core"
CORES = {"installed core": BIN, OLDEST: ROOT / ".cache/environments/ansible-2.16/bin"}
"""The newest ansible-core that runs here, and the oldest that meta/runtime.yml allows."""
COVERED_BY, COVERED_PERCENT = OLDEST, 95
"""Lines and branches of the plugins that the units must reach. Each ansible-test wants its own coverage of one version;
the oldest has an environment for itself."""
GALAXY = ROOT / ".cache/environments/galaxy/bin"
"""Commands that judge a release."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# ansible-test starts each of its environments with a pip that it downloads from its own site. Every Python brings one
# along; this stands in for that download, so that a package index is all that is needed.
GET_PIP = """\
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install", *arguments])
"""


@contextlib.contextmanager
def copy() -> Iterator[Path]:
    """The root of the copy: the collection is in ansible_collections/omnirelay/mesh below it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", *(f":!{o}" for o in OTHERS)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="omnirelay-") as scratch:
        target = Path(scratch) / "ansible_collections/omnirelay/mesh"
        target.mkdir(parents=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).exists():  # deleted and not yet committed
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
        yield Path(scratch)


def home() -> Path:
    """A home directory in .cache for ansible-test, which has no other setting for where its environments go.

    It also hides this process's PIP_… variables from pip: what they and pip's own files say is handed on.
    """
    made = ROOT / ".cache/ansible-test"
    stand_ins = made / ".ansible/test/cache"
    stand_ins.mkdir(parents=True, exist_ok=True)
    for version in ("23_1_2", "24_2"):  # the oldest ansible-core's, the installed one's
        (stand_ins / f"get_pip_{version}.py").write_text(GET_PIP)
    own_files = (os.environ.get("PIP_CONFIG_FILE"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf")
    links = {
        ".cache/pip": Path(os.environ.get("PIP_CACHE_DIR") or Path.home() / ".cache/pip"),
        ".pip/pip.conf": next((Path(file) for file in own_files if file and Path(file).exists()), Path(os.devnull)),
    }
    for name, target in links.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).unlink(missing_ok=True)
        (made / name).symlink_to(target)
    # Read after the file above, so that the variables win, as they do everywhere else.
    settings = {key[4:].lower().replace("_", "-"): value for key, value in os.environ.items() if key.startswith("PIP_")}
    settings.setdefault("quiet", "2")  # ansible-test shows all that pip says, in front of what it found itself
    stronger = made / ".config/pip/pip.conf"
    stronger.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stronger.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(settings.items())))
    return made


def run() -> Outcome:
    with copy() as tree:
        collection = tree / "ansible_collections/omnirelay/mesh"
        env = environment(ANSIBLE_COLLECTIONS_PATH=str(tree), ANSIBLE_HOME=str(tree / "home"), NO_COLOR="1")
        total = Outcome()
        for name, command in {
            "ansible-lint": [BIN / "ansible-lint", "--profile", "production", "--offline"],
            "antsibull-changelog": [BIN / "antsibull-changelog", "lint"],
            "antsibull-docs": [GALAXY / "antsibull-docs", "lint-collection-docs", "--plugin-docs", "."],
        }.items():
            total += gate(name, command, cwd=collection, env=env)
        total += artifacts(tree / "artifacts", collection, env)
        env["HOME"] = str(home())
        with (Path(env["HOME"]) / "lock").open("w") as lock:
            # Two runs in one checkout would build the same environments on top of each other.
            fcntl.flock(lock, fcntl.LOCK_EX)
            return total + sum((ansible_test(core, collection, env) for core in CORES), Outcome())


def artifacts(place: Path, collection: Path, env: dict[str, str]) -> Outcome:
    """What a release consists of, as the sites that publish it look at it."""
    place.mkdir()
    build = [BIN / "ansible-galaxy", "collection", "build", "--output-path", place]
    total = gate("galaxy build", build, cwd=collection, env=env)
    settings = place / "galaxy-importer.cfg"
    settings.write_text("[galaxy-importer]\nCHECK_REQUIRED_TAGS = True\nCHECK_CHANGELOG = True\n")
    for tarball in place.glob("*.tar.gz"):
        total += gate(
            "galaxy-importer",
            [GALAXY / "python", "-m", "galaxy_importer.main", tarball],
            cwd=place,
            env={**env, "PATH": f"{GALAXY}{os.pathsep}{env['PATH']}", "GALAXY_IMPORTER_CONFIG": str(settings)},
            refuse=["WARNING", "ERROR"],
        )
    total += gate("wheel build", [BIN / "hatchling", "build", "--target", "wheel", "--directory", place], env=env)
    installed = place / "installed"
    pip = [BIN / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed]
    total += gate("wheel install", [*pip, *place.glob("*.whl")], env=env)
    command = [BIN / "python", "-m", "omnirelay.cli", "--version"]
    return total + gate("wheel runs", command, cwd=place, env={**env, "PYTHONPATH": str(installed)})


def ansible_test(core: str, collection: Path, env: dict[str, str]) -> Outcome:
    env = {**env, "PATH": f"{CORES[core]}{os.pathsep}{env['PATH']}"}
    command = [CORES[core] / "ansible-test", "sanity", "--python", PYTHON, "--color", "no"]
    sanity = gate(f"ansible-test sanity, {core}", command, cwd=collection, env=env, refuse=["All targets skipped"])
    return sanity + units(core, collection, env)


def units(core: str, collection: Path, env: dict[str, str]) -> Outcome:
    name = f"ansible-test units, {core}"
    print(f"== {name}", flush=True)
    command = [CORES[core] / "ansible-test", "units", "--python", PYTHON, "--color", "no"]
    measured = core == COVERED_BY
    result = subprocess.run(command + ["--coverage"] * measured, cwd=collection, env=env, check=False)
    REPORTS.mkdir(parents=True, exist_ok=True)
    reports = [
        Path(shutil.copy2(path, REPORTS / f"collection-{CORES[core].parent.name}-{path.name}"))
        for path in sorted((collection / "tests/output/junit").glob("*units*.xml"))
    ]
    outcome = junit(name, reports, result.returncode)
    return outcome + covered(core, collection, env) if measured else outcome


def covered(core: str, collection: Path, env: dict[str, str]) -> Outcome:
    command = [CORES[core] / "ansible-test", "coverage", "report", "--omit", "*/tests/*", "--color", "no"]
    shown = subprocess.run(command, cwd=collection, env=env, check=False, capture_output=True, text=True).stdout
    total = re.search(r"^TOTAL.* (\d+)%$", shown, re.MULTILINE)
    percent = int(total[1]) if total else 0
    print(f"== units reach {percent} % of the plugins", flush=True)
    if percent >= COVERED_PERCENT:
        return Outcome(passed=1)
    print(shown)
    return Outcome(
        failed=(f"ansible-test units: {percent} % of the plugins are reached, less than {COVERED_PERCENT} %",)
    )


def release() -> int:
    """Turns the fragments into the changelog. In the copy too: the tool reads the plugins' documentation."""
    with copy() as tree:
        collection = tree / "ansible_collections/omnirelay/mesh"
        env = environment(ANSIBLE_COLLECTIONS_PATH=str(tree), ANSIBLE_HOME=str(tree / "home"))
        command = [BIN / "antsibull-changelog", "release", "--reload-plugins", "--update-existing"]
        status = subprocess.run(command, cwd=collection, env=env, check=False).returncode
        if status == 0:
            for fragment in (ROOT / "changelogs/fragments").glob("*.yml"):
                if not (collection / fragment.relative_to(ROOT)).exists():
                    fragment.unlink()
            for name in ("CHANGELOG.rst", "changelogs/changelog.yaml"):
                shutil.copy2(collection / name, ROOT / name)
        return status


if __name__ == "__main__":
    sys.exit(release() if sys.argv[1:] == ["release"] else run().report())
