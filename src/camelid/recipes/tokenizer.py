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
        description="bpe: byte-level, as GPT-2; unigram: likeliest pieces, as T5, bytes as last resort",
    )
    vocab_size: int = Field(
        default=8192, ge=260, description="entries, the 256 bytes and the special tokens included"
    )
    sentinels: int = Field(
        default=0,
        ge=0,
        description="T5's <extra_id_0> and on, for span corruption: the last entries, the first of them highest",
    )
    sample_bytes: int = Field(
        default=50_000_000, gt=0, description="text to learn from, taken from the beginning; more adds little"
    )

    @model_validator(mode="after")
    def _room_for_the_special(self) -> Self:
        least = 260 + self.sentinels
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} leaves no room for {self.sentinels} sentinels beside the bytes; "
                f"give --vocab-size {least} or more, or fewer --sentinels"
            )
        return self
