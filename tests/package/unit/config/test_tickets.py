"""The section `tickets`: what is wrong is named by its path, and no secret stands in it."""

import pytest
from tests.package.unit.config.test_settings import PLAIN

from omnirelay.config.settings import parse
from omnirelay.errors import ConfigInvalid

SERVICENOW = {"url": "https://acme.service-now.com", "username": "mesh", "credential_file": "/etc/omnirelay/snow"}


def tickets(**section: object):
    return parse({**PLAIN, "tickets": section}).tickets


def test_without_the_section_there_is_no_ticket_source():
    assert parse(PLAIN).tickets is None


def test_the_section_names_one_system_and_bounds_every_call():
    found = tickets(servicenow=SERVICENOW, timeout="2s", retries=1)
    assert found.system.url == "https://acme.service-now.com"
    assert (found.timeout, found.deadline, found.retries) == (2.0, 6.0, 1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:8080/jira/", "https://[::1]:8443"])
def test_an_address_is_taken(url):
    assert tickets(jira={**SERVICENOW, "url": url}).system.url == url.rstrip("/")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({}, "tickets: name exactly one of servicenow, jira, webhook; found none"),
        ({"servicenow": SERVICENOW, "jira": SERVICENOW}, "tickets: name exactly one"),
        ({"servicenow": {**SERVICENOW, "password": "x"}}, "tickets.servicenow.password: there is no such setting"),
        ({"servicenow": {**SERVICENOW, "url": "http://acme.service-now.com"}}, "tickets.servicenow.url: "),
        (
            {"servicenow": {**SERVICENOW, "url": "https://a:b@acme.example"}},
            "tickets.servicenow.url: an address holds no",
        ),
        ({"servicenow": {"url": "https://acme.example"}}, "tickets.servicenow.credential_file: "),
        ({"servicenow": SERVICENOW, "timeout": 3}, "tickets.timeout: 3 is not a duration"),
        ({"servicenow": SERVICENOW, "deadline": "0s"}, "tickets.deadline: '0s' is not positive"),
        ({"servicenow": SERVICENOW, "retries": 99}, "tickets.retries: "),
    ],
)
def test_what_is_wrong_is_named_by_its_path(section, told):
    with pytest.raises(ConfigInvalid) as refused:
        tickets(**section)
    assert told in refused.value.message


def test_people_are_named_as_in_the_rules_of_access():
    people = {"jane@example.net": "operator/jane", "bot": "token/awx"}
    settings = parse({**PLAIN, "tickets": {"servicenow": SERVICENOW, "people": people}})
    assert settings.ticket_people() == {"jane@example.net": "spiffe://omnirelay/operator/jane", "bot": "token/awx"}


def test_without_the_section_nobody_is_named():
    assert parse(PLAIN).ticket_people() == {}
