"""Text in, numbers out: toxicity, refusal, gender and fluency. Knows no patches and no models of its own. Layer 1."""

from patchlab.scoring.bias import first_pronoun, gendered_rate
from patchlab.scoring.fluency import distinct_n, gibberish, repetition
from patchlab.scoring.table import JudgeSet, Scorer, judge_set, load_scorer, scorer_names

__all__ = [
    "JudgeSet", "Scorer", "distinct_n", "first_pronoun", "gendered_rate", "gibberish", "judge_set", "load_scorer", "repetition",
    "scorer_names",
]
