"""Reads the SQL of `include/sql/` as PostgreSQL does, as far as filling it in and narrowing it needs.

sqlparse, which Airflow brings, reads `'\\'` as an unfinished text and ends nested comments too early.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\r\n]* )
  | (?P<nested> /\* )
  | (?P<quoted> (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
      | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$ )
  | (?P<cast> :: )
  | (?P<placeholder> (?<![\w)\]"]):[^\W\d]\w* )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<space> \s+ )
  | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PART = re.compile(r"/\*|\*/")
# What ends the WHERE of a SELECT, and what makes one of several.
_AFTER_WHERE = frozenset(["group", "having", "window", "order", "limit", "offset", "fetch", "for"])
_SET_OPERATIONS = frozenset(["union", "intersect", "except"])


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    depth: int  # of parentheses around it

    @property
    def is_code(self) -> bool:
        return self.kind not in ("comment", "space")

    @property
    def word(self) -> str:
        return self.text.lower() if self.kind == "word" else ""


def _tokens(text: str) -> Iterator[_Token]:
    at = depth = 0
    while match := _TOKEN.match(text, at):
        kind, end = str(match.lastgroup if match.lastgroup != "tag" else "quoted"), match.end()
        if kind == "nested":
            kind, end = "comment", _comment_end(text, end)
        depth -= match[0] == ")"
        yield _Token(kind, text[at:end], at, depth)
        depth += match[0] == "("
        at = end


def _comment_end(text: str, at: int) -> int:
    level = 1
    while level:
        part = _COMMENT_PART.search(text, at)
        if part is None:
            return len(text)
        level += 1 if part[0] == "/*" else -1
        at = part.end()
    return at


def filled(text: str, values: Mapping[str, str]) -> str:
    """The query with its placeholders filled in, wherever they are code; without the semicolon at its end."""
    tokens = list(_tokens(text))
    end = max((token.start for token in tokens if token.is_code and token.text != ";"), default=0)
    pieces = (
        values.get(token.text[1:], token.text) if token.kind == "placeholder" else token.text
        for token in tokens
        if token.text != ";" or token.start < end
    )
    return "".join(pieces)


def narrowed(text: str, column: str, condition: str) -> str | None:
    """The SELECT with a further condition on one of its columns, tested before any of its expressions is computed.

    `condition` has `{id}` for the column's expression. None where the query is not a SELECT with a WHERE of its own.
    """
    tokens = [token for token in _tokens(text) if token.depth == 0 and token.is_code]
    words = [token.word for token in tokens]
    if _SET_OPERATIONS & set(words) or words.count("select") != 1 or words.count("where") != 1 or "from" not in words:
        return None
    select, start, where = words.index("select"), words.index("from"), words.index("where")
    expression = _expression(text, tokens[select : start + 1], column)
    if expression is None or where < start:
        return None
    body = tokens[where].start + len("where")
    end = next((tokens[k].start for k in range(where, len(tokens)) if words[k] in _AFTER_WHERE), len(text))
    added = condition.replace("{id}", expression)
    return f"{text[:body]} {added} AND ({text[body:end]}\n) {text[end:]}"


def _expression(text: str, tokens: list[_Token], column: str) -> str | None:
    """What a select list computes for a column; the first token is SELECT, the last FROM."""
    marks = [0, *(k for k, token in enumerate(tokens) if token.text == ","), len(tokens) - 1]
    for first, last in pairwise(marks):
        item = tokens[first + 1 : last]
        if not item or item[-1].text.strip('"') != column or item[0].word == "distinct":
            continue
        alone = len(item) == 1 or item[-2].text == "."
        end = item[-1].start + len(item[-1].text) if alone else item[-2 if item[-2].word == "as" else -1].start
        expression = text[item[0].start : end].strip()
        return expression if re.fullmatch(r'[\w$."]+', expression) else f"({expression})"
    return None


def tables_read(text: str) -> list[str]:
    """The names after FROM and JOIN as they are written, `schema.table` with its schema, each once.

    What a query calls itself by WITH is among them, and so is what a function such as `extract(day FROM x)` takes.
    """
    found: dict[str, None] = {}
    tokens = [token for token in _tokens(text) if token.is_code]
    for before, after in pairwise(enumerate(tokens)):
        if before[1].word in ("from", "join") and after[1].kind in ("word", "quoted"):
            name, at = after[1].text.strip('"'), after[0] + 1
            while at + 1 < len(tokens) and tokens[at].text == ".":
                name, at = f"{name}.{tokens[at + 1].text.strip(chr(34))}", at + 2
            found[name] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class Orders:
    """Some of a window's work orders, by their ids as text: those from `first` to `last` in bytewise order."""

    first: str | None = None
    last: str | None = None
    without: Sequence[str] = ()

    def condition(self, expression: str) -> str:
        """SQL that is true for these, of the expression of an id; an id that is NULL is none of those left out."""
        key = f"coalesce({expression}::text, '') COLLATE \"C\""
        tests = [f"{key} >= {literal(self.first)}"] if self.first is not None else []
        tests += [f"{key} <= {literal(self.last)}"] if self.last is not None else []
        tests += [f"{key} NOT IN ({', '.join(map(literal, self.without))})"] if self.without else []
        return " AND ".join(tests) or "true"


ALL_ORDERS = Orders()
#: No work order at all: what fails for these fails whatever the rows are.
NO_ORDERS = Orders("1", "0")


def literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
