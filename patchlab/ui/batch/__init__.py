"""The Batch tab: many prompts asked of all lanes, rates with intervals, a table with filters, and files to take along."""

from patchlab.ui.batch.batch_tab import BatchTab, build

__all__ = ["BatchTab", "build"]
