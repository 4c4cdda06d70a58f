"""New weights: an engine that is given them says what a fresh engine says, and one that is not told
refuses."""

import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.decoder import Extension, Predictions
from camelid.engine.engine import Engine
from camelid.engine.graphs import GraphDecoder
from camelid.engine.weights import CHANGED, WeightWatch
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.quant.quantize import quantize_model
from camelid.recipes.model_shape import ModelShape
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
Makes = Callable[[Transformer], Engine]
BEGIN = "the cat sat on a mat and then one two three dogs "
PROMPTS = [BEGIN + "ran", BEGIN + "sat", "over"]


@pytest.fixture(params=["native", "torch", "graphs"])
def makes(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Makes:
    def build(model: Transformer) -> Engine:
        # bfloat16 has the decoder in C copy what it keeps in float32.
        engine = Engine(model, tokenizer, dtype=torch.bfloat16, native=request.param == "native")
        if request.param == "graphs":
            engine.decoder = GraphDecoder(model, engine.dtype, 1024)
        return engine

    return build


def said(engine: Engine) -> tuple[object, ...]:
    texts = engine.generate(PROMPTS, max_new_tokens=12)
    scores = engine.score([BEGIN, BEGIN, "over"], ["ran to it", "sat", " it"])
    return [row[0].tokens for row in texts], [row[0].logprobs for row in texts], scores


def train(model: Transformer, steps: int = 1) -> None:
    """In place, as a trainer does it: by an optimizer that counts no versions."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    for step in range(steps):
        ids = torch.arange(10 + step, 40 + step)[None]
        torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_new_weights_say_what_a_fresh_engine_says(tiny: Tiny, makes: Makes) -> None:
    model = tiny()
    engine = makes(model)
    old = said(engine)
    train(model)
    engine.set_weights()
    new = said(engine)
    assert new == said(makes(model))
    assert new[0] != old[0]
    # Back to the old ones, by a state dict that lies elsewhere.
    engine.set_weights(tiny().state_dict())
    assert said(engine) == old


def test_a_change_that_nobody_announced_is_refused(tiny: Tiny, makes: Makes) -> None:
    model = tiny()
    engine = makes(model)
    said(engine)
    train(model)
    for ask in (
        lambda: engine.generate(["over"]),
        lambda: engine.score(["over"], [" it"]),
        lambda: next(engine.stream("over")),
        lambda: engine.plain_step_seconds("over"),
    ):
        with pytest.raises(CamelidError, match=r"call engine\.set_weights"):
            ask()
    engine.set_weights()
    assert said(engine) == said(makes(model))
    assert engine.decoder.pool.used == 0


def test_parameters_in_the_place_of_others_are_computed_with(tiny: Tiny, makes: Makes) -> None:
    def by_state(model: Transformer) -> None:
        model.load_state_dict(tiny(seed=1).state_dict(), assign=True)

    def one_by_one(model: Transformer) -> None:
        other = tiny(seed=1)
        for path, module in model.named_modules():
            for name, parameter in other.get_submodule(path).named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(parameter.detach()))

    for replace in (by_state, one_by_one):
        model = tiny()
        engine, fresh = makes(model), said(makes(tiny(seed=1)))
        assert said(engine) != fresh
        old = weakref.ref(model.layers[0].mlp.up_proj.weight)
        replace(model)
        with pytest.raises(CamelidError, match=r"call engine\.set_weights"):
            said(engine)
        engine.set_weights()
        assert said(engine) == fresh
        assert old() is None
        train(model)
        with pytest.raises(CamelidError, match=r"call engine\.set_weights"):
            said(engine)
        engine.set_weights()
        assert said(engine) == said(makes(model))


def changes(parameter: torch.nn.Parameter) -> Iterator[None]:
    with torch.no_grad():
        parameter.add_(1.0)
        yield
        parameter.data.mul_(2.0)
        yield
        parameter.data = parameter.data.clone()
        yield
        parameter.data.view(-1)[:1] = float("nan")
        yield


def test_every_way_to_change_a_tensor_shows(tiny: Tiny) -> None:
    model = tiny()
    watch = WeightWatch(model)
    assert not watch.changed
    for _ in changes(model.layers[1].mlp.up_proj.weight):
        assert watch.changed
        watch.renew()
        assert not watch.changed
    packed = quantize_model(tiny(), 4, 32)
    watch = WeightWatch(packed)
    packed.layers[0].mlp.up_proj.packed_codes.zero_()
    assert watch.changed
    watch.renew()
    packed.layers[1].mlp.up_proj.scales = packed.layers[1].mlp.up_proj.scales.clone()
    assert watch.changed


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_the_mode_of_a_shared_model_stays_and_nothing_is_dropped(
    tokenizer: Tokenizer, architecture: str
) -> None:
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "feed_forward_width": 64, "dropout": 0.5}
    shape = ModelShape(architecture=architecture, **sizes)
    model = Transformer(shape.spec(tokenizer.vocab_size)).initialize(0, std=0.3)
    expected = said(Engine(model.eval(), tokenizer))
    model.train()
    model.layers[1].eval()  # a part that is not trained
    modes = [module.training for module in model.modules()]
    assert said(Engine(model, tokenizer)) == expected
    assert [module.training for module in model.modules()] == modes
    assert sum(modes) > 5


@pytest.mark.parametrize("native", [True, False])
def test_running_texts_go_on_under_new_weights(tiny: Tiny, tokenizer: Tokenizer, native: bool) -> None:
    model, other = tiny(), tiny(seed=1)
    engine = Engine(model, tokenizer, native=native)
    request = engine.request(BEGIN, Sampling(max_new_tokens=30))
    engine.submit(request)
    while len(request.tokens) < 12:
        engine.step()
    old = list(request.tokens)
    engine.set_weights(other.state_dict())
    while not request.ended:
        engine.step()
    # The other model reads all that was said before it goes on.
    ids = [*request.prompt, *old]
    with torch.no_grad():
        while len(ids) < len(request.prompt) + len(request.tokens):
            ids.append(int(other(torch.tensor([ids]))[0, -1].argmax()))
    assert request.tokens == ids[len(request.prompt) :]


def test_no_text_ends_that_two_models_have_said(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    model = tiny()
    engine = Engine(model, tokenizer)
    compute, steps = engine.decoder.compute, iter(range(100))

    def changing(extensions: list[Extension]) -> Predictions:
        if next(steps) == 2:
            with torch.no_grad():
                model.norm.weight.add_(1.0)
        return compute(extensions)

    monkeypatch.setattr(engine.decoder, "compute", changing)
    with pytest.raises(CamelidError, match=r"call engine\.set_weights"):
        engine.generate([BEGIN], max_new_tokens=8)
    assert next(steps) > 3


@pytest.mark.parametrize("native", [True, False])
def test_a_draft_is_given_new_weights_too(tiny: Tiny, tokenizer: Tokenizer, native: bool) -> None:
    model = tiny()
    draft = Engine(model, tokenizer, native=native)
    engine = Engine(model, tokenizer, native=native, draft=draft)
    plain = Engine(tiny(), tokenizer, native=native)
    texts = [row[0].tokens for row in plain.generate(PROMPTS, max_new_tokens=20)]
    assert [row[0].tokens for row in engine.generate(PROMPTS, max_new_tokens=20)] == texts
    train(model)
    with pytest.raises(CamelidError, match=r"call engine\.set_weights"):
        engine.generate(PROMPTS)
    # Each may be told: the other shares the parameters.
    for told in (engine, draft):
        told.set_weights()
        plain.set_weights(model.state_dict())
        texts = [row[0].tokens for row in plain.generate(PROMPTS, max_new_tokens=20)]
        before = engine.proposer.proposed, engine.proposer.accepted
        assert [row[0].tokens for row in engine.generate(PROMPTS, max_new_tokens=20)] == texts
        # A model is its own best draft, so it is the new one that drafts; draft tokens beyond a stop token
        # count as refused.
        refused = engine.proposer.proposed - before[0] - (engine.proposer.accepted - before[1])
        assert (
            refused
            <= len(PROMPTS) * (engine.proposer.draft_tokens - 1)
            < engine.proposer.proposed - before[0]
        )
        train(model)
    engine.set_weights()
    # A draft of its own parameters alone.
    apart = Engine(tiny(seed=2), tokenizer, native=native)
    engine = Engine(model, tokenizer, native=native, draft=apart)
    train(apart.model)
    with pytest.raises(CamelidError, match=r"call engine\.set_weights"):
        engine.generate(PROMPTS)
    apart.set_weights()
    assert len(engine.generate(PROMPTS, max_new_tokens=4)) == 3


def test_foreign_states_are_refused_and_change_nothing(tiny: Tiny, tokenizer: Tokenizer) -> None:
    model = tiny()
    engine = Engine(model, tokenizer)
    before = said(engine)
    state = tiny(seed=1).state_dict()
    for foreign, message in (
        ({name: state[name] for name in list(state)[1:]}, f"lacks {next(iter(state))}, which the model has"),
        ({**state, "extra": torch.ones(1)}, "has extra, which the model has not"),
        ({**state, "norm.weight": torch.ones(3)}, r"norm\.weight is \[3\]; the model's is \[64\]"),
    ):
        with pytest.raises(WrongCall, match=message):
            engine.set_weights(foreign)
    assert said(engine) == before
    with pytest.raises(WrongCall, match="packed"):
        Engine(quantize_model(tiny(), 4, 32), tokenizer).set_weights(state)
    assert CHANGED.startswith("the model's parameters have changed")


def test_timed_steps_do_not_look_at_the_weights(tiny: Tiny, tokenizer: Tokenizer, monkeypatch) -> None:
    engine = Engine(tiny(), tokenizer)
    looks, check = [], engine.decoder.weights.check
    monkeypatch.setattr(engine.decoder.weights, "check", lambda *only: looks.append(1) or check(*only))
    assert engine.plain_step_seconds(BEGIN) > 0
    assert len(looks) == 2  # the prompt, and its last token
