"""A trained model, stories of the kind that it was trained on, and its tokens of others."""

from pathlib import Path

import pytest
from torch import Tensor

from camelid.data.read.corpus import Corpus
from camelid.formats.load import load_tokenizer
from camelid.quant.calibration import calibration_rows


@pytest.fixture(scope="session")
def stories(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Tensor]:
    """The folder of the model, a file of stories, and rows of tokens of others."""
    source = shared / "weights" / "tinystories-656k"
    file = next((shared / "data" / "pretrain" / "tinystories").glob("*valid*"))
    whole = "\n".join(text for text, _ in Corpus(file))
    path = tmp_path_factory.mktemp("stories") / "stories.txt"
    path.write_text(whole[:60_000])
    fresh = calibration_rows([whole[60_000:100_000]], load_tokenizer(source), 16, 64)
    return source, path, fresh
