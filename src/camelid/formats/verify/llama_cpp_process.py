"""A separate process that runs llama.cpp on one GGUF file, because a bad file can crash llama.cpp.

It tokenises as llama-server does: a rendered conversation gets BOS and EOS like a text, after its own are
removed. The process does not import torch.
"""

import importlib
import os
import pickle
import sys
from typing import Any, BinaryIO

from camelid.base.parent import end_with_parent


class _Loaded:
    """The file loaded in llama.cpp."""

    def __init__(self, file: str, context: int) -> None:
        self.package: Any = importlib.import_module("llama_cpp")
        whole = int(self.package.GGML_TYPE_F32)
        self.model = self.package.Llama(file, n_ctx=context, logits_all=True, type_k=whole, type_v=whole)
        self.vocabulary = self.package.llama_model_get_vocab(self.model.model)
        self.count = self.model.n_vocab()

    def facts(self) -> dict[str, Any]:
        package = self.package
        return {
            "chat template": self.model.metadata.get("tokenizer.chat_template"),
            "BOS": package.llama_vocab_bos(self.vocabulary),
            "EOS": package.llama_vocab_eos(self.vocabulary),
            "padding": package.llama_vocab_pad(self.vocabulary),
            "context length": package.llama_model_n_ctx_train(self.model.model),
        }

    def pieces(self) -> list[str]:
        return [self._text(index) for index in range(self.count)]

    def special_ids(self) -> list[int]:
        control = self.package.llama_vocab_is_control
        return [index for index in range(self.count) if control(self.vocabulary, index)]

    def ids(self, text: str) -> list[int]:
        return list(self.model.tokenize(text.encode(), add_bos=True, special=False))

    def chat_ids(self, messages: list[dict[str, Any]]) -> list[int]:
        bos, eos = (self._text(self.facts()[name]) for name in ("BOS", "EOS"))
        template = self.model.metadata["tokenizer.chat_template"]
        formatter = self.package.llama_chat_format.Jinja2ChatFormatter(
            template=template, bos_token=bos, eos_token=eos
        )
        prompt: str = formatter(messages=messages).prompt
        if self.package.llama_vocab_get_add_bos(self.vocabulary):
            prompt = prompt.removeprefix(bos)
        if self.package.llama_vocab_get_add_eos(self.vocabulary):
            prompt = prompt.removesuffix(eos)
        return list(self.model.tokenize(prompt.encode(), add_bos=True, special=True))

    def stop_ids(self) -> list[int]:
        ends = self.package.llama_vocab_is_eog
        return [index for index in range(self.count) if ends(self.vocabulary, index)]

    def logits(self, ids: list[int]) -> Any:
        self.model.reset()
        self.model.eval(ids)
        return self.model.scores[: len(ids)].copy()

    def greedy(self, ids: list[int], count: int) -> list[int]:
        said: list[int] = []
        stops = self.stop_ids()
        for token in self.model.generate(ids, temp=0.0):
            said.append(int(token))
            if len(said) == count or token in stops:
                break
        return said

    def _text(self, index: int) -> str:
        found = self.package.llama_vocab_get_text(self.vocabulary, index) if index >= 0 else b""
        return str(found.decode("utf-8", errors="replace"))


def answer(questions: BinaryIO, answers: BinaryIO, file: str, context: int) -> None:
    """Answers pickled requests in order until the input ends."""
    loaded = _Loaded(file, context)
    while True:
        try:
            question, arguments = pickle.load(questions)
        except EOFError:
            return
        pickle.dump(getattr(loaded, question)(*arguments), answers)
        answers.flush()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[3]))
    # Keep library output off the answer pipe.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer(sys.stdin.buffer, pipe, sys.argv[1], int(sys.argv[2]))
