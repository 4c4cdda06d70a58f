"""`camelid align`: from questions or comparisons to a run folder with what was trained on them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from camelid.align.best_of_n_stage import train_best_of_n
from camelid.align.dpo_stage import train_dpo
from camelid.align.policy_stage import train_policy
from camelid.align.reward_stage import train_reward
from camelid.align.verifier_stage import train_verifier
from camelid.recipes.align import AlignRecipe, MethodName
from camelid.train.parallel import ProcessGroup, join_process_group

METHODS: Mapping[MethodName, Callable[[AlignRecipe, ProcessGroup], Path]] = {
    "verifier": train_verifier,
    "reward": train_reward,
    "dpo": train_dpo,
    "ppo": train_policy,
    "grpo": train_policy,
    "best-of-n": train_best_of_n,
}


def align(recipe: AlignRecipe) -> Path:
    """Aligns a model as the recipe says; returns the folder of the result in `recipe.out`."""
    group = join_process_group(recipe.parallel)
    with group.answering(recipe.out):
        return METHODS[recipe.method](recipe, group)
