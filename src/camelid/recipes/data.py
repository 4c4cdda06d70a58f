"""The text that a stage reads."""

from pydantic import Field

from camelid.recipes.settings import FREE, Paths, Settings


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
