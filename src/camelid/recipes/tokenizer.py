"""The recipe of `camelid tokenizer`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.data import TextData
from camelid.recipes.recipe import Recipe
from camelid.text.vocabulary_learning import VocabularyKind


class TokenizerRecipe(Recipe):
    """Learn a vocabulary from text: byte-level BPE, or unigram."""

    stage: Literal["tokenizer"] = Field(default="tokenizer", description="the verb that this recipe is for")
    data: TextData = Field(description="text: files, folders, or rows with `text`")
    kind: VocabularyKind = Field(
        default="bpe",
        description="bpe: byte-level, as in GPT-2; unigram: the likeliest pieces, as in T5, with byte "
        "fallback",
    )
    vocab_size: int = Field(
        default=8192, ge=260, description="vocabulary size, including the 256 bytes and the special tokens"
    )
    sentinels: int = Field(
        default=0,
        ge=0,
        description="number of T5's <extra_id_0>, <extra_id_1>, ... for span corruption: the last ids, in "
        "descending order",
    )
    sample_bytes: int = Field(
        default=50_000_000,
        gt=0,
        description="bytes of text to learn from, taken from the beginning; more adds little",
    )

    @model_validator(mode="after")
    def _room_for_sentinels(self) -> Self:
        least = 260 + self.sentinels
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small for the bytes and {self.sentinels} sentinels; "
                f"give --vocab-size {least} or more, or fewer --sentinels"
            )
        return self
