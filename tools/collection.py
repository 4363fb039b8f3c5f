"""Tests the collection with Ansible's own tools, on a copy laid out the way they insist on.

ansible-test wants to be called from …/ansible_collections/omnirelay/mesh, resolves symbolic links before it looks,
and in a directory that some git repository ignores it skips every target and reports success. Hence a copy in a
temporary directory outside any repository, of what the collection consists of (uncommitted files included).
"""

import contextlib
import fcntl
import os
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
    stand_in = made / ".ansible/test/cache/get_pip_24_2.py"
    stand_in.parent.mkdir(parents=True, exist_ok=True)
    stand_in.write_text(GET_PIP)
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
        total = gate(
            "ansible-lint", [BIN / "ansible-lint", "--profile", "production", "--offline"], cwd=collection, env=env
        )
        total += gate(
            "galaxy build",
            [BIN / "ansible-galaxy", "collection", "build", "--output-path", tree],
            cwd=collection,
            env=env,
        )
        env["HOME"] = str(home())
        return total + ansible_test(collection, env)


def ansible_test(collection: Path, env: dict[str, str]) -> Outcome:
    with (Path(env["HOME"]) / "lock").open("w") as lock:
        # Two runs in one checkout would build the same environments on top of each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        sanity = gate(
            "ansible-test sanity",
            [BIN / "ansible-test", "sanity", "--python", PYTHON, "--color", "no"],
            cwd=collection,
            env=env,
            refuse=["All targets skipped"],
        )
        return sanity + units(collection, env)


def units(collection: Path, env: dict[str, str]) -> Outcome:
    print("== ansible-test units", flush=True)
    result = subprocess.run(
        [BIN / "ansible-test", "units", "--python", PYTHON, "--color", "no"], cwd=collection, env=env, check=False
    )
    REPORTS.mkdir(parents=True, exist_ok=True)
    reports = [
        Path(shutil.copy2(path, REPORTS / f"collection-{path.name}"))
        for path in sorted((collection / "tests/output/junit").glob("*units*.xml"))
    ]
    return junit("ansible-test units", reports, result.returncode)


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
