"""Which key goes to which server: OPENAI_API_KEY only to its address, none unencrypted to another machine."""

import httpx
import pytest
from scripted_server import Answer, Script

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.keys import key_for, shown
from camelid.lm.remote import RemoteLM

HI = Answer({"choices": [{"text": "Hi", "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    ("base", "url", "key"),
    [
        (None, "https://api.openai.com/v1", "openai"),
        (None, "https://api.openai.com:443/v1", "openai"),
        (None, "http://api.openai.com/v1", None),
        (None, "https://api.openai.com:8443/v1", "camelid"),
        (None, "https://api.openai.com.example.org/v1", "camelid"),
        (None, "https://notapi.openai.com/v1", "camelid"),
        (None, "https://api.openai.com@example.org/v1", None),
        (None, "https://example.org/v1", "camelid"),
        (None, "http://example.org/v1", None),
        (None, "http://10.0.0.5:8000/v1", None),
        (None, "http://127.0.0.1:8000/v1", "camelid"),
        (None, "http://localhost:8000/v1", "camelid"),
        (None, "http://[::1]:8000/v1", "camelid"),
        (None, "http://127.0.0.1.example.org/v1", None),
        (None, "http://localhost.example.org/v1", None),
        ("https://example.org/v1", "https://example.org/v1", "openai"),
        ("https://example.org/v1", "https://example.org/other", "openai"),
        ("https://example.org/v1", "https://api.openai.com/v1", "camelid"),
        ("https://example.org/v1", "https://example.org:444/v1", "camelid"),
        ("http://example.org/v1", "http://example.org/v1", None),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", "openai"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001/v1", "camelid"),
    ],
)
def test_keys_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, base: str | None, url: str, key: str | None
) -> None:
    """Also hosts that look alike, and other commercial ones (hermes-agent#28660, #28884)."""
    monkeypatch.setenv("OPENAI_API_KEY", "openai")
    monkeypatch.setenv("CAMELID_API_KEY", "camelid")
    if base:
        monkeypatch.setenv("OPENAI_BASE_URL", base)
    if "@" in url:
        assert key_for(httpx.URL(url), None) is None  # name and password in the URL are its own
    else:
        assert key_for(httpx.URL(url), None) == key


def test_what_the_server_gets(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script.answers = [HI]
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    RemoteLM(script.url).generate(["x"])
    monkeypatch.setenv("CAMELID_API_KEY", " mine\n")
    RemoteLM(script.url).generate(["x"])
    monkeypatch.setenv("OPENAI_BASE_URL", script.url + "/v1/")
    RemoteLM().generate(["x"])
    RemoteLM(api_key="given").generate(["x"])
    assert [key for _, _, key in script.asked] == [None, "Bearer mine", "Bearer secret", "Bearer given"]


def test_a_key_is_not_sent_unencrypted_to_another_machine() -> None:
    for url in ("http://example.org", "http://name:password@example.org"):
        with pytest.raises(
            WrongCall, match=r"^http://example.org: a key or password would be sent unencrypted"
        ):
            RemoteLM(url, api_key=None if "@" in url else "secret")
    RemoteLM("https://example.org", api_key="secret")


def test_a_refused_request_says_which_key_would_be_sent(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    script.answers = [Answer({"error": "Unauthorized"}, 401)]
    with pytest.raises(CamelidError, match=r"HTTP 401.*set CAMELID_API_KEY.*OPENAI_API_KEY is sent only to"):
        RemoteLM(script.url).generate(["x"])
    with pytest.raises(CamelidError, match=r"HTTP 401.*the API key was refused") as caught:
        RemoteLM(script.url, api_key="secret").generate(["x"])
    assert "secret" not in str(caught.value)


def test_a_key_does_not_follow_a_redirect(script: Script) -> None:
    """openai-python#3516, runlore#177: a server that redirects must not pass the key on to another."""
    with Script() as other:
        other.answers = [HI]
        script.answers = [Answer("", 307, {"Location": other.url + "/v1/completions"})]
        with pytest.raises(CamelidError, match=f"HTTP 307.*redirected to {other.url}.*give that address"):
            RemoteLM(script.url, api_key="secret").generate(["x"])
        assert not other.asked
        other.shutdown()


@pytest.mark.parametrize("key", ["schlüssel", "one\ntwo"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(WrongCall, match="api_key holds characters that an HTTP header cannot carry"):
        RemoteLM("https://example.org", api_key=key)


def test_a_proxy_does_not_see_what_stays_on_this_machine(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.answers = [HI]
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert RemoteLM(script.url, api_key="k", retries=0).generate(["x"])[0][0].text == "Hi"


def test_passwords_are_not_shown(script: Script) -> None:
    script.answers = [Answer("no", 400)]
    lm = RemoteLM(script.url.replace("//", "//name:password@") + "/v1?key=hidden")
    assert lm.identity == f"{script.url}/v1 llama"
    with pytest.raises(CamelidError) as caught:
        lm.generate(["x"])
    assert "password" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert script.asked[0][0] == "/v1/completions?key=hidden"
    assert shown(httpx.URL("http://a:b@c/d?e=f#g")) == "http://c/d"


@pytest.mark.parametrize("url", ["http://", "https:///v1", "http://[::1", "ftp://example.org"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(WrongCall, match="URL"):
        RemoteLM(url)
