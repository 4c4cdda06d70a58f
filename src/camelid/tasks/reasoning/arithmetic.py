"""Word problems whose answer is a number."""

from camelid.tasks.graders import numeric
from camelid.tasks.item_rows import gsm8k
from camelid.tasks.reasoning.cleansing import GSM8K_REPLY
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.reasoning.exemplars import WORD_PROBLEM_PARTS, WORD_PROBLEMS

GSM8K = Dataset(
    name="gsm8k",
    version=1,
    read=gsm8k,
    grader=numeric,
    source="arXiv:2110.14168; openai/grade-school-math",
    exemplars=WORD_PROBLEMS,
    decomposition=WORD_PROBLEM_PARTS,
    paper=GSM8K_REPLY,
)
