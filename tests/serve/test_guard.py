"""Who may ask: keys, hosts, origins and loads."""

import threading
from pathlib import Path

import httpx
import pytest
from running_server import PATIENCE, Server, get, post

from camelid.base.errors import WrongCall
from camelid.cli import main as cli
from camelid.engine.engine import Engine
from camelid.serve.app import make_app
from camelid.serve.guard import Rules, is_local, rules_for
from camelid.serve.keys import add_key, read_keys
from camelid.serve.models import Models, Served

BODY = {"messages": [{"role": "user", "content": "the cat sat"}], "max_tokens": 4}


def test_keys_are_asked_for_and_kept_as_digests(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first, second = add_key(file, "ann"), add_key(file, "bob")
    assert first not in file.read_text()
    assert [*read_keys(file)] == ["ann", "bob"]
    rules = Rules(keys=read_keys(file))
    with Server(make_app(Models([Served("tiny", engine)]), rules)) as server:
        ask = f"{server.url}/v1/chat/completions"
        for key in (None, "Bearer wrong", f"Basic {first}", "Bearer", f"Bearer {first}x"):
            refused = post(ask, json=BODY, headers={} if key is None else {"Authorization": key})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        for key in (first, second):
            assert post(ask, json=BODY, headers={"Authorization": f"Bearer {key}"}).is_success
        assert get(f"{server.url}/health").is_success
        assert get(f"{server.url}/v1/models").status_code == 401


def test_files_of_keys_that_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with pytest.raises(WrongCall, match="there is no such file"):
        read_keys(file)
    add_key(file, "ann")
    with pytest.raises(WrongCall, match="there is a key named 'ann'"):
        add_key(file, "ann")
    file.write_text(f"{file.read_text()}bob secret\n")
    with pytest.raises(WrongCall, match="keys:2: expected a new name and the SHA-256"):
        read_keys(file)
    file.write_text("\n")
    with pytest.raises(WrongCall, match="nobody could ask"):
        read_keys(file)


def test_beyond_this_machine_a_key_is_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["serve", "nowhere", "--host", "0.0.0.0"]) == 2
    assert "--host 0.0.0.0 is reached from other machines, so a key is needed" in capsys.readouterr().err
    assert cli.main(["serve", "--new-key", "ann", "--keys", str(tmp_path / "keys")]) == 0
    assert capsys.readouterr().out.startswith("camelid-")
    assert [is_local(host) for host in ("localhost", "::1", "127.9.9.9", "0.0.0.0", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_name_that_is_not_the_servers_is_refused(url: str, host: str) -> None:
    response = post(f"{url}/v1/chat/completions", json=BODY, headers={"Host": host})
    assert response.status_code in (400, 403)  # 400 is the HTTP server's, for an empty one


def test_pages_of_other_sites_may_not_ask(url: str, engine: Engine) -> None:
    other = {"Origin": "https://evil.example"}
    assert post(f"{url}/v1/chat/completions", json=BODY, headers=other).status_code == 403
    assert httpx.options(f"{url}/v1/chat/completions", headers=other, timeout=PATIENCE).status_code == 403
    assert post(f"{url}/v1/chat/completions", json=BODY, headers={"Origin": "null"}).status_code == 403
    assert post(f"{url}/v1/chat/completions", json=BODY, headers={"Origin": url}).is_success
    allowed = "https://chat.example.org"
    rules = rules_for("127.0.0.1", None, [allowed])
    with Server(make_app(Models([Served("tiny", engine)]), rules)) as server:
        before = httpx.options(
            f"{server.url}/v1/chat/completions", headers={"Origin": allowed}, timeout=PATIENCE
        )
        assert (before.status_code, before.headers["access-control-allow-origin"]) == (204, allowed)
        answer = post(f"{server.url}/v1/chat/completions", json=BODY, headers={"Origin": allowed})
        assert (answer.is_success, answer.headers["access-control-allow-origin"]) == (True, allowed)


def test_responses_carry_the_security_headers(url: str) -> None:
    headers = get(f"{url}/v1/models").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


def test_a_full_server_says_when_to_try_again(engine: Engine) -> None:
    rules = Rules(most_requests=3, most_of_one=2)
    with Server(make_app(Models([Served("tiny", engine)]), rules)) as server:
        ask, statuses, gate = f"{server.url}/v1/chat/completions", list[int](), threading.Barrier(6)
        waits = set[str | None]()

        def send() -> None:
            gate.wait()
            response = post(ask, json=BODY | {"max_tokens": 60})
            statuses.append(response.status_code)
            waits.add(response.headers.get("retry-after"))

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 429}
        assert waits == {None, "1"}
        assert post(ask, json=BODY).is_success  # nothing is held afterwards


def test_text_to_tokens_and_back(url: str, engine: Engine) -> None:
    counted = post(f"{url}/tokenize", json={"content": "the cat sat"}).json()
    assert tuple(counted["tokens"]) == engine.encode("the cat sat")
    assert counted["context_length"] == engine.context_length
    back = post(f"{url}/detokenize", json={"tokens": counted["tokens"]}).json()
    assert back["content"].endswith("the cat sat")
    chat = post(f"{url}/tokenize", json={"messages": BODY["messages"]}).json()
    assert chat["count"] > counted["count"]
    for body in ({}, {"content": "a", "messages": []}, {"messages": []}):
        assert post(f"{url}/tokenize", json=body).status_code == 400
    assert post(f"{url}/detokenize", json={"tokens": [10**6]}).status_code == 400


def test_metrics_count_requests_and_tokens(engine: Engine) -> None:
    with Server(make_app(Models([Served("tiny", engine)]))) as server:
        post(f"{server.url}/v1/chat/completions", json=BODY | {"temperature": 0})
        post(f"{server.url}/v1/chat/completions", json={})
        get(f"{server.url}/nowhere")
        lines = get(f"{server.url}/metrics").text.splitlines()
    assert 'camelid_requests_total{path="/v1/chat/completions",status="200"} 1.0' in lines
    assert 'camelid_requests_total{path="/v1/chat/completions",status="400"} 1.0' in lines
    assert 'camelid_requests_total{path="other",status="404"} 1.0' in lines
    assert 'camelid_completion_tokens_total{model="tiny"} 4.0' in lines
    assert 'camelid_running{model="tiny"} 0.0' in lines
    assert 'camelid_request_seconds_count{path="/v1/chat/completions"} 2.0' in lines
