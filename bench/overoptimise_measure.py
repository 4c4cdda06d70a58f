"""How bench/overoptimise.py asks for stories, grades them and measures a policy."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from instruction_measure import verdict
from instruction_rows import Row
from safetensors.torch import load_file

from camelid import LM, RewardModel
from camelid.align.columns import OLD, SAMPLED
from camelid.align.policy import Policy
from camelid.align.questions import Asked
from camelid.align.rollouts import as_batch
from camelid.align.summary import summary
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.load import load_model, special_ids
from camelid.lm.interface import Completion
from camelid.lm.sampling import Sampling
from camelid.recipes.engine import MarkerName
from camelid.text.conversation import Conversation, Message
from camelid.text.tokenizer import load_tokenizer
from camelid.train.parallel import ProcessGroup

LONGEST = 96
"""Tokens of a story at most."""


def as_asked(order: Row) -> Asked:
    """An order as the policy is asked it."""
    prompt = Conversation((Message("user", order["prompt"]),))
    return Asked(str(order["key"]), order["prompt"], prompt, Sampling(max_new_tokens=LONGEST), order)


def scores_of(pairs: Sequence[tuple[Asked, str]], proxy: Path | None = None) -> list[float]:
    """The share of the order's rules that each story follows, or a reward model's scores."""
    if proxy is not None:
        rewards = RewardModel.load(proxy, rows=64)
        return rewards.score([each.sample(text).conversation for each, text in pairs])
    return [fmean(verdict(each.columns, text).values()) for each, text in pairs]


def best_of_n_kl(n: int) -> float:
    """Nats between the best of n samples and one sample, at most (Stiennon et al., arXiv:2009.01325)."""
    return math.log(n) - (n - 1) / n


def chance_of_best(n: int, samples: int) -> torch.Tensor:
    """How probable each sample, by rank from the lowest, is the best of n drawn without replacement."""
    ways = math.comb(samples, n)
    return torch.tensor([math.comb(rank, n - 1) / ways for rank in range(samples)]).float()


def at_step(run: Path, step: int, start: Path) -> Path:
    """The policy of a run after so many updates, as a folder beside its checkpoints."""
    folder = run / f"at-{step}"
    if not folder.exists():
        model, tokenizer = load_model(start), load_tokenizer(start)
        state = load_file(run / "checkpoints" / f"step-{step:08d}" / "weights.safetensors")
        own = model.state_dict().keys()
        model.load_state_dict({name: each for name, each in state.items() if name in own}, strict=False)
        folder.mkdir()
        save_checkpoint(folder, model, special_ids=special_ids(tokenizer))
        tokenizer.save(folder)
    return folder


def told(policy: Path, asked: Sequence[Asked], marker: MarkerName | None = None) -> list[Completion]:
    """A policy's stories at temperature 1, one to each order."""
    with LM(policy, dtype=torch.float32, marker=marker) as lm:
        requests = [
            lm.request(each.prompt, replace(each.sampling, temperature=1.0, seed=at), 0)
            for at, each in enumerate(asked)
        ]
        for _ in lm.updates(requests):
            pass
        return [request.completion() for request in requests]


def sampled(
    policy: Path, start: Path, asked: Sequence[Asked], proxy: Path
) -> tuple[list[float], dict[str, float]]:
    """What gold gives a policy's stories, and the means of the distance from the model that it began as, of
    the proxy's reward, of the length, of the cut share."""
    answers = told(policy, asked)
    pairs = [(each, one.text) for each, one in zip(asked, answers, strict=True)]
    rewards = torch.tensor(scores_of(pairs, proxy))
    both = Policy(load_model(policy), load_model(start), torch.float32, 32, ProcessGroup())
    found = summary(asked, answers, rewards[:, None], both.scored(as_batch(answers)))
    return scores_of(pairs), {name: found[name] for name in ("kl", "reward", "answer_tokens", "cut")}


def marked(
    policy: Path, start: Path, asked: Sequence[Asked], proxy: Path
) -> tuple[list[float], dict[str, float]]:
    """`sampled` of a policy that is asked for good stories by its marker.

    The model that it began as is asked without, so the distance is the mean of log p - log q of the stories.
    """
    answers = told(policy, asked, "good")
    with LM(start, dtype=torch.float32) as lm:
        plain = [lm.encode(each.prompt) for each in asked]
    unmarked = [replace(one, prompt_tokens=own) for one, own in zip(answers, plain, strict=True)]
    model = load_model(start)
    scored = Policy(model, model, torch.float32, 32, ProcessGroup()).scored(as_batch(unmarked))
    log_ratio = (scored.extra[SAMPLED] - scored.extra[OLD]) * (scored.weights > 0)
    pairs = [(each, one.text) for each, one in zip(asked, answers, strict=True)]
    return scores_of(pairs), {
        "kl": float(log_ratio.sum()) / len(answers),
        "reward": fmean(scores_of(pairs, proxy)),
        "answer_tokens": fmean(len(one.tokens) for one in answers),
        "cut": fmean(one.finish_reason == "length" for one in answers),
    }
