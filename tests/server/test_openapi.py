"""The server's description of itself: is it right, and does the server keep to it whatever it is sent?"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.running import APP, Running

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="package")
def api(server: Running) -> Any:
    """The description as it is published."""
    answer = httpx.get(f"{server.url}/openapi.json")
    assert answer.status_code == 200
    schema = schemathesis.openapi.from_dict(answer.json())
    schema.config.update(base_url=server.url)
    return schema


def test_the_description_names_the_endpoints_fields_and_defaults(server: Running) -> None:
    schemas = httpx.get(f"{server.url}/openapi.json").json()["components"]["schemas"]
    fields = schemas["Input"]["properties"]
    assert schemas["Input"]["required"] == ["image_url"]
    names = ("motion_bucket_id", "cond_aug", "steps", "fps")
    assert {name: fields[name]["default"] for name in names} == {
        "motion_bucket_id": 127,
        "cond_aug": 0.02,
        "steps": 4,
        "fps": 10,
    }
    assert (fields["motion_bucket_id"]["minimum"], fields["motion_bucket_id"]["maximum"]) == (0, 1023)
    assert set(schemas["Output"]["properties"]) == {"video", "seed"}


def test_it_describes_every_route_of_the_clients(server: Running) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    wanted = {f"/queue/{APP}", f"/run/{APP}", f"/queue/{APP}/requests/{{request_id}}/status/stream"}
    assert wanted < set(paths)
    assert not [path for path in paths if path.endswith("/")]


def test_the_server_keeps_to_its_description(api: Any, server: Running) -> None:
    for found in api.get_all_operations():

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=found.ok().as_strategy())
        def check(case: Any) -> None:
            answer = case.call(headers={"Authorization": f"Key {server.alice}"}, timeout=60)
            case.validate_response(answer, checks=CHECKS)

        check()
