"""`camelid align --method reward`: from comparisons to a reward model."""

import logging
from pathlib import Path

from camelid.align.comparisons import Comparisons, read_comparisons
from camelid.align.reward import PackedCandidates, ranking_loss
from camelid.align.reward_quality import RewardQuality, reward_quality
from camelid.align.reward_report import QUALITY, reward_report
from camelid.base.atomic import atomic_folder
from camelid.base.digest import digest_paths
from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import write_json
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.load import check_tokenizer_fits, load_model, special_ids
from camelid.formats.reward import check_rewardable, save_reward_model
from camelid.model.adapters import merge_adapters
from camelid.model.reward import put_reward_head
from camelid.model.transformer import Transformer
from camelid.recipes.align import AlignRecipe
from camelid.report.page import write_report
from camelid.runs.null_run import shared_run
from camelid.runs.provenance import Parent
from camelid.runs.run import Run
from camelid.text.tokenizer import Tokenizer, load_tokenizer
from camelid.train.adapting import adapted_model, check_lora
from camelid.train.fit import Setup, fit_rows, rows_of_update
from camelid.train.parallel import ProcessGroup
from camelid.train.stages import MODEL, check_chat
from camelid.train.tensor_parallel import tensor_plan

logger = logging.getLogger(__name__)


def train_reward(recipe: AlignRecipe, group: ProcessGroup) -> Path:
    """Trains a reward model on comparisons; returns its folder, which transformers loads as a classifier."""
    base = resolve(recipe.model)
    rows_of_update(recipe.training, group.data_size)
    spec, tokenizer = read_spec(base), load_tokenizer(base)
    tensor_plan(spec, group.tensor_size)
    check_chat(base, tokenizer, spec.encoder_layers > 0)
    check_rewardable(spec, base)
    check_tokenizer_fits(spec, tokenizer)
    check_lora(recipe.lora, base, group.tensor_size)
    if recipe.lora.base == "nf4":
        raise WrongCall("a reward model's adapter is merged, which a 4-bit base prevents; remove --lora.base")
    digests = digest_paths(recipe.comparisons)
    with shared_run(recipe, group.is_main, parents=[Parent.of(base)], data=digests) as run:
        if not (recipe.out / MODEL).exists():
            found = read_comparisons(recipe, tokenizer, apart=False, longest=spec.most_tokens)
            if recipe.reward.margin and not found.rated:
                raise CamelidError(
                    "--reward.margin needs rows that rate how much better an answer is: margin, score_chosen "
                    "and score_rejected, or answers with a score"
                )
            _train(recipe, run, base, tokenizer, found, group)
        if group.is_main:
            write_report(reward_report(run.folder), run.folder)
    return recipe.out / MODEL


def _train(
    recipe: AlignRecipe, run: Run, base: Path, tokenizer: Tokenizer, found: Comparisons, group: ProcessGroup
) -> None:
    adapts = recipe.lora.rank is not None
    model = put_reward_head(adapted_model(base, recipe.lora, recipe.seed) if adapts else load_model(base))
    rows = PackedCandidates(found.train, recipe.training.context_length, recipe.seed, tokenizer.pad_id or 0)
    last: list[RewardQuality] = []

    def measure(model: Transformer, setup: Setup) -> RewardQuality:
        last[:] = [reward_quality(found.held_out, recipe.reward, model, setup)]
        return last[0]

    trained = fit_rows(
        run,
        model,
        rows,
        recipe.training,
        group,
        recipe.seed,
        formula=ranking_loss(recipe.reward),
        measure=measure if found.held_out else None,
    )
    if not group.is_main:
        return
    if last:
        _show(run, last[0])
    last_id = int(found.train[0].examples[0].targets[-1])
    ids = {**special_ids(tokenizer), "pad_token_id": padding_for(tokenizer, last_id)}
    with atomic_folder(recipe.out / MODEL) as draft:
        save_reward_model(draft, merge_adapters(trained), special_ids=ids, provenance=run.identity)
        tokenizer.save(draft)


def padding_for(tokenizer: Tokenizer, last_id: int) -> int:
    """The padding that transformers is told of: it reads the value at the last token that is not padding.

    So padding may not be the token that conversations end with, `last_id`.
    """
    named = (tokenizer.pad_id, tokenizer.bos_id, *tokenizer.special_ids.values(), *range(2))
    chosen: int = next(each for each in named if each is not None and each != last_id)
    if tokenizer.pad_id is not None and chosen != tokenizer.pad_id:
        logger.warning(
            f"conversations end with the tokenizer's padding, id {last_id}: transformers would not read the "
            f"reward there, so config.json names id {chosen} as padding; pad batches with it"
        )
    return chosen


def _show(run: Run, quality: RewardQuality) -> None:
    """Writes the table of the last validation, and logs its lines."""
    by_length, calibration = quality.by_length(), quality.calibration()
    write_json(
        run.folder / QUALITY,
        {"measures": quality.measures, "by_length": by_length, "calibration": calibration},
    )
    logger.info("held-out pairs by how many characters longer the better answer is:")
    for row in by_length:
        logger.info(
            f"  {row['longer_by_from']:6.0f} to {row['longer_by_to']:6.0f}: accuracy {row['accuracy']:.3f} "
            f"(longer wins: {row['longer_wins']:.3f}), calibration error {row['calibration_error']:.3f}, "
            f"{row['pairs']:,} pairs"
        )
    logger.info("calibration: how often the answer with the higher reward is the better one:")
    for row in calibration:
        logger.info(f"  at confidence {row['confidence']:.3f}: {row['accuracy']:.3f}, {row['pairs']:,} pairs")
