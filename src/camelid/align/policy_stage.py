"""`camelid align --method ppo|grpo`: a policy that learns from the rewards of its own answers."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from camelid.align.alarms import Watch
from camelid.align.critic import add_value_head, has_value_head, remove_value_head
from camelid.align.held_out import HeldOut
from camelid.align.learning import GRPO, PPO, Learning
from camelid.align.meter import Meter
from camelid.align.policy import Policy
from camelid.align.policy_report import policy_report
from camelid.align.pretraining_text import PretrainingText
from camelid.align.prompt_lengths import fitting
from camelid.align.questions import Asked, asked_by, prompts_of
from camelid.align.rewarding import digest_of_reward, graded, rewarded_by
from camelid.align.rollouts import Rollouts
from camelid.align.samplers import ClusterSampler, EngineSampler, Sampler, beginning
from camelid.align.saving import save_trained
from camelid.align.solutions import method_of
from camelid.base.digest import digest_paths
from camelid.base.errors import CamelidError, WrongCall
from camelid.data.read.corpus import Corpus
from camelid.data.rows.holdout import uniform
from camelid.engine.engine import Engine
from camelid.evals.rewards import Reward, open_reward
from camelid.evals.stage import load_tasks
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.load import check_tokenizer_fits, load_model
from camelid.lm.sampling import Sampling
from camelid.recipes.align import AlignRecipe
from camelid.report.page import write_report
from camelid.runs.null_run import shared_run
from camelid.runs.provenance import Parent
from camelid.runs.run import METRICS, Run
from camelid.text.tokenizer import Tokenizer, load_tokenizer
from camelid.train.adapting import check_lora
from camelid.train.clock import TimeLimit
from camelid.train.fit import Setup, fit, precision, prepare
from camelid.train.parallel import ProcessGroup
from camelid.train.sharding import gather
from camelid.train.stages import ADAPTER, MODEL
from camelid.train.tensor_parallel import tensor_plan

logger = logging.getLogger(__name__)

MEASURED = 64
"""Held-out questions at most that are answered at each validation."""
ROWS_AT_ONCE = 16
MOST_TOKENS = 256
"""Of an answer to a prompt, by default."""
ROLLOUTS = "rollouts"
"""The run's subfolder of answers that are being trained on."""


def train_policy(recipe: AlignRecipe, group: ProcessGroup, limit: TimeLimit | None = None) -> Path:
    """Trains the model by the rewards of its own answers; returns the folder of the model or adapter.

    limit: when to end at the latest; see `train.clock`.
    """
    if recipe.training.epochs is not None:
        raise WrongCall("rollouts have no epochs: give --training.steps, the number of updates")
    if recipe.lora.dropout:
        raise WrongCall("dropout is off while a policy learns from rewards: leave out --lora.dropout")
    if recipe.calculator is not None:
        raise WrongCall("a policy is rewarded for what it writes itself: leave out --calculator")
    if recipe.training.compile is True:
        raise WrongCall("the updates of a policy are not compiled: leave out --training.compile")
    base = resolve(recipe.model)
    spec, tokenizer = read_spec(base), load_tokenizer(base)
    if spec.encoder_layers:
        raise CamelidError(f"{base} is an encoder-decoder; policies are trained from decoders")
    tensor_plan(spec, group.tensor_size)
    check_tokenizer_fits(spec, tokenizer)
    check_lora(recipe.lora, base, group.tensor_size)
    _check_shares(recipe, group)
    questions = questions_of(recipe)
    digests = _digests(recipe, questions)
    reward = None if recipe.rewarded_by is None else open_reward(recipe.rewarded_by, device=str(group.device))
    folder = recipe.out / (MODEL if recipe.lora.rank is None else ADAPTER)
    with shared_run(recipe, group.is_main, parents=[Parent.of(base)], data=digests) as run:
        if not folder.exists():
            _train(recipe, run, base, tokenizer, questions, reward, group, folder, limit)
        if group.is_main:
            write_report(policy_report(run.folder), run.folder)
    return folder


def _train(
    recipe: AlignRecipe,
    run: Run,
    base: Path,
    tokenizer: Tokenizer,
    questions: Sequence[Asked],
    reward: Reward | None,
    group: ProcessGroup,
    folder: Path,
    limit: TimeLimit | None,
) -> None:
    questions = fitting(questions, recipe, base, tokenizer, reward)
    rewarding = graded if reward is None else rewarded_by(reward)
    dtype = precision(run, recipe.training, group)
    learning = _learning(recipe, tokenizer)
    policy = _policy(recipe, base, dtype, group)
    asked = [each for each in questions if uniform(each.question) >= recipe.held_out]
    held_out = [each for each in questions if uniform(each.question) < recipe.held_out][:MEASURED]
    if not asked:
        raise WrongCall(f"all {len(questions)} questions are held out: lower --held-out, or give more")
    logger.info(f"{len(asked):,} questions, and {len(held_out)} held out to measure with")
    settings, meter = learning.settings, Meter(group)
    watch = Watch(run.folder / METRICS, settings.largest_kl, settings.allow_cut)
    engine = Engine(policy.sampler, tokenizer, dtype=dtype, max_batch=recipe.engine.max_batch)
    with engine:
        here = EngineSampler(engine, policy)
        sampler: Sampler = here
        if recipe.on is not None:
            sampler = ClusterSampler(recipe.on, policy, base, recipe.lora, recipe.seed, engine.max_batch)
        rollouts = Rollouts(
            sampler, asked, policy, rewarding, learning, watch, run.folder / ROLLOUTS, recipe.seed
        )
        measure = HeldOut(here, held_out, rewarding, settings.cut_reward, run.folder)

        def metrics() -> Mapping[str, float]:
            stats = {**rollouts.stats, **meter.read()}
            watch.see(stats)
            return stats

        fit(
            run,
            policy.model,
            rollouts.batches_from,
            learning.objective(policy.frozen, dtype, meter),
            recipe.training,
            Setup(group, dtype, policy.rows_at_once),
            measure if held_out else None,
            recipe.seed,
            limit,
            also=metrics,
            samples=True,
        )
    trained = gather(policy.model, keep=group.is_main)
    if group.is_main:
        if has_value_head(trained):
            remove_value_head(trained)
        save_trained(trained, folder, base, tokenizer, run)


def questions_of(recipe: AlignRecipe) -> list[Asked]:
    """The questions of a recipe's tasks and the prompts of its files."""
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    method = replace(method_of(recipe), samples=1, temperature=None)
    questions = [each for task in tasks for each in asked_by(method.program_for(task), task)]
    if recipe.prompts:
        sampling = Sampling(max_new_tokens=recipe.max_new_tokens or MOST_TOKENS)
        questions += prompts_of(recipe.prompts, sampling, recipe.skip_bad_rows, recipe.limit)
    return questions


def _digests(recipe: AlignRecipe, questions: Sequence[Asked]) -> dict[str, str]:
    """Digests of the files and of the reward, and the versions of the questions' tasks."""
    versions = {each.task.name: each.task.version for each in questions if each.task is not None}
    paths = [*recipe.data, *recipe.prompts, *recipe.ppo.pretraining, *filter(None, [recipe.exemplars])]
    digests = {**digest_paths(paths), **versions}
    if recipe.rewarded_by is not None:
        digests[recipe.rewarded_by] = digest_of_reward(recipe.rewarded_by)
    return digests


def _learning(recipe: AlignRecipe, tokenizer: Tokenizer) -> Learning:
    if recipe.method == "grpo":
        return GRPO(recipe.grpo)
    text = None
    if recipe.ppo.pretraining:
        text = PretrainingText.read(Corpus(recipe.ppo.pretraining), tokenizer, recipe.seed)
    return PPO(recipe.ppo, text)


def _check_shares(recipe: AlignRecipe, group: ProcessGroup) -> None:
    """Raises `WrongCall` if the processes cannot share a rollout's answers and an update's rows equally."""
    settings = recipe.grpo if recipe.method == "grpo" else recipe.ppo
    text = recipe.ppo.pretraining_rows if recipe.method == "ppo" and recipe.ppo.pretraining else 0
    answers, size = settings.questions * settings.group, group.data_size
    rows = answers // settings.minibatches + text
    if answers % size or rows % size:
        remedy = f"--{recipe.method}.questions {settings.questions * size}"
        remedy += f" and --ppo.pretraining-rows {-(-text // size) * size}" if text else ""
        raise WrongCall(
            f"a rollout has {answers} answers (questions x group), and an update {rows} rows (answers / "
            f"minibatches, and pretraining text), of which each of {size} processes must have as many; give "
            f"{remedy}, or start {math.gcd(answers, rows)} processes or a divisor of that"
        )


def _policy(recipe: AlignRecipe, base: Path, dtype: torch.dtype, group: ProcessGroup) -> Policy:
    """The model to train, with a value head for PPO, and its reference, which an adapter needs no copy of."""
    adapts, reference = recipe.lora.rank is not None, None
    model = beginning(base, recipe.lora, dtype, recipe.seed)
    if not adapts:
        reference = load_model(base, dtype).to(group.device).requires_grad_(False)
    model.to(group.device)
    if recipe.method == "ppo":
        add_value_head(model)
    prepare(model, recipe.training.model_copy(update={"compile": False}))
    rows = recipe.training.micro_batch_size or ROWS_AT_ONCE
    return Policy(model, reference, dtype, rows, group)
