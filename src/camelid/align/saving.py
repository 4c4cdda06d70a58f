"""What an alignment leaves behind: a model with its tokenizer, or an adapter of its base."""

from pathlib import Path

from camelid.base.atomic import atomic_folder
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.hugging_face.peft_folder import save_adapter
from camelid.formats.load import special_ids
from camelid.model.transformer import Transformer
from camelid.runs.run import Run
from camelid.text.tokenizer import Tokenizer
from camelid.train.stages import MODEL


def save_trained(model: Transformer, folder: Path, base: Path, tokenizer: Tokenizer, run: Run) -> None:
    """Writes the model into a folder named `MODEL`, or its adapter into one of another name; atomically."""
    with atomic_folder(folder) as draft:
        if folder.name == MODEL:
            save_checkpoint(draft, model, special_ids=special_ids(tokenizer), provenance=run.identity)
            tokenizer.save(draft)
        else:
            save_adapter(draft, model, base, run.identity)
