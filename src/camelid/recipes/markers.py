"""Markers of good and bad answers, for conditional training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.settings import Settings
from camelid.text.markers import STYLES


class MarkerTexts(Settings):
    """The texts before good and bad answers; they are not trained, and stored with the model."""

    style: Literal["none", "koala", "hindsight"] = Field(
        default="none",
        description="koala: `GPT:` and `An Unhelpful Answer:`; hindsight: a sentence that the answer is more "
        "or less helpful",
    )
    good: str | None = Field(default=None, description="text before good answers, instead of the style's")
    bad: str | None = Field(default=None, description="text before bad answers, instead of the style's")

    @property
    def texts(self) -> dict[str, str]:
        """The marker texts by their names, `good` and `bad`; empty without markers."""
        own = {"good": self.good, "bad": self.bad}
        return STYLES.get(self.style, {}) | {name: text for name, text in own.items() if text is not None}

    @model_validator(mode="after")
    def _both_differ(self) -> Self:
        texts = self.texts
        if len(texts) == 1:
            missing = "bad" if "good" in texts else "good"
            raise ValueError(f"markers.{missing} is missing; give both texts, or a style")
        for name, text in texts.items():
            if not text.strip() or text[:1].isspace():
                raise ValueError(f"markers.{name} is {text!r}; it must begin with a visible character")
        if texts and texts["good"] == texts["bad"]:
            raise ValueError("markers.good and markers.bad are the same text; they must differ")
        return self
