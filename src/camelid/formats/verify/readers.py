"""How other tools read an artefact: its tokens, turns, stops and logits in transformers and llama.cpp.

Only this module calls transformers, and only `llama_cpp_process` calls llama-cpp-python, both for comparison.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.base.errors import CamelidError
from camelid.model.transformer import Transformer
from camelid.text.chat_template import encode_chat_prompt
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

WRITTEN = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("transformers_version", "_from_model_config"),
}
"""Keys of generation_config.json that are compared elsewhere or are not settings."""

ENDS: tuple[str, ...] = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>"),
    *("<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]"),
    *("<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>"),
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|file_sep|>"),
    *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
)
"""Tokens that llama.cpp stops at by name (`llama_vocab::impl::load` in src/llama-vocab.cpp)."""


class Consumer(Protocol):
    """A tool with a model and its vocabulary loaded."""

    name: str
    ends: tuple[str, ...]
    """Tokens at which the tool stops because of their names."""

    def facts(self) -> dict[str, Any]:
        """Settings that it has read, by name, without weights and tokens; unknown ones are omitted."""
        ...

    def pieces(self) -> list[str]:
        """The tokens by id; ids without a token have an empty text."""
        ...

    def special_ids(self) -> frozenset[int]:
        """The tokens that are not text."""
        ...

    def ids(self, text: str) -> list[int]:
        """The ids of a text, with the BOS and EOS that the tool adds."""
        ...

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        """The ids of a conversation with the generation prompt; None without a template."""
        ...

    def stop_ids(self) -> frozenset[int]:
        """The tokens at which the tool stops."""
        ...

    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        """Float32 logits after each token; for an encoder-decoder, `ids` is both source and answer."""
        ...

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """Up to `count` most probable tokens after `ids`."""
        ...


class Trained:
    """The model in Camelid."""

    name = "camelid"
    ends: tuple[str, ...] = ()

    def __init__(self, model: Transformer, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def facts(self) -> dict[str, Any]:
        tokenizer, stops = self.tokenizer, self.tokenizer.stop_ids
        return {
            "chat template": None if tokenizer.chat_template is None else tokenizer.chat_template.source,
            "BOS": tokenizer.bos_id,
            "EOS": tokenizer.eos_id if tokenizer.eos_id in stops else None,
            "padding": tokenizer.pad_id,
            "context length": self.model.spec.context_length,
            "stops in config.json": sorted(stops) or None,
            "settings of generation_config.json": [],
        }

    def pieces(self) -> list[str]:
        return _by_id(self.tokenizer.backend.get_vocab(with_added_tokens=True))

    def special_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.special_ids.values())

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, special_tokens=True)

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        if self.tokenizer.chat_template is None:
            return None
        return encode_chat_prompt(self.tokenizer, conversation)

    def stop_ids(self) -> frozenset[int]:
        return self.tokenizer.stop_ids

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        given = torch.tensor([list(ids)])
        logits: Tensor = self.model(given, given if self.model.encoder is not None else None)
        return logits[0].float()

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
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
    ends: tuple[str, ...] = ()

    def __init__(self, folder: Path, encoder: bool = False) -> None:
        import transformers

        kind = transformers.AutoModelForSeq2SeqLM if encoder else transformers.AutoModelForCausalLM
        self.encoder = encoder
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            self.generation = transformers.GenerationConfig.from_pretrained(folder)
            self.model: Any = kind.from_pretrained(folder, dtype=torch.float32).eval()
        except Exception as error:  # damaged folders raise errors of all kinds
            raise CamelidError(f"{self.name} cannot load the export: {error}") from error

    def facts(self) -> dict[str, Any]:
        config, generation = self.model.config, self.generation.to_diff_dict()
        context = getattr(config, "max_position_embeddings", None)
        return {
            "chat template": self.tokenizer.chat_template or None,
            "BOS": self.tokenizer.bos_token_id,
            "EOS": self.tokenizer.eos_token_id,
            "padding": self.tokenizer.pad_token_id,
            **({} if context is None else {"context length": context}),
            "stops in config.json": sorted(_listed(config.eos_token_id)),
            "settings of generation_config.json": sorted(generation.keys() - WRITTEN),
        }

    def pieces(self) -> list[str]:
        return _by_id(self.tokenizer.get_vocab())

    def special_ids(self) -> frozenset[int]:
        added = self.tokenizer.added_tokens_decoder
        return frozenset(index for index, token in added.items() if token.special)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        if not self.tokenizer.chat_template:
            return None
        rendered = self.tokenizer.apply_chat_template(
            conversation.as_dicts(), add_generation_prompt=True, tokenize=False
        )
        return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def stop_ids(self) -> frozenset[int]:
        return frozenset(_listed(self.generation.eos_token_id))

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        given = torch.tensor([list(ids)])
        extra = {"decoder_input_ids": given} if self.encoder else {}
        result: Tensor = self.model(given, **extra).logits[0].float()
        return result

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        given = torch.tensor([list(ids)])
        said = self.model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, num_beams=1, max_new_tokens=count
        )[0]
        return [int(index) for index in said[1 if self.encoder else len(ids) :]]


class LlamaCpp:
    """llama.cpp through `camelid.formats.verify.llama_cpp_process`, with a float32 cache.

    Raises `CamelidError` with llama.cpp's output if it cannot load the file or crashes.
    """

    name = "llama.cpp"
    ends = ENDS

    def __init__(self, file: Path, context: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- `close` closes it
        paths = os.pathsep.join(path for path in sys.path if path)
        given = (str(file), str(context), str(os.getpid()))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "camelid.formats.verify.llama_cpp_process", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": paths, "GGML_NO_BACKTRACE": "1"},
        )
        self._facts: dict[str, Any] = self._ask("facts")

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._log.close()

    def facts(self) -> dict[str, Any]:
        return self._facts

    def pieces(self) -> list[str]:
        return self._list("pieces")

    def special_ids(self) -> frozenset[int]:
        return frozenset(self._list("special_ids"))

    def ids(self, text: str) -> list[int]:
        return self._list("ids", text)

    def chat_ids(self, conversation: Conversation) -> list[int] | None:
        return (
            None if self._facts["chat template"] is None else self._list("chat_ids", conversation.as_dicts())
        )

    def stop_ids(self) -> frozenset[int]:
        return frozenset(self._list("stop_ids"))

    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        return torch.from_numpy(self._ask("logits", list(ids)))

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        return self._list("greedy", list(ids), count)

    def _list(self, question: str, *arguments: Any) -> list[Any]:
        return list(self._ask(question, *arguments))

    def _ask(self, question: str, *arguments: Any) -> Any:
        given, taken = self._process.stdin, self._process.stdout
        assert given is not None  # both are pipes
        assert taken is not None
        try:
            pickle.dump((question, arguments), given)
            given.flush()
            return pickle.load(taken)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self._process.kill()
            code = self._process.wait()
            raise CamelidError(
                f"{self.name} exited during {question} ({code}): {self._log_tail()}"
            ) from error

    def _log_tail(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines()]
        errors = [line for line in lines if "ASSERT" in line or "error" in line.lower()]
        return (errors or [line for line in lines if line] or ["no output"])[-1 if not errors else 0]


def _by_id(vocabulary: Mapping[str, int]) -> list[str]:
    tokens = {index: token for token, index in vocabulary.items()}
    return [tokens.get(index, "") for index in range(max(tokens) + 1)]


def _listed(ids: int | list[int] | None) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def installed(package: str) -> bool:
    """Whether the packages of a consumer are installed."""
    return importlib.util.find_spec(package) is not None
