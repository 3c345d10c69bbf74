"""The three files of a report: JSON, Markdown tables, and an HTML page with charts and examples."""

from __future__ import annotations

from pathlib import Path

from patchlab.evaluation.report.html import page
from patchlab.evaluation.report.json import as_json, rows
from patchlab.evaluation.report.markdown import as_markdown
from patchlab.records import Report
from patchlab.storage import write_json, write_text

__all__ = ["as_markdown", "rows", "write_report"]


def write_report(report: Report, folder: Path) -> None:
    """Write report.json, report.md and report.html into `folder`."""
    write_json(folder / "report.json", as_json(report))
    write_text(folder / "report.md", as_markdown(report))
    write_text(folder / "report.html", page(report))
