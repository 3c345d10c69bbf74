"""Rows of tables: CSV, TSV and Parquet. A row has as many fields as the header, or it is none."""

from __future__ import annotations

import csv

from patchlab.errors import InputError, MissingExtraError
from patchlab.rows.lines import Found, Lines, too_long
from patchlab.storage import MAX_ROW

REREAD = 20  # quotes that are opened and never closed, behind each of which the lines are read as rows of their own


class Record:
    """The lines of one row of CSV, decoded; bytes that are not UTF-8 become halves of surrogate pairs."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.line, self.taken, self.size, self.ended = lines, lines.number + 1, [b""][:0], 0, False

    def __iter__(self) -> Record:
        return self

    def __next__(self) -> str:
        line = self.lines.read()
        if not line:
            self.ended = True
            raise StopIteration
        self.taken.append(line)
        self.size += len(line)
        if self.size > MAX_ROW:
            odd = sum(each.count(b'"') for each in self.taken) % 2
            while (odd or not self.lines.whole) and (line := self.lines.read()):
                odd ^= line.count(b'"') % 2
            raise too_long()
        return line.decode("utf-8", "surrogateescape")

    def fields(self, delimiter: str) -> list[str] | InputError:
        """The row's fields, none at the end and for a blank line, or what is wrong with it."""
        limit = csv.field_size_limit(MAX_ROW)  # 131,072 otherwise, for the whole process
        try:
            found = next(csv.reader(self, delimiter=delimiter, strict=True), [])
            "".join(found).encode()
        except InputError as error:
            return error
        except UnicodeEncodeError:
            return InputError("is not UTF-8", expected="UTF-8 text", do="convert the file")
        except csv.Error as error:
            return InputError("a quote that is never closed" if self.ended else f"is not CSV ({error})",
                              expected="quotes around texts, doubled inside of them", do="fix that row")
        finally:
            csv.field_size_limit(limit)
        return found


def table(lines: Lines, name: str, delimiter: str) -> Found:
    """The rows below a header. A first column without a name, the index that pandas writes, is left out. Raises InputError for a
    header with another empty name or one that is there twice."""
    header: list[str] = []
    index = 0
    unclosed = 0
    while (fields := (record := Record(lines)).fields(delimiter)) or record.taken:
        if not header and fields:
            header = [] if isinstance(fields, InputError) else [field.strip() for field in fields]
            index = int(len(header) > 1 and not header[0])
            if "" in header[index:] or len({*header}) < len(header) or isinstance(fields, InputError):
                raise InputError(f"{name} line {record.line}: a header with "
                                 f"{fields.found if isinstance(fields, InputError) else ', '.join(header)[:200]!r}",
                                 expected="a name for each column, each once", do="name the columns in the first line")
        elif isinstance(fields, InputError):
            yield record.line, fields
            if record.ended and (unclosed := unclosed + 1) <= REREAD:
                lines.back(record.taken[1:])  # what follows may be whole rows
        elif fields and len(fields) != len(header):
            yield record.line, InputError(f"{len(fields)} fields under a header of {len(header)}",
                                          expected=f"{len(header)}: {', '.join(header)[:200]}",
                                          do="put quotes around texts with a delimiter")
        elif fields:
            yield record.line, dict(list(zip(header, fields, strict=True))[index:])


def parquet_rows(source: str) -> Found:
    """The rows of a Parquet file, counted from 1."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("pyarrow is not installed", expected="it to read Parquet files",
                                do="pip install pyarrow, or give the rows as JSON Lines or CSV") from None
    number = 0
    try:
        with parquet.ParquetFile(source) as file:
            names = file.schema_arrow.names
            if len({*names}) < len(names):
                raise InputError(f"{source} has a column that is there twice", expected="each once", do="rename it")
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield number, too_long() if batch.nbytes > MAX_ROW and len(str(row)) > MAX_ROW else row
    except (ArrowException, OSError, ValueError) as error:
        yield number + 1, InputError(f"damaged Parquet data ({str(error).strip()[:120]})", expected="a whole Parquet file",
                                     do="make or download it again")
