"""Layer 4: measures the effects of a stack: suites, metrics, statistics, reports."""

from patchlab.evaluation.evaluate import evaluate
from patchlab.evaluation.interaction_matrix import matrix
from patchlab.evaluation.report import as_markdown, rows, write_report
from patchlab.evaluation.suites import PUBLIC, SUITES, load_prompts, suite

__all__ = ["PUBLIC", "SUITES", "as_markdown", "evaluate", "load_prompts", "matrix", "rows", "suite", "write_report"]
