"""Several models and an adapter behind one server: loaded when asked for, unloaded when others need room."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from running_server import Server, get, post

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.engine import Engine
from camelid.engine.scheduler import Scheduler
from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint
from camelid.formats.hugging_face.peft_folder import save_adapter
from camelid.model.adapters import adapted, add_lora
from camelid.model.lora import LoRA
from camelid.model.transformer import Transformer
from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings
from camelid.serve.app import make_app
from camelid.serve.models import Models, Source
from camelid.serve.sources import load_models

QUESTIONS = ("the cat sat", "one two three", "dogs ran", "a mat and then")
SETTINGS = EngineSettings(max_batch=4, cache_tokens=512)


@pytest.fixture(scope="module")
def folders(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models `first` and `second` of the same shape, and `tuned`, an adapter of the first."""
    home = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("first", "second")):
        (home / name).mkdir()
        save_checkpoint(home / name, Transformer(engine.model.spec).initialize(seed, std=0.2))
        engine.tokenizer.save(home / name)
    model = add_lora(load_checkpoint(home / "first"), LoRA(2, 8.0), ("*layers.*_proj",))
    generator = torch.Generator().manual_seed(2)
    for module in adapted(model).values():
        module.lora_b.data.uniform_(-0.5, 0.5, generator=generator)
    (home / "tuned").mkdir()
    save_adapter(home / "tuned", model, home / "first")
    return home


@pytest.fixture(scope="module")
def answers(folders: Path) -> dict[str, list[str]]:
    """What each model says by itself."""
    found = {}
    for name in ("first", "second", "tuned"):
        adapter = folders / "tuned" if name == "tuned" else None
        base = folders / ("second" if name == "second" else "first")
        with Engine.load(base, adapter=adapter, cache_tokens=512) as engine:
            found[name] = [engine.generate([text], max_new_tokens=20)[0][0].text for text in QUESTIONS]
    assert len(set(map(str, found.values()))) == 3
    return found


def ask(url: str, name: str, question: str) -> str:
    body = {"model": name, "prompt": question, "max_tokens": 20, "temperature": 0}
    response = post(f"{url}/v1/completions", json=body).raise_for_status()
    text: str = response.json()["choices"][0]["text"]
    return text


def states(url: str) -> dict[str, str]:
    cards = get(f"{url}/v1/models").raise_for_status().json()["data"]
    return {card["id"]: card["state"] for card in cards}


@pytest.fixture
def under_load(folders: Path) -> Callable[..., Models]:
    def load(memory: str) -> Models:
        settings = ServeSettings(memory=memory, adapter=(f"tuned={folders / 'tuned'}",))
        return load_models([str(folders / "first"), str(folders / "second")], settings, SETTINGS)

    return load


@pytest.fixture
def used_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks in use when an engine is closed: none, since no request may be running."""
    counts: list[int] = []
    close = Engine.close

    def closing(engine: Engine) -> None:
        counts.append(engine.decoder.pool.used + len(engine.scheduler.running))
        close(engine)

    monkeypatch.setattr(Engine, "close", closing)
    return counts


def size_of_one(models: Models) -> int:
    return max(each.size for each in models._sources.values())


@pytest.mark.parametrize("rooms", [1, 2, 3])
def test_models_take_turns_within_the_budget(
    under_load: Callable[..., Models],
    answers: dict[str, list[str]],
    used_blocks: list[int],
    monkeypatch: pytest.MonkeyPatch,
    rooms: int,
) -> None:
    budget = rooms * size_of_one(under_load("1GB")) + 1000
    used_blocks.clear()
    models, most = under_load(f"{budget}B"), 0
    step = Scheduler.step

    def counting(scheduler: Scheduler) -> object:
        nonlocal most
        most = max(most, len(models._resident))
        return step(scheduler)

    monkeypatch.setattr(Scheduler, "step", counting)
    with Server(make_app(models)) as server:
        assert states(server.url) == {"first": "loaded", "second": "unloaded", "tuned": "unloaded"}
        asked = [(name, at) for at in range(len(QUESTIONS)) for name in answers] * 3
        with ThreadPoolExecutor(12) as pool:
            texts = [*pool.map(lambda each: ask(server.url, each[0], QUESTIONS[each[1]]), asked)]
        assert texts == [answers[name][at] for name, at in asked]
        assert [*states(server.url).values()].count("loaded") == rooms
        for served in models.loaded():
            assert served.engine.decoder.pool.used == 0
    assert most <= rooms
    assert set(used_blocks) <= {0}
    assert (rooms == 3) == (not used_blocks)


def test_the_least_recently_used_goes_first(under_load: Callable[..., Models]) -> None:
    models = under_load(f"{2 * size_of_one(under_load('1GB')) + 1000}B")
    with Server(make_app(models)) as server:
        for name in ("second", "first"):
            ask(server.url, name, "dogs")
        gone = weakref.ref(next(each.engine for each in models.loaded() if each.name == "second"))
        ask(server.url, "tuned", "dogs")
        assert states(server.url) == {"first": "loaded", "second": "unloaded", "tuned": "loaded"}
        gc.collect()
        assert gone() is None  # with its memory
        card = get(f"{server.url}/v1/models/tuned").json()
        assert (card["parent"], card["context_length"]) == ("first", 128)


def test_a_model_in_use_stays(folders: Path) -> None:
    """Another model waits for the running answer, and those who ask again for the first one wait for that."""
    order: list[str] = []

    def opening(name: str) -> Callable[[], Engine]:
        def load() -> Engine:
            order.append(f"load {name}")
            return Engine.load(folders / name, cache_tokens=512)

        return load

    async def use(models: Models, name: str) -> None:
        async with models.use(name):
            order.append(f"use {name}")

    async def run() -> None:
        models = Models([Source(name, opening(name), 10, 128) for name in ("first", "second")], memory=15)
        async with models.use("first") as served:
            waiting = [asyncio.create_task(use(models, "second"))]
            await asyncio.sleep(0)
            while models.card("first")["state"] == "loaded":
                await asyncio.sleep(0)
            waiting.append(asyncio.create_task(use(models, "first")))
            await asyncio.sleep(0)
            assert served.engine.generate(["dogs"], max_new_tokens=4)  # it still computes
            order.append("end")
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert order == ["load first", "end", "load second", "use second", "load first", "use first"]


def test_a_model_that_cannot_be_loaded_is_tried_again(folders: Path) -> None:
    tries = []

    def opening() -> Engine:
        tries.append(1)
        if len(tries) == 1:
            raise CamelidError("first: its file is damaged")
        return Engine.load(folders / "first", cache_tokens=512)

    with Server(make_app(Models([Source("first", opening, 10, 128)], memory=15))) as server:
        body = {"prompt": "dogs", "max_tokens": 2}
        failed = post(f"{server.url}/v1/completions", json=body)
        assert (failed.status_code, failed.json()["error"]["message"]) == (500, "first: its file is damaged")
        assert post(f"{server.url}/v1/completions", json=body).is_success


def test_calls_that_cannot_work(folders: Path) -> None:
    first, second = str(folders / "first"), str(folders / "second")
    with pytest.raises(CamelidError, match=r"first needs .*, and the budget is 0.0 MB: give more --memory"):
        load_models([first], ServeSettings(memory="1KB"), SETTINGS)
    with pytest.raises(WrongCall, match="two models are named first"):
        load_models([first, first], ServeSettings(), SETTINGS)
    with pytest.raises(WrongCall, match=r"expected NAME=FOLDER"):
        load_models([first], ServeSettings(adapter=(f"x={second}",)), SETTINGS)
    tuned = ServeSettings(adapter=(str(folders / "tuned"),))
    with pytest.raises(WrongCall, match="which is not one of the models"):
        load_models([second, str(folders / "tuned")], tuned, SETTINGS)
