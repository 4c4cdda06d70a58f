"""The gates on a model folder: complete weights, a matching tokenizer, a chat template that trains the end of
turns."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from camelid.base.errors import CamelidError
from camelid.data.rows.examples import conversation_example
from camelid.formats.hub import resolve
from camelid.recipes.align import AlignRecipe
from camelid.recipes.tune import TuneRecipe
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer, load_tokenizer

MODEL_FILES = ("config.json", "adapter_config.json")
"""Either makes a folder one of a model or of an adapter."""


class Gate(NamedTuple):
    """One check: its name, and the function that checks and says what it found, with colours where it has
    any."""

    name: str
    look: Callable[[], str | Text]


def model_gates(name: str, *, template: bool = True) -> Iterator[Gate]:
    """The gates on a model, given as a folder or hub name, or on the folder of an adapter.

    template: whether its chat template must train a conversation of several turns.
    """
    if not (Path(name) / MODEL_FILES[0]).is_file() and (Path(name) / MODEL_FILES[1]).is_file():
        yield Gate("adapter", lambda: _see_adapter(Path(name)))
        return
    yield Gate("weights", lambda: _see_weights(name))
    yield Gate("tokenizer", lambda: _see_model_tokenizer(name))
    if template:
        yield Gate("chat template", lambda: _see_chat_template(name))


def _see_adapter(folder: Path) -> str:
    """Puts the adapter onto the shape of its base, whose weights must have the digest that it names."""
    from camelid.formats.hugging_face.checkpoint import blank_model, read_spec
    from camelid.formats.hugging_face.peft_folder import base_of, load_adapter
    from camelid.model.adapters import adapted

    base = resolve(base_of(folder))
    count = len(adapted(load_adapter(blank_model(read_spec(base)), folder, base)))
    return f"updates of {count:,} linears of {base}"


def _see_weights(name: str) -> str:
    """Checks that every tensor exists with its shape, and that the model's logits are finite."""
    import torch

    from camelid.formats.load import load_model

    model = load_model(name)
    tokens = torch.zeros(1, min(8, model.spec.context_length), dtype=torch.long)
    with torch.inference_mode():
        logits = model(tokens, tokens if model.encoder is not None else None)
    if not torch.isfinite(logits).all():
        raise CamelidError("its logits are not finite: a weight is NaN or infinite, so the model is damaged")
    return f"{model.spec.parameter_count():,} parameters, finite logits"


def _see_model_tokenizer(name: str) -> str:
    from camelid.formats.hugging_face.checkpoint import read_spec
    from camelid.formats.load import check_tokenizer_fits

    folder = resolve(name)
    tokenizer = load_tokenizer(folder)
    check_tokenizer_fits(read_spec(folder), tokenizer)
    return see_tokenizer(tokenizer)


def see_tokenizer(tokenizer: Tokenizer) -> str:
    """A tokenizer's size and stop tokens; raises `CamelidError` if it has no stop token."""
    stops = ", ".join(map(str, sorted(tokenizer.stop_ids)))
    if not stops:
        raise CamelidError("there is no stop token: set eos_token in tokenizer_config.json")
    return f"{tokenizer.vocab_size:,} ids, stops at {stops}"


def _see_chat_template(name: str) -> str:
    """Checks that the trained part of a turn ends with a token at which generation stops."""
    tokenizer = load_tokenizer(resolve(name))
    if tokenizer.chat_template is None:
        return "none: a base model; `camelid tune` needs a chat template"
    conversation_example(tokenizer, Conversation.of(("Hello.", "Hello."), ("Who?", "Me.")))
    return "renders, trains and ends the assistant's turns"


def see_lora(recipe: TuneRecipe | AlignRecipe) -> str:
    """How many linears a recipe's adapter changes; raises `CamelidError` if a pattern matches none."""
    from camelid.train.adapting import check_lora

    linears = check_lora(recipe.lora, resolve(recipe.model), recipe.parallel.tensor)
    return f"an adapter on {len(linears):,} linears"
