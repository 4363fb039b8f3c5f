"""The collection's modules against the control API's OpenAPI document: no field of either is missing in the other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from omnirelay.api import create_app

ROOT = Path(__file__).resolve().parents[3]
Json = dict[str, Any]

CHECK_MODE = "check mode of the task"
ALL_PAGES = "a module reads all pages"

REQUESTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "listClusters": ("cluster_info", {"limit": ALL_PAGES, "page_token": ALL_PAGES}),
    "createCluster": ("cluster", {"dry_run": CHECK_MODE}),
    "updateCluster": ("cluster", {"dry_run": CHECK_MODE, "If-Match": "the option etag"}),
    "deleteCluster": ("cluster", {"dry_run": CHECK_MODE, "If-Match": "the option etag"}),
    "getReplication": ("replication_info", {}),
    "getRouting": ("routing_info", {}),
    "planFailover": ("failover", {"dry_run": CHECK_MODE, "Idempotency-Key": "the plan hash does that"}),
    "listFailovers": ("failover_info", {}),
    "getFailover": ("failover_info", {}),
    "decideFailover": ("failover_approval", {"dry_run": CHECK_MODE, "decision": "the option state"}),
    "getReport": ("failover_report", {}),
    "listDivergence": ("divergence_info", {}),
    "getDivergence": ("divergence_info", {}),
    **{f"{how}Divergence": ("divergence", {"dry_run": CHECK_MODE}) for how in ("discard", "replay", "export")},
    **{
        f"{step}Failover": (
            "failover_step",
            {"dry_run": CHECK_MODE, "wait": "the option wait_timeout", "Idempotency-Key": "a step is idempotent"},
        )
        for step in ("preflight", "drain", "promote", "verify", "complete", "abort")
    },
    "listAudit": ("audit_info", {}),
}
"""Operation → module, and what of the request is no option, with the reason."""

NO_MODULE: Mapping[str, str] = {
    "replaceCluster": "updateCluster changes what is given and leaves the rest",
    "getCluster": "cluster_info reads the whole mesh with one call, and cluster what it changes",
    "listApprovals": "they are in the failover",
    **dict.fromkeys(("reseedCluster", "rebuildCluster"), "once in a cluster's life: omnirelay mesh clusters"),
    "postToTicket": "by itself after each step; to hurry it: omnirelay mesh failovers ticket",
    "watchRouting": "a stream",
    "watchFailover": "a stream; failover_wait reads",
    **dict.fromkeys(("getHealth", "getReadiness", "getReaders", "getMetrics", "getVersion"), "for monitoring"),
}

OWN: Mapping[str, set[str]] = {
    "cluster": {"state", "etag"},
    "divergence": {"state", "resolution", "dest", "wait_timeout"},
    "divergence_info": {"namespaces", "details"},
    "failover": {"state", "failover_id"},
    "failover_approval": {"state"},
    "failover_report": {"dest", "format"},
    "failover_step": {"step", "wait_timeout"},
    "cluster_info": {"cluster_id"},
}
"""Options that say what a module does with the API, rather than what it hands to it."""

TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "dict"}


@pytest.fixture(scope="module")
def document() -> Json:
    schema: Json = create_app(SimpleNamespace(version="0")).openapi()  # type: ignore[arg-type]
    return schema


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Json]]:
    """Argument specs by module, without what every module has."""
    tree = tmp_path_factory.mktemp("collections")
    link = tree / "ansible_collections/omnirelay/mesh"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    sys.path.insert(0, str(tree))
    try:
        plugins = "ansible_collections.omnirelay.mesh.plugins"
        common = import_module(f"{plugins}.module_utils._spec").CONNECTION_SPEC
        names = {module for module, _ in REQUESTS.values()}
        found = {name: import_module(f"{plugins}.modules.{name}").SPEC["argument_spec"] for name in names}
        yield {name: {k: v for k, v in spec.items() if k not in common} for name, spec in found.items()}
    finally:
        sys.path.remove(str(tree))
        for name in [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]:
            del sys.modules[name]


def operations(document: Json) -> dict[str, Json]:
    return {op["operationId"]: op for path in document["paths"].values() for op in path.values()}


def resolved(document: Json, schema: Json) -> Json:
    """Without references, and of what may be null what it is otherwise."""
    while True:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            (schema,) = (part for part in schema["anyOf"] if part.get("type") != "null")
        else:
            return schema


def fields(document: Json, operation: Json) -> dict[str, Json]:
    found = {p["name"]: resolved(document, p["schema"]) for p in operation.get("parameters", ())}
    if "requestBody" in operation:
        body = resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
        found |= {name: resolved(document, schema) for name, schema in body["properties"].items()}
    return found


def test_every_operation_has_a_module_or_a_reason_not_to(document: Json) -> None:
    assert operations(document).keys() == REQUESTS.keys() | NO_MODULE.keys()


@pytest.mark.parametrize("operation", REQUESTS)
def test_every_field_of_a_request_is_an_option(document: Json, specs: Mapping[str, Json], operation: str) -> None:
    module, elsewhere = REQUESTS[operation]
    wanted = fields(document, operations(document)[operation])
    assert elsewhere.keys() <= wanted.keys(), "a reason for something that is not there"
    compare_options(document, {name: schema for name, schema in wanted.items() if name not in elsewhere}, specs[module])


def compare_options(document: Json, wanted: Mapping[str, Json], spec: Json) -> None:
    assert wanted.keys() <= spec.keys()
    for name, schema in wanted.items():
        option = spec[name]
        # A list takes the place of a path's single value where a module does several of them.
        assert option["type"] in (TYPES[schema["type"]], "list"), name
        if "enum" in schema:
            assert sorted(option["choices"]) == sorted(schema["enum"]), name
        if "properties" in schema:
            nested = {key: resolved(document, value) for key, value in schema["properties"].items()}
            assert nested.keys() == option["options"].keys(), name
            compare_options(document, nested, option["options"])


def test_every_option_is_a_field_or_the_modules_own(document: Json, specs: Mapping[str, Json]) -> None:
    for module, spec in specs.items():
        handed = set[str]()
        for operation, (by, _) in REQUESTS.items():
            if by == module:
                handed |= fields(document, operations(document)[operation]).keys()
        assert spec.keys() - handed - OWN.get(module, set()) == set(), module
        assert OWN.get(module, set()) <= spec.keys(), module


# --- what is returned ---------------------------------------------------------------------------------------------

ANSWERS = (
    ("Cluster", "cluster_info", "clusters"),
    ("Replication", "replication_info", "replication"),
    ("FailoverModel", "failover_info", "failovers"),
    ("DivergenceModel", "divergence_info", "divergences"),
    ("AuditEntryModel", "audit_info", "entries"),
    ("Report", "failover_report", "report"),
    ("KeyDiffModel", "divergence_info", "details"),
    ("NamespaceRoute", "routing_info", "namespaces"),
)
"""Schema, and the module with the key of its RETURN where that is documented."""


def documented(module: str) -> Json:
    source = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    found: Json = yaml.safe_load(source.partition('RETURN = r"""')[2].partition('"""')[0])
    return found


@pytest.mark.parametrize(("schema", "module", "key"), ANSWERS, ids=[schema for schema, _, _ in ANSWERS])
def test_every_field_of_an_answer_is_documented(document: Json, schema: str, module: str, key: str) -> None:
    missing = list(undocumented(document, document["components"]["schemas"][schema], documented(module)[key], key))
    assert not missing


def undocumented(document: Json, schema: Json, entry: Json, where: str) -> Iterator[str]:
    """Fields without an entry, or entries without a field; where entries end, text or sample names the fields."""
    schema = resolved(document, schema)
    while schema.get("type") == "array" or isinstance(schema.get("additionalProperties"), dict):
        schema = resolved(document, schema.get("items") or schema["additionalProperties"])
    properties = schema.get("properties")
    if not properties:
        return
    if "contains" not in entry:
        told = set(re.findall(r"\w+", yaml.safe_dump([entry["description"], entry.get("sample")])))
        # What one module documents in full, another may refer to.
        if "#module:" not in str(entry["description"]):
            yield from (f"{where}.{name}" for name in properties if name not in told)
        return
    yield from (f"{where}.{name}" for name in properties.keys() ^ entry["contains"].keys())
    for name in properties.keys() & entry["contains"].keys():
        yield from undocumented(document, properties[name], entry["contains"][name], f"{where}.{name}")


@pytest.mark.parametrize(
    ("schema", "module", "not_shown", "own"),
    [
        ("ClusterList", "cluster_info", {"next_page_token"}, set()),
        ("Routing", "routing_info", set(), set()),
        ("AuditPage", "audit_info", set(), set()),
        ("FailoverList", "failover_info", set(), set()),
        ("DivergenceList", "divergence_info", set(), {"details"}),
    ],
)
def test_the_whole_answer_is_returned(
    document: Json, schema: str, module: str, not_shown: set[str], own: set[str]
) -> None:
    answered = document["components"]["schemas"][schema]["properties"].keys() - not_shown
    assert documented(module).keys() == answered | own | {"request_id", "error"}


def test_an_error_carries_the_whole_problem(document: Json) -> None:
    renamed = {"detail": "message", "status": "http_status"}
    problem = document["components"]["schemas"]["Problem"]["properties"].keys() - {
        "type",
        "title",
    }  # both from the code
    for path in sorted((ROOT / "plugins/modules").glob("[a-z]*.py")):
        assert documented(path.stem)["error"]["contains"].keys() == {renamed.get(name, name) for name in problem}


PLAN = {
    f"preflight_{name}" for name in ("namespaces", "reason", "change_ticket", "run_url", "approval_source", "limits")
}
"""What every plan takes, whatever its mode."""


class _Tasks(yaml.SafeLoader):
    """With Ansible's own tag for text that is no template."""


_Tasks.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def plans() -> Iterator[Any]:
    """The variables of each place in the collection that has the role preflight make a plan."""
    for path in sorted([*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").glob("*/tasks/*.yml")]):
        for task in tasks_in(yaml.load(path.read_text(), _Tasks)):
            role = (task.get("ansible.builtin.include_role") or {}).get("name")
            if role == "omnirelay.mesh.preflight" and {"preflight_target", "preflight_reverses"} & set(task["vars"]):
                yield pytest.param(task["vars"], id=str(path.relative_to(ROOT)))


def tasks_in(tree: Any) -> Iterator[Json]:
    for each in tree if isinstance(tree, list) else []:
        yield each
        for name in ("tasks", "block", "rescue", "always"):
            yield from tasks_in(each.get(name))


@pytest.mark.parametrize("given", list(plans()))
def test_whoever_makes_a_plan_hands_on_all_that_a_plan_takes(given: Json) -> None:
    """Approvals that were to come from the ticket alone came from anybody, where the playbook dropped the variable."""
    assert given.keys() >= PLAN, f"not handed on: {sorted(PLAN - given.keys())}"
