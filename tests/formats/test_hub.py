"""Models by name, against a small endpoint on this machine that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.formats.hub import resolve
from camelid.formats.load import load_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


class Hub(ThreadingHTTPServer):
    """Serves the models in `models` (name: folder) under the addresses that huggingface_hub asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.models: dict[str, Path] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        self.server.requests.append(path)
        parts = path.removeprefix("api/models/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        folder = self.server.models.get(name)
        if name == "org/broken":
            return self.refuse(500, None, "Internal error")
        if token not in ("", TOKEN):
            return self.refuse(401, None, "Invalid credentials in Authorization header")
        if folder is None or (name in self.server.private and not token):
            return self.refuse(401 if not token else 404, "RepoNotFound", "Repository not found")
        if name in self.server.gated and rest[:1] == ["resolve"]:
            return self.refuse(403, "GatedRepo", "Access to this model is restricted")
        if not path.startswith("api/"):
            return self.file(folder / "/".join(rest[2:]))
        if rest[:1] == ["tree"]:
            return self.json([entry(folder, file) for file in files(folder)])
        siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files(folder)]
        return self.json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings})

    def refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply(status, json.dumps({"error": message}).encode(), headers)

    def json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def file(self, path: Path) -> None:
        content = path.read_bytes()
        self.reply(200, content, {"ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT})

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def entry(folder: Path, file: Path) -> dict[str, object]:
    content = file.read_bytes()
    name = file.relative_to(folder).as_posix()
    return {"type": "file", "path": name, "size": len(content), "oid": digest(content)}


def digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub(tmp_path, random_llama):
    """A hub with the model `org/tiny`, which also holds a pickle that nobody should fetch."""
    folder = tmp_path / "served"
    random_llama(2).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with Hub() as server:
        server.models["org/tiny"] = folder
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(hub, tmp_path):
    """A function that resolves a name in a fresh process, with variables set; gives (folder, error
    message)."""
    code = (
        "import sys\nfrom camelid.base.errors import CamelidError\nfrom camelid.formats.hub import resolve\n"
        "try: print(resolve(sys.argv[1]))\nexcept CamelidError as error: sys.exit(f'camelid: {error}')"
    )

    def run(name: str, **variables: str) -> tuple[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        mine = {
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": hub.address,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        ended = subprocess.run(
            [sys.executable, "-c", code, name],
            env=kept | mine | variables,
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        message = ended.stderr.partition("camelid: ")[2].strip()
        assert bool(message) == bool(ended.returncode), ended.stderr
        return ended.stdout.strip(), message

    return run


def test_an_existing_folder_wins(tmp_path, monkeypatch):
    (tmp_path / "org/tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/tiny") == Path("org/tiny")


@pytest.mark.slow
def test_fetched_once_and_then_offline(ask, hub, tmp_path, random_llama):
    folder, _ = ask("org/tiny")
    assert Path(folder).is_relative_to(tmp_path / "home")
    assert sorted(path.name for path in Path(folder).iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    served = random_llama(2).state_dict()
    model = load_model(folder)
    assert torch.equal(model.embed_tokens.weight, served["model.embed_tokens.weight"])

    asked = len(hub.requests)
    assert ask("org/tiny", HF_HUB_OFFLINE="1") == (folder, "")
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_private_models_need_the_token(ask, hub):
    hub.private.add("org/tiny")
    folder, message = ask("org/tiny")
    assert not folder
    assert "private" in message
    assert "HF_TOKEN" in message
    folder, _ = ask("org/tiny", HF_TOKEN=TOKEN)
    assert Path(folder, "model.safetensors").is_file()


@pytest.mark.slow
def test_what_the_hub_refuses_is_told_in_one_line(ask, hub):
    hub.models["org/gated"] = hub.models["org/tiny"]
    hub.gated.add("org/gated")
    cases = [
        ("org/other", {}, ("there is no folder org/other", hub.address, "no such model")),
        ("org/tiny", {"HF_TOKEN": "hf_wrong"}, ("does not accept the token", "HF_TOKEN")),
        ("org/broken", {}, (hub.address, "500")),
        ("org/gated", {"HF_TOKEN": TOKEN}, ("terms", "HF_TOKEN")),
        ("org/tiny", {"HF_HUB_OFFLINE": "1"}, ("HF_HUB_OFFLINE is set",)),
        ("org/tiny", {"HF_ENDPOINT": "http://127.0.0.1:9"}, ("http://127.0.0.1:9 cannot be reached",)),
    ]
    for name, variables, parts in cases:
        folder, message = ask(name, **variables)
        assert not folder
        assert len(message.splitlines()) == 1, message
        for part in parts:
            assert part in message


def test_what_is_no_name(tmp_path):
    for name in (str(tmp_path / "missing"), "runs/first/model", "model"):
        with pytest.raises(CamelidError, match=r"there is no folder .* org/name"):
            resolve(name)


def test_a_gguf_file_is_to_be_imported(tmp_path):
    file = tmp_path / "model.gguf"
    file.touch()
    with pytest.raises(CamelidError, match=r"camelid import .*model\.gguf OUT"):
        resolve(file)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CamelidError, match=r'pip install "camelid\[hub\]"'):
        resolve("org/tiny")
