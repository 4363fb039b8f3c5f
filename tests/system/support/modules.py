"""Single tasks of the collection's modules, each in a play of its own, and what their documentation promises."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import yaml
from tests.system.support.playbooks import CHECKOUT, Playbooks

from omnirelay.demo.mesh import REQUESTER

Json = dict[str, Any]

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Modules:
    playbooks: Playbooks

    def run(self, module: str, *, check: bool = False, operator: str = REQUESTER, **options: Any) -> Json:
        """The task's result, in diff mode; `failed` is in it when it failed."""
        pki = self.playbooks.mesh.pki
        identity = {"client_cert": str(pki / f"{operator}.crt"), "client_key": str(pki / f"{operator}.key")}
        task = {f"omnirelay.mesh.{module}": {**identity, **options}, "register": "result", "ignore_errors": True}
        say = {"ansible.builtin.debug": {"msg": "RESULT {{ result | to_json | b64encode }} END"}}
        play = self.playbooks.directory / f"task-{next(_numbers)}.yml"
        play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task, say]}]))
        done = self.playbooks.run(play, "--diff", *(["--check"] if check else []))
        said = re.search(r"RESULT (\S+) END", done.output)
        assert said, done.output
        result: Json = json.loads(base64.b64decode(said[1]))
        result.pop("invocation", None)
        if "error" in result:
            assert not list(_differences({"error": _return(module)["error"]}, {"error": result["error"]})), result
        return result

    def done(self, module: str, **options: Any) -> Json:
        """As `run`, for a task that must end well and return what is documented."""
        result = self.run(module, **options)
        assert not result.get("failed"), result["msg"]
        undocumented = list(_differences(_documented(module), {k: v for k, v in result.items() if k not in NOT_OURS}))
        assert not undocumented, (module, undocumented)
        return result

    def change(self, module: str, read: Callable[[], object], **options: Any) -> Json:
        """Holds that check mode changes nothing and reports what the real run then does, and that doing it again
        changes nothing. `read` reads the state by other means. Answers the real run's result."""
        before = read()
        predicted = self.done(module, check=True, **options)
        assert read() == before, "check mode has changed something"
        real = self.done(module, **options)
        after = read()
        assert after != before, "nothing has happened"
        assert (predicted["changed"], real["changed"]) == (True, True)
        assert real["diff"]["before"] != real["diff"]["after"]
        assert predicted["diff"] == real["diff"]
        self.unchanged(module, read, **options)
        return real

    def unchanged(self, module: str, read: Callable[[], object], **options: Any) -> Json:
        """Holds that neither check mode nor a real run changes anything, and that both say so. Answers the result."""
        before = read()
        predicted = self.done(module, check=True, **options)
        real = self.done(module, **options)
        assert (predicted["changed"], real["changed"]) == (False, False)
        assert read() == before
        assert predicted.keys() == real.keys()
        return real


NOT_OURS = ("changed", "failed", "warnings", "deprecations")
"""Keys that Ansible adds by itself."""


def _documented(module: str) -> Json:
    """What is returned unless it fails."""
    return {name: entry for name, entry in _return(module).items() if entry["returned"] != "failure"}


def _return(module: str) -> Json:
    source = (CHECKOUT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    documented: Json = yaml.safe_load(source.partition('RETURN = r"""')[2].partition('"""')[0])
    return documented


def _differences(documented: Json | None, value: object, where: str = "") -> Iterator[str]:
    """Keys that are returned and not documented, or the other way round, down to where documentation ends."""
    if isinstance(value, list):
        for item in value:
            yield from _differences(documented, item, where)
    elif isinstance(value, dict) and documented:
        yield from (f"{where}.{name}" for name in value.keys() ^ documented.keys() if not _may_lack(name, documented))
        for name in value.keys() & documented.keys():
            yield from _differences(documented[name].get("contains"), value[name], f"{where}.{name}")


def _may_lack(name: str, documented: Json) -> bool:
    return name in documented and documented[name]["returned"] not in ("always", "success", "when diff mode is on")
