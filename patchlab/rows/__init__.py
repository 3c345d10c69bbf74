"""Layer 0: rows that come from outside. JSON Lines, JSON, CSV, TSV, Parquet, gzip of the texts, standard input, the Hub.

    notes: list[str] = []
    texts = list(Rows("prompts.csv", notes=notes).each(lambda row: row["text"]))

Rows are read one at a time. A row that cannot be used is skipped, counted and named by the line it begins on; with `strict` it
is an error.
"""

from patchlab.rows.reader import HUB, Row, Rows

__all__ = ["HUB", "Row", "Rows"]
