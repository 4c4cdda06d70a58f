"""Fixtures of tests against servers: a script, no keys of the environment, no real waiting."""

from collections.abc import Iterator

import pytest
from scripted_server import Script


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and addresses of whoever runs the tests stay out of them."""
    for name in ("OPENAI_API_KEY", "CAMELID_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a client would have waited; it does not."""
    found: list[float] = []
    monkeypatch.setattr("camelid.lm.connection.Connection._wait", lambda _, seconds: found.append(seconds))
    return found
