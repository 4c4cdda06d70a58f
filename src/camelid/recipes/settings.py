"""What every group of a recipe's settings is."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; a key that it does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
