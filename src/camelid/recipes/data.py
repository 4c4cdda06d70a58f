"""The text that a stage reads."""

from pydantic import Field

from camelid.recipes.settings import Paths, Settings


class TextData(Settings):
    """Where the rows come from, and which of them are held out."""

    train: Paths = Field(min_length=1, description="files or folders to learn from")
    validation: Paths = Field(
        default=(), description="files or folders to validate on; none: a share of train"
    )
    validation_fraction: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="share of the train documents held out when validation names nothing",
    )
    skip_bad_rows: bool = Field(
        default=False, description="count and list malformed rows instead of stopping at the first"
    )
    shuffle: bool = Field(
        default=True, description="documents in random order; false: as they stand in the files, a curriculum"
    )
    workers: int = Field(
        default=1,
        gt=0,
        description='processes that tokenise; a script that asks for several needs `if __name__ == "__main__":`',
    )
