"""The gates on a recipe of `camelid align`: what is asked or compared, and what rewards it."""

from collections.abc import Iterator
from functools import cache, partial

from camelid.evals.rewards import Reward, open_reward
from camelid.evals.stage import load_tasks
from camelid.formats.hub import resolve
from camelid.recipes.align import AlignRecipe
from camelid.text.tokenizer import load_tokenizer
from camelid.workflows.model_gates import Gate


def align_gates(recipe: AlignRecipe) -> Iterator[Gate]:
    """The gates on what a recipe's method reads, beside its model; each reads it as training does."""
    if recipe.method in ("dpo", "reward"):
        yield Gate("comparisons", partial(_see_comparisons, recipe))
        return
    reward = cache(partial(_opened, recipe.rewarded_by))  # a reward model is loaded once
    if recipe.rewarded_by is not None:
        yield Gate("rewarded_by", lambda: _see_reward(recipe.rewarded_by, reward()))
    if recipe.method in ("ppo", "grpo"):
        yield Gate("questions", lambda: _see_questions(recipe, reward()))
    else:
        yield Gate("questions", partial(_see_tasks, recipe))


def _opened(name: str | None) -> Reward | None:
    return None if name is None else open_reward(name)


def _see_reward(name: str | None, reward: Reward | None) -> str:
    assert reward is not None
    return f"{name} is a {reward.kind}; camelid check --reward {name} looks at what it pays for"


def _see_comparisons(recipe: AlignRecipe) -> str:
    from camelid.align.comparisons import count_pairs, read_comparisons
    from camelid.formats.hugging_face.checkpoint import read_spec

    base, apart = resolve(recipe.model), recipe.method == "dpo"
    longest = read_spec(base).most_tokens
    found = read_comparisons(recipe, load_tokenizer(base), apart=apart, longest=longest)
    return f"{count_pairs(found.train):,} pairs to train on, {count_pairs(found.held_out):,} held out"


def _see_questions(recipe: AlignRecipe, reward: Reward | None) -> str:
    from camelid.align.policy_stage import questions_of
    from camelid.align.prompt_lengths import fitting

    base, asked = resolve(recipe.model), questions_of(recipe)
    kept = fitting(asked, recipe, base, load_tokenizer(base), reward)
    return f"{len(kept):,} questions that leave room for an answer, of {len(asked):,}"


def _see_tasks(recipe: AlignRecipe) -> str:
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    return ", ".join(f"{task.name}: {len(task.items):,} questions" for task in tasks)
