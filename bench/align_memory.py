"""The copies of the base weights that a PPO run with LoRA holds, beside one that trains all weights.

    python bench/align_memory.py [lora]

A model of 153 M parameters, whose base weights outweigh everything else, makes three updates with four short
answers each. Reported: the resident memory that the process gained since before it read the model, over the
bytes of the model's weights: held after an update, and at its peak, reading the file included. All weights
need at least 5: their own, the reference's, gradients and two moments.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS = {"lora": {"lora": {"rank": 8}}, "all weights": {}}


def prepared(folder: Path) -> int:
    """Writes the model, prompts and a reward; returns the bytes of the weights."""
    from camelid.data import world
    from camelid.formats.hugging_face.checkpoint import save_checkpoint
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer
    from camelid.text.tokenizer import train_tokenizer

    stories = world.stories("train", 0)
    tokenizer = train_tokenizer([next(stories) for _ in range(100)], 2048)
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=1024, num_layers=12, num_heads=16, context_length=256
    )
    (folder / "model").mkdir()
    model = Transformer(spec).initialize(0)
    save_checkpoint(folder / "model", model)
    tokenizer.save(folder / "model")
    rows = ({"prompt": f"Once there were {number} ducks."} for number in range(16))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rewards.py").write_text("def length(completion):\n    return len(set(completion)) / 100\n")
    return sum(each.numel() * each.element_size() for each in model.parameters())


def gained(folder: Path, kind: str) -> dict[str, int]:
    """The bytes by which the process grows: the most after any update, and at the peak."""
    import resource

    import psutil

    from camelid.align.policy_stage import train_policy
    from camelid.recipes.align import AlignRecipe
    from camelid.recipes.recipe import load_recipe
    from camelid.runs.run import Run
    from camelid.train.parallel import ProcessGroup

    held, log = list[int](), Run.log

    def measured(run: Run, record: dict[str, Any]) -> None:
        held.append(psutil.Process().memory_info().rss)
        log(run, record)

    Run.log = measured  # type: ignore[method-assign, assignment]
    training = {"steps": 3, "learning_rate": 1e-5, "dtype": "float32", "compile": False}
    settings: dict[str, Any] = {
        "method": "ppo",
        "model": folder / "model",
        "held_out": 0.0,
        "prompts": [folder / "prompts.jsonl"],
        "rewarded_by": f"{folder / 'rewards.py'}:length",
        "max_new_tokens": 8,
        "ppo": {"questions": 4, "epochs": 1, "allow_cut": True},
        "training": training,
        "out": folder / kind.replace(" ", "-"),
        **KINDS[kind],
    }
    recipe = load_recipe(AlignRecipe, overrides=settings)
    before = psutil.Process().memory_info().rss
    train_policy(recipe, ProcessGroup())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"held": max(held) - before, "peak": peak - before}


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(gained(Path(sys.argv[1]), sys.argv[2])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = prepared(folder)
        for kind in sys.argv[1:] or KINDS:
            command = [sys.executable, __file__, str(folder), kind]
            out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            found = json.loads(out.splitlines()[-1])
            shown = ", ".join(f"{what} {grown / size:.2f}" for what, grown in found.items())
            print(f"{kind}: {shown} times the {size / 1e6:,.0f} MB of the weights", flush=True)


if __name__ == "__main__":
    main()
