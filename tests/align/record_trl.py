"""Records what TRL's own functions make of given log-probabilities, rewards and values, for
test_against_trl.py.

    PYTHON_WITH_TRL_1.16 tests/align/record_trl.py dpo grpo reward
    PYTHON_WITH_TRL_0.11 tests/align/record_trl.py ppo     # the last versions have no PPO in functions

No trainer is set up: its methods get only the settings that they read.
"""

import json
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

RECORDED = Path(__file__).with_name("trl_losses.json")
LENGTHS = (3, 5, 1, 4)
"""Tokens of four answers; for DPO the first two are a pair, for GRPO a group."""
DPO = {"plain": ("sigmoid", 0.0), "normalised": ("sigmoid_norm", 0.0), "smoothed": ("aot", 0.2)}
GRPO = {"answers": ("grpo", 0.0, 0.2), "tokens": ("bnpo", 0.3, 0.2), "higher": ("bnpo", 0.3, 0.28)}


class Trainer(SimpleNamespace):
    """Stands for a trainer; what a method reads and was not given is None."""

    def __init__(self, **given: Any) -> None:
        together = SimpleNamespace(
            device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, **_: x
        )
        given.setdefault("model", SimpleNamespace(training=False))
        super().__init__(_metrics=defaultdict(lambda: defaultdict(list)), accelerator=together, **given)

    def __getattr__(self, name: str) -> Any:
        return None


def drawn(seed: int, *size: int, scale: float = 1.0) -> Tensor:
    return torch.round(scale * torch.randn(size, generator=torch.Generator().manual_seed(seed)), decimals=3)


def answered() -> Tensor:
    return (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).float()


def tokens(seed: int, scale: float = 1.0) -> Tensor:
    return drawn(seed, len(LENGTHS), max(LENGTHS), scale=scale) * answered()


def logprobs(seed: int) -> Tensor:
    """Of the tokens of the answers, near those of other seeds."""
    return (tokens(0).abs() + 2) * -answered() + tokens(seed, 0.3)


def dpo(kind: str, smoothing: float) -> dict[str, Tensor]:
    from trl import DPOTrainer

    policy, reference = logprobs(1).requires_grad_(), logprobs(2)
    trainer = Trainer(
        f_divergence_type="reverse_kl",
        beta=0.5,
        precompute_ref_logps=True,
        loss_types=[kind],
        loss_weights=[1.0],
        label_smoothing=smoothing,
    )
    losses = []
    for better in (0, 2):  # each pair by itself, as TRL smooths only the loss that sorts its pairs
        pair, given = slice(better, better + 2), answered()[better : better + 2]
        nothing, completions = torch.zeros_like(given), torch.cat([torch.zeros(2, 1), given], 1).long()
        before = reference.sum(1)
        inputs = {
            "input_ids": completions,
            "completion_mask": completions,
            "ref_chosen_logps": before[better],
            "ref_rejected_logps": before[better + 1],
        }
        output = SimpleNamespace(
            log_probs=policy[pair] * given, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )
        losses.append(DPOTrainer._compute_loss(trainer, lambda output=output, **_: output, inputs, False))
    loss = torch.stack(losses).mean()
    loss.backward()
    return {"policy": policy, "reference": reference, "loss": loss, "gradient": policy.grad}


def grpo(kind: str, beta: float, high: float) -> dict[str, Tensor]:
    from trl import GRPOTrainer

    policy, columns = logprobs(1).requires_grad_(), {"old": logprobs(2), "reference": logprobs(3)}
    rewards = torch.tensor([[1.0, 0.25], [0.0, 0.5]])
    spread = rewards.std(1, keepdim=True) + 1e-4
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / spread).flatten()
    trainer = Trainer(
        _get_per_token_logps_and_entropies=lambda *_, **__: (policy, torch.zeros_like(policy), None),
        top_entropy_quantile=1.0,
        importance_sampling_level="token",
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        loss_type=kind,
        epsilon_low=0.2,
        epsilon_high=high,
    )
    given = answered().long()
    inputs = {
        **{f"{part}_{name}": given for part in ("prompt", "completion") for name in ("ids", "mask")},
        "advantages": advantages,
        "old_per_token_logps": columns["old"],
        "ref_per_token_logps": columns["reference"],
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return {"policy": policy, **columns, "rewards": rewards, "loss": loss, "gradient": policy.grad}


def reward(centring: float) -> dict[str, Tensor]:
    from trl import RewardTrainer

    rewards, margin = drawn(4, 6, scale=2).requires_grad_(), drawn(5, 3).abs()  # the better ones, the others
    trainer = Trainer(args=SimpleNamespace(center_rewards_coefficient=centring), _total_train_tokens=0)
    inputs = {"margin": margin, "attention_mask": torch.ones(1)}
    output = SimpleNamespace(logits=rewards[:, None])
    loss = RewardTrainer.compute_loss(trainer, lambda **_: output, inputs)
    loss.backward()
    return {"rewards": rewards, "margin": margin, "loss": loss, "gradient": rewards.grad}


def ppo() -> dict[str, Tensor]:
    from trl import PPOTrainer

    settings = SimpleNamespace(
        gamma=0.9,
        lam=0.8,
        whiten_rewards=False,
        kl_penalty="kl",
        cliprange=0.2,
        cliprange_value=0.2,
        vf_coef=0.1,
        ratio_threshold=10.0,
    )
    trainer = Trainer(config=settings, kl_ctl=SimpleNamespace(value=0.1))
    trainer._kl_penalty = lambda *both: PPOTrainer._kl_penalty(trainer, *both)
    policy, old, reference = logprobs(1).requires_grad_(), logprobs(2), logprobs(3)
    scores, before, values = drawn(4, len(LENGTHS)), tokens(5), tokens(6).requires_grad_()
    per_token, _, _ = PPOTrainer.compute_rewards(trainer, scores, old, reference, answered())
    _, advantages, returns = PPOTrainer.compute_advantages(trainer, before, per_token, answered())
    logits = torch.zeros(*policy.shape, 2)
    of_policy, of_values, _ = PPOTrainer.loss(
        trainer, old, before, logits, values, policy, answered(), advantages, returns
    )
    loss = of_policy + of_values
    loss.backward()
    found = {"advantages": advantages, "returns": returns, "loss": loss, "gradient": policy.grad}
    given = {"policy": policy, "old": old, "reference": reference, "scores": scores, "before": before}
    return {**given, "values": values, **found, "values_gradient": values.grad}


CASES = {
    "dpo": lambda: {name: dpo(*settings) for name, settings in DPO.items()},
    "grpo": lambda: {name: grpo(*settings) for name, settings in GRPO.items()},
    "reward": lambda: {"plain": reward(0.0), "centred": reward(0.01)},
    "ppo": lambda: {"plain": ppo()},
}


def rounded(values: Any) -> Any:
    """In as many figures as float32 has."""
    return [rounded(each) for each in values] if isinstance(values, list) else float(f"{values:.7g}")


def main() -> None:
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    for kind in sys.argv[1:]:
        cases = {
            case: {name: rounded(value.detach().tolist()) for name, value in columns.items()}
            for case, columns in CASES[kind]().items()
        }
        recorded[kind] = {"trl": version("trl"), "cases": cases}
    lines = (
        f'"{kind}": {{"trl": "{of_kind["trl"]}", "cases": {{\n  '
        + ",\n  ".join(f'"{name}": {json.dumps(case)}' for name, case in of_kind["cases"].items())
        + "}}"
        for kind, of_kind in sorted(recorded.items())
    )
    RECORDED.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
