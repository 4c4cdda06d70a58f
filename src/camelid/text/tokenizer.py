"""Text to token ids and back: one class for every vocabulary, our own or imported.

Plain text never becomes a special token: `<|endoftext|>` in a document or a chat message is encoded as its
characters. The same holds for other added tokens that the chat template writes (`control_tokens`). They come
from three places only: BOS and EOS as the checkpoint adds them (`special_tokens=True`), the markup of a chat
template, and callers who pass `markup=True`. On other text the ids equal those of transformers.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers

from camelid.base.errors import CamelidError, naming
from camelid.base.json import read_table, write_json
from camelid.text.chat_template import CHATML, ChatTemplate
from camelid.text.control_tokens import control_tokens, cuts, spelling, without_matching
from camelid.text.declared_tokens import add_declared, declared_stops, declared_template, token_text
from camelid.text.vocabulary import END_OF_TEXT, SPACE, add_ends, add_named
from camelid.text.vocabulary_files import read_tokenizer_json, read_vocabulary, read_vocabulary_file
from camelid.text.vocabulary_learning import UNKNOWN, VocabularyKind, learn_vocabulary

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """A vocabulary with its special tokens, the ids that end a generation, and its chat template."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: Mapping[str, Any],
        *,
        chat_template: str | None = None,
        stop_ids: Iterable[int] = (),
    ):
        """`config` is a `tokenizer_config.json`; `stop_ids` are those of `generation_config.json`."""
        self.backend = backend
        self.backend.encode_special_tokens = True
        self.backend.no_truncation()
        self.backend.no_padding()
        self.config = dict(config)
        vocabulary = backend.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise CamelidError("the tokenizer's vocabulary is empty; download or train it again")
        self.vocab_size = 1 + max(vocabulary.values())
        named = {name: token_text(config.get(name)) for name in NAMED_TOKENS}
        self.named_tokens = {name: token for name, token in named.items() if token is not None}
        for name, token in self.named_tokens.items():
            if token not in vocabulary:
                raise CamelidError(
                    f"{name} is {token!r}, which is not in the vocabulary of {self.vocab_size} tokens"
                )
        add_named(backend, self.named_tokens.values())
        added = backend.get_added_tokens_decoder()
        self.special_ids = {token.content: index for index, token in added.items() if token.special}
        template = None if chat_template is None else ChatTemplate(chat_template, self.named_tokens)
        control = control_tokens(added.values(), template)
        self.control_ids = {token.content: vocabulary[token.content] for token in control}
        self._control = {index: token for token, index in self.control_ids.items()}
        self._reader, self._markup = without_matching(backend, control), spelling(control)
        self.bos_id, self.eos_id, self.pad_id, self.unk_id = (
            vocabulary.get(self.named_tokens.get(name, "")) for name in NAMED_TOKENS
        )
        self._declared_stops = frozenset(stop_ids)
        self.chat_template: ChatTemplate | None = None
        if template is not None:
            self.chat_template = ChatTemplate(template.source, self.named_tokens, tuple(self.control_ids))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a generation: those of the checkpoint, else EOS and the chat terminator."""
        if self._declared_stops:
            return self._declared_stops
        terminator = None if self.chat_template is None else self.chat_template.terminator
        stops = {self.eos_id, None if terminator is None else self.control_ids[terminator]}
        return frozenset(index for index in stops if index is not None)

    def encode(
        self,
        text: str,
        special_tokens: bool = False,
        *,
        markup: bool = False,
        continues: bool = False,
    ) -> list[int]:
        """Ids of `text`.

        special_tokens: add BOS and EOS as the checkpoint does by default. markup: special tokens spelled out
        in the text become their ids. continues: the text continues an earlier one, so vocabularies that mark
        the start of a text do not mark this one. Raises `CamelidError` on a lone surrogate, which UTF-8
        cannot encode.
        """
        ids = self._encode_markup(text, continues) if markup else self._encode_plain(text, continues)
        if special_tokens:
            head, tail = self._added_ends
            return [*head, *ids, *tail]
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text to be continued: with BOS if the checkpoint adds it, never with EOS."""
        ids = self.encode(text, special_tokens=True)
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.eos_id else ids

    def goes_on(self, ids: Sequence[int]) -> bool:
        """Whether a text after `ids` continues them; some vocabularies restart after special tokens."""
        return bool(ids) and ids[-1] not in self._beginning_ids

    def encode_batch(self, texts: Sequence[str], special_tokens: bool = False) -> list[list[int]]:
        """Ids of many texts, on all cores."""
        head, tail = self._added_ends if special_tokens else ((), ())
        return [[*head, *ids, *tail] for ids in self._plain_ids(texts)]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; invalid UTF-8 becomes U+FFFD."""
        return str(self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens))

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether tokens are spelled in GPT-2's byte alphabet (otherwise as in SentencePiece)."""
        return '"ByteLevel"' in json.dumps(self.description["decoder"])

    @cached_property
    def marks_spaces(self) -> bool:
        """Whether tokens write a space as SentencePiece's `▁`."""
        return SPACE in json.dumps(self.description["decoder"], ensure_ascii=False)

    @cached_property
    def has_byte_fallback(self) -> bool:
        """Whether characters outside the vocabulary are encoded as byte tokens such as `<0x0A>`."""
        return bool(self.description["model"].get("byte_fallback"))

    def for_encoder(self) -> "Tokenizer":
        """This vocabulary for encoder inputs: no BOS, EOS at the end, as T5 was trained."""
        if self.eos_id is None or self._added_ends == ((), (self.eos_id,)):
            return self
        config = {**self.config, "add_bos_token": False, "add_eos_token": True}
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        add_ends(backend, config)
        template = None if self.chat_template is None else self.chat_template.source
        return Tokenizer(backend, config, chat_template=template, stop_ids=self.stop_ids)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes files from which `transformers.AutoTokenizer` and `load_tokenizer` give the same ids."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        config = {key: value for key, value in self.config.items() if key != "chat_template"}
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "special_tokens_map.json", self.named_tokens)
        if self.chat_template is not None:
            (folder / "chat_template.jinja").write_text(self.chat_template.source, encoding="utf-8")

    @cached_property
    def digest(self) -> str:
        """A digest of the vocabulary and its rules: equal digests give equal ids."""
        hidden = sorted(self.control_ids.keys() - self.special_ids.keys())
        rules = self.backend.to_str() + (json.dumps(hidden) if hidden else "")
        return hashlib.blake2b(rules.encode(), digest_size=16).hexdigest()

    @cached_property
    def description(self) -> dict[str, Any]:
        """The contents of `tokenizer.json`."""
        description: dict[str, Any] = json.loads(self.backend.to_str())
        return description

    @cached_property
    def _added_ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after a text: from the post-processor, unless the configuration overrides it."""
        # The text is another vocabulary's token: in ours, no text is sure to become exactly one token.
        one = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a")).encode("a")
        full = self.backend.post_process(one)
        if full.special_tokens_mask.count(0) != 1:
            raise CamelidError(
                "the tokenizer's post-processor must contain the text exactly once, between BOS and EOS"
            )
        start = full.special_tokens_mask.index(0)
        head, tail = tuple(full.ids[:start]), tuple(full.ids[start + 1 :])
        if (add_bos := self.config.get("add_bos_token")) is not None:
            head = (self.bos_id,) if add_bos and self.bos_id is not None else ()
        if (add_eos := self.config.get("add_eos_token")) is not None:
            tail = (self.eos_id,) if add_eos and self.eos_id is not None else ()
        return head, tail

    def _encode_markup(self, text: str, continues: bool) -> list[int]:
        ids: list[int] = []
        position = 0
        for match in self._markup.finditer(text):
            ids += self._encode_plain(text[position : match.start()], continues)
            ids.append(self.control_ids[match[match.lastindex or 0]])
            position, continues = match.end(), self.goes_on(ids)
        return ids + self._encode_plain(text[position:], continues)

    def _encode_plain(self, text: str, continues: bool) -> list[int]:
        if not text:
            return []
        if not continues or not self._marks_beginnings:
            return self._backend_ids(text)
        # Encode the text after a neighbour, then remove the neighbour's ids.
        for neighbour, before in self._neighbours.items():
            both = self._backend_ids(neighbour + text)
            if both[: len(before)] == before:
                return both[len(before) :]
        raise CamelidError(
            f"the tokenizer merges {text[:20]!r} with the text before it; it cannot continue one"
        )

    def _backend_ids(self, text: str) -> list[int]:
        return self._plain_ids([text])[0]

    def _plain_ids(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            found = [each.ids for each in self._reader.encode_batch_fast(texts, add_special_tokens=False)]
        except TypeError as error:
            bad = next((text for text in texts if text.encode("utf-8", "ignore").decode() != text), None)
            if bad is None:
                raise
            raise CamelidError(f"text with a lone surrogate, not valid Unicode: {bad[:40]!r}") from error
        control = self._control
        return [
            ids if control.keys().isdisjoint(ids) else self._apart(text, ids)
            for text, ids in zip(texts, found, strict=True)
        ]

    def _apart(self, text: str, ids: list[int]) -> list[int]:
        """The ids of a text in which control tokens are pieces of the model: they are cut in two."""
        encoding = self._reader.encode(text, add_special_tokens=False)
        places = [0, *cuts(encoding, text, self._control, self.unk_id), len(text)]
        if len(places) == 2:
            return ids
        parts = [text[begin:end] for begin, end in pairwise(places)]
        return [index for number, part in enumerate(parts) for index in self._encode_plain(part, number > 0)]

    @cached_property
    def _neighbours(self) -> dict[str, list[int]]:
        """Texts to be continued, with their ids; in some vocabularies white space gives no ids."""
        found = {text: self._backend_ids(text) for text in ("\n", ".", "0")}
        return {text: ids for text, ids in found.items() if ids}

    @cached_property
    def _marks_beginnings(self) -> bool:
        neighbour, before = next(iter(self._neighbours.items()), ("", []))
        return self._backend_ids(f"{neighbour}a") != before + self._backend_ids("a")

    @cached_property
    def _beginning_ids(self) -> frozenset[int]:
        """Special tokens after which the backend marks the start of a text, as it does for a whole text."""
        if not self._marks_beginnings:
            return frozenset()
        reader, begun = tokenizers.Tokenizer.from_str(self.backend.to_str()), self._backend_ids("a")
        reader.encode_special_tokens = False
        read = {
            index: reader.encode(f"{token}a", add_special_tokens=False).ids
            for token, index in self.control_ids.items()
        }
        return frozenset(index for index, ids in read.items() if ids == [index, *begun])


def load_vocabulary_file(path: Path) -> Tokenizer:
    """The tokenizer in one file: SentencePiece's `.model` or llama2.c's `tok*.bin`."""
    return Tokenizer(*read_vocabulary_file(path))


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a checkpoint folder: `tokenizer.json`, else SentencePiece's or GPT-2's files.

    Raises `CamelidError` if there are none, or if a file of the folder is damaged.
    """
    folder = Path(folder)
    special, config, generation = (
        read_table(folder / f"{name}.json", optional=True)
        for name in ("special_tokens_map", "tokenizer_config", "generation_config")
    )
    config, stops = special | config, declared_stops(folder, generation)
    template = config.pop("chat_template", None)
    if (path := folder / "tokenizer.json").is_file():
        backend = read_tokenizer_json(path)
        add_declared(backend, folder, config, plain=False)
    else:
        backend, config = read_vocabulary(folder, config)
    template = declared_template(folder, template)
    with naming(folder):
        return Tokenizer(backend, config, chat_template=template, stop_ids=stops)


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: VocabularyKind = "bpe",
    sentinels: int = 0,
    chat_template: str = CHATML,
    min_frequency: int = 2,
) -> Tokenizer:
    """Trains a vocabulary on `texts`; decode(encode(text)) returns every string unchanged.

    Words are split as in GPT-2, with every digit separate (the byte-level BPE that llama.cpp calls "smollm").
    Ids 0 to 2 are `<|endoftext|>`, `<|im_start|>` and `<|im_end|>`, followed by the 256 bytes (in a unigram
    vocabulary `<unk>`, which encoding never yields, comes before them). The last ids are `sentinels` many of
    T5's `<extra_id_k>`, the first with the highest id. The vocabulary is smaller than `vocab_size` if the
    texts are too small. min_frequency: how often a pair must occur for BPE to merge it.
    """
    special = (END_OF_TEXT, TURN_START, TURN_END)
    backend = learn_vocabulary(
        texts,
        vocab_size,
        kind,
        special=special,
        sentinel_count=sentinels,
        min_frequency=min_frequency,
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    } | ({"unk_token": UNKNOWN} if kind == "unigram" else {})
    add_ends(backend, config)
    return Tokenizer(backend, config, chat_template=chat_template)
