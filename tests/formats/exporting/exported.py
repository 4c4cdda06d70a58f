"""A folder that tests export."""

from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

TEXTS = ["the camel walks to the well", "naïve café 東京 1,000,000 at 10:30", "if x == 1:\n        return"]
LLAMA = ModelSpec.llama(
    vocab_size=330, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, context_length=160
)


def write(folder, spec, vocabulary, std=0.3):
    """A checkpoint of random weights large enough for logits that differ."""
    folder.mkdir()
    model = Transformer(spec).initialize(0, std=std)
    ids = {"eos_token_id": sorted(vocabulary.stop_ids), "bos_token_id": vocabulary.bos_id}
    save_checkpoint(folder, model, special_ids={**ids, "pad_token_id": vocabulary.pad_id or 0})
    vocabulary.save(folder)
    return folder
