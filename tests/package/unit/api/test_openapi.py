"""The document is complete: whoever generates a client from it misses nothing."""

import pytest

from omnirelay.api.openapi import METHODS

STEPS = ("preflight", "drain", "promote", "verify", "complete", "abort")
PATHS = {
    "/control/clusters": {"get", "post"},
    "/control/clusters/{cluster_id}": {"get", "put", "patch", "delete"},
    "/control/clusters/{cluster_id}/rebuild": {"post"},
    "/control/clusters/{cluster_id}/reseed": {"post"},
    "/control/clusters/{cluster_id}/replication": {"get"},
    "/control/routing": {"get"},
    "/control/routing/readers": {"get"},
    "/control/routing/watch": {"get"},
    "/control/failovers": {"get", "post"},
    "/control/failovers/{failover_id}": {"get"},
    "/control/failovers/{failover_id}/events": {"get"},
    "/control/failovers/{failover_id}/approvals": {"get", "post"},
    "/control/failovers/{failover_id}/report": {"get"},
    "/control/failovers/{failover_id}/ticket": {"post"},
    **{f"/control/failovers/{{failover_id}}/{step}": {"post"} for step in STEPS},
    "/control/divergence": {"get"},
    "/control/divergence/{divergence_id}": {"get"},
    **{f"/control/divergence/{{divergence_id}}/{decision}": {"post"} for decision in ("discard", "export", "replay")},
    "/control/audit": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/version": {"get"},
    "/metrics": {"get"},
}
OPEN_TO_ALL = {"/healthz", "/readyz", "/version"}


@pytest.fixture
async def document(mesh):
    return (await mesh.call(None, "GET", "/openapi.json")).json()


@pytest.fixture
def operations(document):
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_every_path_of_the_interface(document):
    assert document["openapi"].startswith("3.1")
    assert {path: set(item) & set(METHODS) for path, item in document["paths"].items()} == PATHS


def test_every_operation_is_described_and_named_once(operations):
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names)
    for path, method, operation in operations:
        assert operation["description"], (method, path)
        assert operation["tags"], (method, path)


def test_every_operation_may_answer_a_problem_and_succeeds_with_something(operations):
    for path, method, operation in operations:
        problem = operation["responses"]["default"]["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}, (method, path)
        successes = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        assert successes, (method, path)
        assert all(answer["content"] for answer in successes), (method, path)
        assert "422" not in operation["responses"]
        assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())


def test_every_operation_says_who_may_call_it(document, operations):
    assert set(document["components"]["securitySchemes"]) == {"certificate", "token"}
    for path, method, operation in operations:
        if path in OPEN_TO_ALL:
            assert operation["security"] == []
        else:
            assert operation["x-required-scope"].startswith("mesh."), (method, path)
            assert {name for choice in operation["security"] for name in choice} == {"certificate", "token"}


def test_changes_of_descriptors_take_an_etag(document):
    for method in ("put", "patch", "delete"):
        operation = document["paths"]["/control/clusters/{cluster_id}"][method]
        assert "If-Match" in {parameter["name"] for parameter in operation["parameters"]}


def test_references_resolve(document):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_unknown_fields_are_refused_in_every_request(document, operations):
    for path, method, operation in operations:
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]
            assert document["components"]["schemas"][reference.rpartition("/")[2]]["additionalProperties"] is False, (
                method,
                path,
            )


def test_every_text_of_a_request_is_bounded(document, operations):
    """What a caller sends may come back in a refusal, which is on record."""

    def unbounded(schema, place):
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for part in schema.get("anyOf", ()):
            yield from unbounded(part, place)
        for name, part in schema.get("properties", {}).items():
            yield from unbounded(part, f"{place}.{name}")
        for inner in ("items", "additionalProperties", "propertyNames"):
            if isinstance(schema.get(inner), dict):
                yield from unbounded(schema[inner], f"{place}.{inner}")
        limit = {"string": "maxLength", "array": "maxItems"}.get(schema.get("type"))
        if limit and not schema.keys() & {limit, "enum", "const"}:
            yield place

    found = set()
    for path, method, operation in operations:
        told = f"{method} {path}"
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path" or (parameter["in"] == "query" and method != "get"):
                found |= set(unbounded(parameter["schema"], f"{told} {parameter['name']}"))
        if "requestBody" in operation:
            found |= set(unbounded(operation["requestBody"]["content"]["application/json"]["schema"], told))
    assert found == set()
