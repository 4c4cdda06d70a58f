"""Requests that schemathesis makes of our OpenAPI description: none of them makes the server fail."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from running_server import PATIENCE, Server, get
from schemathesis import GenerationMode

from camelid.engine.engine import Engine
from camelid.serve.app import make_app
from camelid.serve.description import BODIES, description
from camelid.serve.models import Models, Served

EXAMPLES = 12
"""For each endpoint, of right and of wrong requests; a few seconds in all."""
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*HealthCheck],
)
SCHEMA = schemathesis.openapi.from_dict(description())
OPERATIONS = [each.ok() for each in SCHEMA.get_all_operations()]
CASES = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if operation.path in BODIES or mode is GenerationMode.POSITIVE
]


@pytest.fixture(scope="module")
def fuzzed(calling: Engine) -> Iterator[str]:
    with Server(make_app(Models([Served("caller", calling, most_tokens=2)]))) as server:
        yield server.url


@pytest.mark.parametrize(
    ("operation", "mode"), CASES, ids=[f"{each.path}-{mode.value}" for each, mode in CASES]
)
def test_no_request_makes_the_server_fail(fuzzed: str, operation: Any, mode: GenerationMode) -> None:
    statuses = set[int]()

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        given = case.as_transport_kwargs(base_url=fuzzed)
        kept = {name: given[name] for name in ("json", "headers", "params") if name in given}
        if isinstance(body := given.get("data"), str | bytes):
            kept["content"] = body
        if isinstance(body := kept.get("json"), dict) and isinstance(body.get("model"), str):
            kept["json"] = body | {"model": "caller"}  # other names say little
        response = client.request(case.method, given["url"], **kept)
        statuses.add(response.status_code)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert response.json()["error"]["message"]

    with httpx.Client(timeout=PATIENCE) as client:
        ask()
    assert statuses


def test_the_description_names_every_endpoint(fuzzed: str) -> None:
    described = get(f"{fuzzed}/openapi.json").json()
    assert described == description()
    for path in BODIES:
        assert get(fuzzed + path).status_code == 405  # it exists
    for path, methods in described["paths"].items():
        if "get" in methods and "{" not in path:
            assert get(fuzzed + path).is_success
