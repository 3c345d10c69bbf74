"""Layer 3: what a stack does, in numbers: suites, metrics, statistics, report."""

from patchlab.evaluation.report import as_markdown, evaluate, write_report
from patchlab.evaluation.suites import SUITES, load_prompts

__all__ = ["SUITES", "as_markdown", "evaluate", "load_prompts", "write_report"]
