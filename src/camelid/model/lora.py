"""LoRA (Hu et al. 2021, arXiv:2106.09685): a frozen linear plus a trained product of two thin matrices.

y = W x + b + s B A x,   A [rank, inner], B [outer, rank],   s = alpha / rank (section 4.1)
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from camelid.model.dropout import Seeds, Site, dropped
from camelid.model.linears import LinearKind


@dataclass(frozen=True)
class LoRA:
    """The size and strength of an update; rank_stabilised: s = alpha / sqrt(rank) (arXiv:2312.03732, eq. 6).

    dropout: share of the inputs of A that is dropped in training.
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """The factor s of B A x."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LoRALinear(nn.Module):
    """A frozen linear of any kind, plus its update; B is 0 at first, so that nothing changes.

    site: tells the linears of a block apart, so that each drops its own values. enabled: whether the update
    counts; see `adapters.without_adapters`.
    """

    linear_kind: ClassVar[LinearKind] = "lora"

    def __init__(self, base: nn.Module, settings: LoRA, site: int, device: torch.device) -> None:
        super().__init__()
        self.base, self.settings, self.site = base, settings, int(Site.ADAPTERS) + site
        self.enabled = True
        self.in_features, self.out_features = int(base.in_features), int(base.out_features)  # type: ignore[arg-type]
        self.lora_a = nn.Parameter(torch.zeros(settings.rank, self.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, settings.rank, device=device))

    def initialize(self, generator: torch.Generator) -> None:
        """Draws A uniformly from +-1 / sqrt(inner), as PEFT and loralib do (the paper: Gaussian); B = 0."""
        bound = self.in_features**-0.5
        drawn = torch.empty(self.lora_a.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            self.lora_a.copy_(drawn)
            self.lora_b.zero_()

    def forward(
        self, x: Float[Tensor, "*batch inner"], seeds: Seeds | None = None
    ) -> Float[Tensor, "*batch outer"]:
        """W x + b + s B A x, in x's dtype; seeds: of dropout, in training."""
        if not self.enabled:
            return self.base(x)  # type: ignore[no-any-return]
        inputs = self.drop(x, seeds) if self.training and self.settings.dropout else x
        low = F.linear(inputs, self.lora_a.to(x.dtype)).flatten(0, -2)
        result: Tensor = self.base(x)
        if type(result) is not Tensor:  # split by tensor parallelism, which adds nothing in place
            return result + self.settings.scale * F.linear(
                low.view(*x.shape[:-1], -1), self.lora_b.to(x.dtype)
            )
        # Added inside the product: passes over [time, outer] cost as much as the thin products.
        result.view(-1, self.out_features).addmm_(low, self.lora_b.to(x.dtype).T, alpha=self.settings.scale)
        return result

    def drop(self, x: Float[Tensor, "*batch inner"], seeds: Seeds | None) -> Float[Tensor, "*batch inner"]:
        """The inputs of A with dropped values; tensor parallelism replaces it where a process has a part."""
        return dropped(x, self.settings.dropout, seeds, self.site)

    @torch.no_grad()
    def delta(self) -> Float[Tensor, "outer inner"]:
        """s B A in float32, which merging adds to W."""
        return self.settings.scale * (self.lora_b.float() @ self.lora_a.float())

    def extra_repr(self) -> str:
        """The description of the layer in `print(model)`."""
        return f"rank={self.settings.rank}, scale={self.settings.scale:g}"


def project(linear: nn.Module, x: Tensor, seeds: Seeds | None) -> Tensor:
    """linear(x); an adapted one is also given the seeds of its dropout."""
    result: Tensor = linear(x, seeds) if isinstance(linear, LoRALinear) else linear(x)
    return result
