# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters as hosts, in groups that say what they are now."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible_collections.omnirelay.mesh.tests.unit.plugins.fake_control_api import Problem


@pytest.fixture
def read(tmp_path, api):
    def read(name="mesh.yml", **options):
        path = tmp_path / name
        given = dict(dict(plugin="omnirelay.mesh.mesh", endpoint="[%s]" % api.endpoint, token="alice-token", retries=0), **options)
        path.write_text("\n".join("%s: %s" % option for option in given.items() if option[1] is not None))
        plugin = inventory_loader.get("omnirelay.mesh.mesh")
        assert plugin.verify_file(str(path)) is name.endswith(("mesh.yml", "mesh.yaml"))
        inventory = InventoryData()
        plugin.parse(inventory, DataLoader(), str(path))
        return inventory

    return read


def hosts(inventory, group):
    return sorted(host.name for host in inventory.groups[group].get_hosts())


def test_clusters_of_all_pages_by_state_and_region(read, mesh):
    mesh.descriptors["ap-south"] = dict(maintenance=True)
    inventory = read()
    assert sorted(inventory.hosts) == ["ap-south", "eu-west", "us-east"]
    assert (hosts(inventory, "state_active"), hosts(inventory, "state_passive")) == (["us-east"], ["eu-west"])
    assert (hosts(inventory, "state_maintenance"), hosts(inventory, "state_draining")) == (["ap-south"], [])
    assert hosts(inventory, "region_us_east_1") == ["us-east"]
    variables = inventory.hosts["us-east"].vars
    assert variables["mesh_cluster"]["namespaces"] == [dict(namespace="default", epoch=1)]
    assert variables["ansible_host"] == "127.0.0.1"


def test_groups_of_ones_own(read):
    inventory = read(groups="{home: mesh_cluster.region == 'eu-west-1'}", compose="{where: mesh_cluster.region}")
    assert hosts(inventory, "home") == ["eu-west"]
    assert inventory.hosts["eu-west"].vars["where"] == "eu-west-1"


def test_endpoint_and_identity_of_the_environment(read, api, monkeypatch):
    monkeypatch.setenv("OMNIRELAY_ENDPOINT", "http://127.0.0.1:9," + api.endpoint)
    monkeypatch.setenv("OMNIRELAY_TOKEN", "bob-token")
    assert read(endpoint=None, token=None).hosts


def test_mesh_that_does_not_answer_is_an_error_and_no_empty_inventory(read, mesh):
    mesh.refuse("/control/clusters", Problem(401, "unauthenticated", "Nobody is known by this.", "Log in."))
    with pytest.raises(AnsibleParserError, match="Nobody is known by this. Log in."):
        read()


def test_other_files_are_not_for_it(tmp_path):
    path = tmp_path / "hosts.yml"
    path.write_text("all:")
    assert not inventory_loader.get("omnirelay.mesh.mesh").verify_file(str(path))
