"""Layer 3: what a stack does, in numbers: suites, metrics, statistics, report."""

from patchlab.evaluation.html import write_report
from patchlab.evaluation.interactions import matrix
from patchlab.evaluation.measuring import evaluate
from patchlab.evaluation.report import as_markdown, rows
from patchlab.evaluation.suites import PUBLIC, SUITES, load_prompts, suite

__all__ = ["PUBLIC", "SUITES", "as_markdown", "evaluate", "load_prompts", "matrix", "rows", "suite", "write_report"]
