"""How other tools read what we write: the tokens, the turns, the stops and the logits of an artefact, asked of its real reader.

The only place where the library calls transformers or llama-cpp-python, and only to compare.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.model.transformer import Transformer
from camelid.text.chat_template import encode_chat_prompt
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer


class Consumer(Protocol):
    """A tool with a model and its vocabulary loaded."""

    name: str

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, with what the tool adds at its ends."""
        ...

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        """The tokens of a conversation opened for the assistant's turn; None without a template."""
        ...

    def stop_ids(self) -> frozenset[int]:
        """The tokens at which the tool stops."""
        ...

    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        """Float32 logits after each token; of an encoder-decoder, whose source and answer both are `ids`."""
        ...

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """Up to `count` most probable tokens after `ids`."""
        ...


class Trained:
    """The model as Camelid has it."""

    name = "camelid"

    def __init__(self, model: Transformer, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def ids(self, text: str) -> list[int]:
        """See `Consumer.ids`."""
        return self.tokenizer.encode(text, special_tokens=True)

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        """See `Consumer.chat_ids`."""
        if self.tokenizer.chat_template is None:
            return None
        return encode_chat_prompt(self.tokenizer, conversation)

    def stop_ids(self) -> frozenset[int]:
        """See `Consumer.stop_ids`."""
        return self.tokenizer.stop_ids

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        """See `Consumer.logits`."""
        given = torch.tensor([list(ids)])
        logits: Tensor = self.model(given, given if self.model.encoder is not None else None)
        return logits[0].float()

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """See `Consumer.greedy`."""
        source, said = torch.tensor([list(ids)]), [self.tokenizer.pad_id or 0]
        encodes = self.model.encoder is not None
        said = said if encodes else list(ids)
        begin = len(said)
        while len(said) < begin + count and (len(said) == begin or said[-1] not in self.stop_ids()):
            given = torch.tensor([said])
            logits = self.model(source, given) if encodes else self.model(given)
            said.append(int(logits[0, -1].argmax()))
        return said[begin:]


class HuggingFace:
    """transformers, in float32."""

    name = "transformers"

    def __init__(self, folder: Path, encoder: bool = False, weights: bool = True) -> None:
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.generation = transformers.GenerationConfig.from_pretrained(folder)
        kind = transformers.AutoModelForSeq2SeqLM if encoder else transformers.AutoModelForCausalLM
        self.encoder = encoder
        self.model: Any = kind.from_pretrained(folder, dtype=torch.float32).eval() if weights else None

    def ids(self, text: str) -> list[int]:
        """See `Consumer.ids`."""
        return list(self.tokenizer(text)["input_ids"])

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        """See `Consumer.chat_ids`."""
        if not self.tokenizer.chat_template:
            return None
        rendered = self.tokenizer.apply_chat_template(
            conversation.as_dicts(), add_generation_prompt=True, tokenize=False
        )
        return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def stop_ids(self) -> frozenset[int]:
        """See `Consumer.stop_ids`."""
        stops = self.generation.eos_token_id
        return frozenset(() if stops is None else stops if isinstance(stops, list) else [stops])

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        """See `Consumer.logits`."""
        given = torch.tensor([list(ids)])
        extra = {"decoder_input_ids": given} if self.encoder else {}
        result: Tensor = self.model(given, **extra).logits[0].float()
        return result

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """See `Consumer.greedy`."""
        given = torch.tensor([list(ids)])
        said = self.model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, num_beams=1, max_new_tokens=count
        )[0]
        return [int(index) for index in said[1 if self.encoder else len(ids) :]]


class LlamaCpp:
    """llama.cpp through llama-cpp-python, its cache in float32."""

    name = "llama.cpp"

    def __init__(self, file: Path, context: int) -> None:
        self.package: Any = importlib.import_module("llama_cpp")
        whole = int(self.package.GGML_TYPE_F32)
        self.model = self.package.Llama(
            str(file), n_ctx=context, logits_all=True, verbose=False, type_k=whole, type_v=whole
        )

    def ids(self, text: str) -> list[int]:
        """See `Consumer.ids`."""
        return list(self.model.tokenize(text.encode(), add_bos=True, special=False))

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        """See `Consumer.chat_ids`."""
        template = self.model.metadata.get("tokenizer.chat_template")
        if template is None:
            return None
        formatter = self.package.llama_chat_format.Jinja2ChatFormatter(
            template=template,
            bos_token=self._text(self.model.token_bos()),
            eos_token=self._text(self.model.token_eos()),
        )
        rendered = formatter(messages=conversation.as_dicts())
        return list(self.model.tokenize(rendered.prompt.encode(), add_bos=False, special=True))

    def stop_ids(self) -> frozenset[int]:
        """See `Consumer.stop_ids`."""
        vocabulary = self.package.llama_model_get_vocab(self.model.model)
        ends = self.package.llama_vocab_is_eog
        return frozenset(index for index in range(self.model.n_vocab()) if ends(vocabulary, index))

    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        """See `Consumer.logits`."""
        self.model.reset()
        self.model.eval(list(ids))
        return torch.from_numpy(self.model.scores[: len(ids)]).clone()

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """See `Consumer.greedy`."""
        said: list[int] = []
        stops = self.stop_ids()
        for token in self.model.generate(list(ids), temp=0.0):
            said.append(int(token))
            if len(said) == count or token in stops:
                break
        return said

    def _text(self, index: int) -> str:
        return "" if index < 0 else str(self.model._model.token_get_text(index))


def installed(package: str) -> bool:
    """Whether a consumer can be asked on this machine."""
    return importlib.util.find_spec(package) is not None
