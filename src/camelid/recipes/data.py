"""The text that a stage reads."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from camelid.recipes.settings import FREE, ONLY_IN_FILE, Paths, Settings, SinglePath, cluster_field


class TextData(Settings):
    """Where the rows come from, and which of them are held out."""

    train: Paths = Field(min_length=1, description="files or folders to train on")
    validation: Paths = Field(
        default=(), description="files or folders to validate on; if empty, a share of train is held out"
    )
    validation_fraction: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="share of the training documents held out if validation is empty",
    )
    licence: str | None = Field(
        default=None,
        description="licence of the files; by default what a card beside them states",
        json_schema_extra=FREE,
    )
    skip_bad_rows: bool = Field(
        default=False, description="skip malformed rows, counting and listing them, instead of stopping"
    )
    shuffle: bool = Field(
        default=True,
        description="shuffle the documents; false keeps the order of the files, for a curriculum",
    )
    workers: int = Field(
        default=1,
        gt=0,
        description='tokenising processes; with more than one, a script needs `if __name__ == "__main__":`',
        json_schema_extra=FREE,
    )
    on: str | None = cluster_field("tokenise")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file and folder that is read."""
        return (*self.train, *self.validation)


class Source(Settings):
    """One source of a mixture."""

    path: SinglePath = Field(description="file or folder")
    weight: float | None = Field(
        default=None,
        description="share of the rows of tokens, relative to the other sources; by default each source is "
        "as frequent as its rows",
    )
    cap: int | None = Field(default=None, gt=0, description="most rows taken, drawn with the recipe's seed")
    repeat: int = Field(default=1, gt=0, description="times that each row occurs in an epoch")
    licence: str | None = Field(default=None, description="licence, if no card beside the file states it")
    marker: Literal["good", "bad", "none"] = Field(
        default="good", description="marker of rows that are not comparisons, if the recipe has markers"
    )


class MixedData(TextData):
    """Where the rows of tuning come from: files, or a mixture of sources."""

    train: Paths = Field(default=(), description="files or folders to train on, unless there are sources")
    sources: tuple[Source, ...] = Field(
        default=(),
        description="a mixture instead of train: a list of {path, weight, cap, repeat, licence, marker}",
        json_schema_extra=ONLY_IN_FILE,
    )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file and folder that is read."""
        return (*self.trained, *self.validation)

    @property
    def trained(self) -> tuple[Path, ...]:
        """Every file and folder that is trained on."""
        return self.train or tuple(source.path for source in self.sources)

    @model_validator(mode="before")
    @classmethod
    def _from_text_data(cls, value: Any) -> Any:
        return value.model_dump(exclude_unset=True) if type(value) is TextData else value

    @model_validator(mode="after")
    def _a_mixture_makes_sense(self) -> Self:
        if bool(self.train) == bool(self.sources):
            both = "both are given" if self.train else "neither is given"
            raise ValueError(f"data.train or data.sources: {both}; give --data.train, or sources in the file")
        weights = [source.weight for source in self.sources]
        given = [weight for weight in weights if weight is not None]
        if given and None in weights:
            first = weights.index(None)
            raise ValueError(
                f"data.sources[{first}] ({self.sources[first].path}) has no weight and others have; give "
                "every source a weight, or none"
            )
        for source in self.sources:
            if source.weight is not None and source.weight <= 0:
                raise ValueError(
                    f"data.sources: the weight of {source.path} is {source.weight:g}, so none of its rows "
                    "would be trained; give a weight above 0, or remove the source"
                )
        return self
