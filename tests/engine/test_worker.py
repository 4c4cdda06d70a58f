"""The thread that computes: it outlives errors, ends with its engine, and tells each caller its own."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.engine import worker
from camelid.engine.engine import Engine
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
PROMPT = "the cat sat on a mat and then one two three dogs "


@pytest.fixture
def engine(tiny: Tiny, tokenizer: Tokenizer) -> Engine:
    return Engine(tiny(), tokenizer)


def said(engine: Engine) -> tuple[int, ...]:
    [[answer]] = engine.generate([PROMPT], max_new_tokens=20)
    return answer.tokens


def thread_of(engine: Engine) -> threading.Thread:
    thread = engine.worker._shared.thread
    assert thread is not None
    return thread


def slow_down(engine: Engine, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.005) -> None:
    compute = engine.decoder.compute
    monkeypatch.setattr(
        engine.decoder, "compute", lambda extensions: time.sleep(seconds) or compute(extensions)
    )


def test_the_thread_ends_with_its_engine(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer)
    said(engine)
    next(engine.stream(PROMPT))
    thread, pool = thread_of(engine), engine.decoder.pool
    assert thread.is_alive()
    assert pool.used == 0
    gc.collect()
    gc.disable()
    try:
        del engine
    finally:
        gc.enable()
    thread.join(10)
    assert not thread.is_alive()


def test_a_closed_engine_refuses_and_has_ended_what_ran(engine: Engine, monkeypatch) -> None:
    slow_down(engine, monkeypatch)
    with engine:
        stream = engine.stream(PROMPT)
        next(stream)
        thread = thread_of(engine)
    assert not thread.is_alive()
    assert engine.decoder.pool.used == 0
    for ask in (lambda: list(stream), lambda: said(engine), lambda: engine.score([PROMPT], ["ran"])):
        with pytest.raises(CamelidError, match="closed"):
            ask()
    engine.close()


def test_closing_ends_what_was_submitted(tiny: Tiny, tokenizer: Tokenizer) -> None:
    engine = Engine(tiny(), tokenizer, max_batch=3, step_tokens=2)
    # One runs, two wait for it to read their prompt, and one for a place.
    requests = [engine.request(PROMPT, Sampling(max_new_tokens=20), sample) for sample in range(4)]
    for request in requests:
        engine.submit(request)
    engine.step()
    [running] = engine.scheduler.running
    assert (running.followers, [*engine.scheduler.waiting]) == (requests[1:3], requests[3:])
    engine.close()
    assert all(request.ended and "closed" in str(request.error) for request in requests)
    assert engine.decoder.pool.used == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_failed(engine: Engine, monkeypatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(engine.scheduler, "step", failing)
    monkeypatch.setattr(engine.scheduler, "cancel", failing)
    with pytest.raises(RuntimeError, match="out of order"):
        said(engine)
    thread_of(engine).join(10)
    assert not thread_of(engine).is_alive()
    with pytest.raises(CamelidError, match="closed"):
        said(engine)


def test_a_thread_that_did_not_start_is_started_by_the_next_who_asks(engine: Engine, monkeypatch) -> None:
    def failing(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", failing)
        with pytest.raises(RuntimeError, match="new thread"):
            said(engine)
    assert len(said(engine)) > 0


def test_an_error_of_a_step_reaches_who_asked_and_the_thread_goes_on(engine: Engine, monkeypatch) -> None:
    expected, plan = said(engine), engine.scheduler._plan
    for error in (RuntimeError("out of order"), SystemExit(3)):

        def failing(error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(engine.scheduler, "_plan", failing)
        with pytest.raises((RuntimeError, CamelidError), match=r"order|\(3\)"):
            said(engine)
        assert engine.decoder.pool.used == 0
        monkeypatch.setattr(engine.scheduler, "_plan", plan)
        assert said(engine) == expected


def test_a_stream_that_is_collected_is_cancelled(engine: Engine, monkeypatch) -> None:
    slow_down(engine, monkeypatch)
    stream = engine.stream(PROMPT)
    next(stream)
    cycle = [stream]
    cycle.append(cycle)  # type: ignore[arg-type]
    del stream, cycle
    gc.collect()
    assert engine.decoder.pool.used == 0
    assert not engine.scheduler.running


def test_an_interrupted_caller_cancels_its_own_alone(engine: Engine, monkeypatch) -> None:
    [[alone]] = engine.generate(["over"], max_new_tokens=60)
    slow_down(engine, monkeypatch)
    others: list[tuple[int, ...]] = []
    other = threading.Thread(
        target=lambda: others.append(engine.generate(["over"], max_new_tokens=60)[0][0].tokens)
    )
    other.start()
    main = threading.get_ident()
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        engine.generate([PROMPT] * 3, max_new_tokens=60, temperature=1.0)
    assert [running.request.prompt for running in engine.scheduler.running] in (
        [],
        [engine.encode("over")],
    )
    other.join()
    assert others == [alone.tokens]
    assert engine.decoder.pool.used == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_in_a_thread_of_its_own(engine: Engine, monkeypatch) -> None:
    expected = said(engine)
    slow_down(engine, monkeypatch)
    stream = engine.stream(PROMPT, max_new_tokens=20)
    begun = next(stream)
    submitted = engine.request("over", Sampling(max_new_tokens=20))
    engine.submit(submitted)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if said(engine) == expected and "forked" in str(submitted.error):
                status = 2
                list(stream)
        except CamelidError as error:
            status = 0 if "forked" in str(error) else 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert begun + "".join(stream) == engine.generate([PROMPT], max_new_tokens=20)[0][0].text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_engine_made_while_the_process_forks_disturbs_no_other(
    engine: Engine, tiny: Tiny, tokenizer: Tokenizer
) -> None:
    expected, made = said(engine), list[Engine]()
    other = threading.Thread(target=lambda: made.append(Engine(tiny(), tokenizer)))
    worker._before_fork()
    try:
        other.start()
        other.join(0.2)
    finally:
        worker._after_fork()
    other.join(10)
    assert said(engine) == expected == said(made[0])


@pytest.mark.parametrize("kind", ["native", "torch", "encoder"])
def test_many_threads_at_once_get_what_each_gets_alone(tiny: Tiny, tokenizer: Tokenizer, kind: str) -> None:
    if kind == "encoder":
        sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "feed_forward_width": 64}
        shape = ModelShape(architecture="t5", **sizes)
        model = Transformer(shape.spec(tokenizer.vocab_size)).initialize(0, std=0.3)
    else:
        model = tiny()
    prompts = [PROMPT[index:] for index in range(16)]

    def ask(engine: Engine, index: int) -> tuple[object, ...]:
        drawn = engine.generate([prompts[index]], temperature=1.0, samples=2, seed=index, max_new_tokens=12)
        streamed = "".join(engine.stream(prompts[index], max_new_tokens=12))
        scores = engine.score([prompts[index]] * 3, [" ran", " sat on", " over to it"])
        texts = [tuple(answer.text for answer in row) for row in drawn]
        return texts, streamed, [score.tokens for score in scores], [s.logprob for s in scores]

    alone = [ask(Engine(model, tokenizer, native=kind == "native"), index) for index in range(16)]
    # Room for a few at once.
    engine = Engine(model, tokenizer, native=kind == "native", max_batch=7, step_tokens=24, cache_tokens=320)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda index: ask(engine, index), range(16)))
    for mine, theirs in zip(found, alone, strict=True):
        assert mine[:3] == theirs[:3]
        assert mine[3] == (theirs[3] if kind == "native" else pytest.approx(theirs[3], abs=1e-4))
    assert engine.decoder.pool.used == 0
    assert not engine.decoder.pool.pending


def test_torch_computes_on_as_many_threads_as_for_the_caller(engine: Engine, monkeypatch) -> None:
    used = []
    compute = engine.decoder.compute
    monkeypatch.setattr(
        engine.decoder,
        "compute",
        lambda extensions: used.append(torch.get_num_threads()) or compute(extensions),
    )
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            used.clear()
            said(engine)
            assert set(used) == {threads}
    finally:
        torch.set_num_threads(before)


def test_nothing_is_computed_while_there_is_nothing_to_do(engine: Engine) -> None:
    said(engine)
    time.sleep(0.1)  # threads of the decoder in C fall asleep
    began = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - began < 0.1


def test_the_process_ends_beside_a_stream_that_nobody_closed(shared: Path) -> None:
    script = f"""
import camelid
lm = camelid.LM({str(shared / "weights" / "tinystories-656k")!r})
stream = lm.stream("Once upon a time", max_new_tokens=500)
print(next(stream))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
