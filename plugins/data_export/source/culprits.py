"""Finds the work orders that hold a value which the source itself cannot read or convert.

Such a value ends the whole statement. It is looked for only then: halves of the window's work orders are read again
until single ones are left that fail alone, and these column by column. The snapshot is then read without them.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_export.errors import InvalidRecord, SourceRejected, ValueRejected
from data_export.source.database import Dsn, RowSecurity, Source, open_source
from data_export.source.errors import OF_CODE, OF_OTHERS
from data_export.source.queries import Queries, Query
from data_export.source.snapshot import NUMBER, PATHS, TABLES
from data_export.source.sql_text import NO_ORDERS, Orders

# Past these it is rather a query that is wrong than values.
_MOST = 1000
_LONGEST_SECONDS = 1200.0
_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Culprit:
    """A work order that cannot be read, and the first of its values that is why."""

    work_order: str
    table: str | None  # None where no column fails alone
    column: str  # empty where all of the table's fail
    key: str | None  # of the row, see `KEYS`
    reason: str
    sqlstate: str

    @property
    def field(self) -> str:
        """The path of the value in the delivered record."""
        if self.table is None:
            return ""
        return (PATHS[self.table] + self.column).removesuffix(".")

    @property
    def input(self) -> str | None:
        return self.key if self.table not in (None, "work_order", "work_item") else None

    def error(self) -> InvalidRecord | SourceRejected:
        """The error that names value and fix; a number is nobody's value, but the query's own."""
        if self.column == NUMBER:
            return SourceRejected(_of_query(str(self.table), NUMBER, self.reason))
        row = (
            f" of {'input' if self.input else 'work item'} {self.key}"
            if self.table != "work_order" and self.key
            else ""
        )
        column = f", column {self.column}" if self.column else ""
        where = f" (table {self.table}{column})" if self.table else ""
        return InvalidRecord(
            f"work order {self.work_order}: {self.field}{row} {self.reason}{where}".replace(":  ", ": ")
            + ": fix the row at the source or what refuses it, or write on_invalid: quarantine in the customer file"
        )

    def to_dict(self) -> dict[str, object]:
        """As a record set aside; its rows cannot be read."""
        problem = {"field": self.field, "input": self.input, "problem": self.reason}
        return {"work_order": self.work_order, "problems": [problem], "rows": {}}


def _of_query(table: str, column: str, reason: str) -> str:
    is_number = column == NUMBER
    what = f"returns a {NUMBER} that cannot be read" if is_number else "fails for each work order that was tried"
    fix = "number the work orders 1, 2, 3, ... and take it from the table above" if is_number else "fix the query"
    return f"the query of {table} in include/sql/ {what} ({reason}): {fix}"


class Search:
    """A search in one window, begun because the source refused a value with `failure`."""

    def __init__(self, source: Source, queries: Queries, failure: ValueRejected) -> None:
        self._source = source
        self._queries = queries
        self._failure = failure
        self._found = source.found(queries.columns())

    def culprits(self, known: tuple[str, ...]) -> Iterator[Culprit]:
        """Every work order that fails, but for those that are known to.

        Raises:
            ValueRejected: the query fails without any or for each work order, or too many are found, or too slowly.
        """
        if self._failing(NO_ORDERS):
            raise self._failure
        began, count = time.monotonic(), 0
        ids = self._texts(self._queries.ids("work_order", Orders(without=known)))
        left = [(0, len(ids), False)]
        while left:
            first, end, certain = left.pop()
            # One alone is read in any case: what was wrong in its half may have been put right meanwhile.
            certain = certain and end - first > 1
            if first == end or not (certain or self._failing(Orders(ids[first], ids[end - 1], known))):
                continue
            if end - first == 1:
                count += 1
                late = count > 1 and time.monotonic() - began > _LONGEST_SECONDS  # the first has been found in any case
                if count > _MOST or late:
                    raise ValueRejected(
                        f"{self._failure}; at least {count} work orders of the window have it: no more are looked for"
                    )
                found = self._examined(ids[first])
                of_others = found.sqlstate.startswith(OF_OTHERS)
                of_code = count == 1 and found.sqlstate.startswith(OF_CODE)
                may_be_all = of_others or of_code or (found.table and not found.column)
                if found.column == NUMBER or (may_be_all and (of_others or len(ids) > 1)):
                    self._require_some(found, ids)
                if of_others and not self._failing(Orders(ids[first], ids[first])):
                    continue  # what the query asks was away, and is back
                yield found
                continue
            middle = (first + end) // 2
            lower = self._failing(Orders(ids[first], ids[middle - 1], known))
            left.append((middle, end, not lower))
            if lower:
                left.append((first, middle, True))

    def _examined(self, order: str) -> Culprit:
        only = Orders(order, order)
        for table in TABLES:
            for column in TABLES[table].names:
                refusal = self._refusal(self._queries.column(table, column, self._found, only))
                if refusal is not None:
                    key, reason = self._row(table, column, only)
                    if column == NUMBER:
                        column = self._cause_of_number(table, only)
                    return Culprit(order, table, column, key, reason or refusal.reason, refusal.sqlstate)
        return Culprit(order, None, "", None, self._failure.reason, self._failure.sqlstate)

    def _cause_of_number(self, table: str, only: Orders) -> str:
        """The column of which the number may be made, if one fails; empty where all do, as with a condition."""
        others = TABLES[table].names[1:]
        fail = [name for name in others if self._refusal(self._queries.column(table, name, self._found, only))]
        return "" if len(fail) == len(others) else next(iter(fail), NUMBER)

    def _require_some(self, found: Culprit, ids: Sequence[str]) -> None:
        """Passes where the query does for at least one of some of the window's work orders.

        Raises:
            ValueRejected: it does for none: to set all of them aside would deliver an empty file.
        """
        for order in ids[:: max(1, len(ids) // _SAMPLE)]:
            only = Orders(order, order)
            column = found.table and self._queries.column(found.table, found.column or NUMBER, self._found, only)
            if not (self._refusal(column) if column else self._failing(only)):
                return
        said = _of_query(found.table or "work_order", found.column, found.reason)
        raise ValueRejected(said, found.reason, found.sqlstate)

    def _row(self, table: str, column: str, only: Orders) -> tuple[str | None, str]:
        """The key of the first row whose value fails, and why; None where it does not show."""
        try:
            keys = self._texts(self._queries.ids(table, only))
        except ValueRejected:
            self._source.renew()
            return None, ""
        first, end = 0, len(keys)
        while end - first > 1:
            middle = (first + end) // 2
            rows = (keys[first], keys[middle - 1])
            fails = self._refusal(self._queries.column(table, column, self._found, only, rows))
            first, end = (first, middle) if fails else (middle, end)
        if first == end:
            return None, ""
        refusal = self._refusal(self._queries.column(table, column, self._found, only, (keys[first], keys[first])))
        return (keys[first], refusal.reason) if refusal else (None, "")

    def _failing(self, orders: Orders) -> bool:
        return self._refusal(self._queries.snapshot(self._found, orders)) is not None

    def _refusal(self, query: Query) -> ValueRejected | None:
        try:
            for _batch in self._source.batches(query):
                pass
        except ValueRejected as error:
            self._source.renew()
            return error
        return None

    def _texts(self, query: Query) -> list[str]:
        return [str(text) for batch in self._source.batches(query) for text in batch.column(0).to_pylist() if text]


def find_culprits(
    dsn: Dsn,
    queries: Queries,
    failure: ValueRejected,
    known: tuple[str, ...] = (),
    *,
    only_first: bool = False,
    row_security: RowSecurity = "refuse",
) -> list[Culprit]:
    """The work orders because of which the source refused the snapshot; `only_first` stops at one.

    Empty where all can be read by now, since a value was put right meanwhile, or where the cause has no id.

    Raises:
        ValueRejected: the query fails without any or for each work order, or there are more than a thousand, or more
            than 20 minutes find.
        SourceUnavailable, SourceRejected: as `extract`.
    """
    with open_source(dsn, row_security=row_security) as source:
        found: list[Culprit] = []
        for culprit in Search(source, queries, failure).culprits(known):
            found.append(culprit)
            if only_first:
                break
    return found
