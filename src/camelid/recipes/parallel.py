"""Settings of training over several processes, shared by the stages that train."""

from typing import Literal

from pydantic import Field

from camelid.recipes.settings import FREE, Settings


class Parallel(Settings):
    """How the processes that torchrun starts share a run, as a mesh of `data` x `tensor`."""

    data: int | None = Field(
        default=None,
        gt=0,
        description="processes that share the rows of each update and shard the weights; by default all that "
        "tensor leaves",
        json_schema_extra=FREE,
    )
    tensor: int = Field(
        default=1,
        gt=0,
        description="processes that share each matrix product, attention by heads",
        json_schema_extra=FREE,
    )
    gather: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="precision in which weights are gathered; bfloat16 sends half as much, needs activations "
        "in bfloat16, and rounds the gains of norms",
    )
    timeout: float = Field(
        default=600.0,
        gt=0,
        description="seconds within an update after which a process that does not answer ends the job",
        json_schema_extra=FREE,
    )
