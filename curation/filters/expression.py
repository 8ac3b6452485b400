"""A small language for conditions on metadata: `aesthetic_score >= 4.5 and tags contains "animal"`.

    condition  = any { "or" any },  any = term { "and" term },  term = [ "not" ] ( "(" condition ")" | test )
    test       = column operator value | column "contains" value | column "in" "(" value { "," value } ")" | column
    operator   = "=" | "==" | "!=" | "<" | "<=" | ">" | ">="
    column     = name { "." name }, or `name in backquotes`
    value      = number | "text" | 'text' | true | false | null

A column names an entry of the metadata, and further names entries inside it. A column that is absent is null. Every
comparison with null is false, except `= null` and `!= null`; so are comparisons of text with numbers, unless the text
is a number: CSV files hold nothing but text. `contains` finds an element of a list, or a part of a text, whatever the
case; in an object, it searches every entry. A column alone is true if it is true, a number other than 0, or the text
"true", "yes" or "1".

Nothing is evaluated as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helix4d.core import ConfigError

Condition = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<quoted>`[^`]+`)
      | (?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
      | (?P<mark>==|!=|<=|>=|[=<>(),])
    )""",
    re.VERBOSE,
)
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = frozenset({"and", "or", "not", "contains", "in", "true", "false", "null"})
_CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_DEEPEST = 50
_LONGEST = 10_000


@dataclass(frozen=True)
class Expression:
    """A parsed condition.

    Attributes:
        text: the condition as written.
        columns: names of the columns that it reads, in order of appearance.
        matches: whether given metadata satisfies it.
    """

    text: str
    columns: tuple[str, ...]
    matches: Condition


def parse_expression(text: str) -> Expression:
    """Parse a condition.

    Raises:
        ConfigError: if it is invalid; the message shows where.
    """
    if len(text) > _LONGEST:
        raise ConfigError(f"--where has {len(text):,} characters: at most {_LONGEST:,} are allowed")
    parser = _Parser(text)
    condition = parser.condition(0)
    parser.expect_end()
    return Expression(text, tuple(dict.fromkeys(parser.columns)), condition)


@dataclass(frozen=True)
class _Token:
    kind: str
    value: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._next = 0
        self.columns: list[str] = []

    def condition(self, depth: int) -> Condition:
        options = [self._all(depth)]
        while self._take_word("or"):
            options.append(self._all(depth))
        return options[0] if len(options) == 1 else lambda row: any(option(row) for option in options)

    def expect_end(self) -> None:
        if self._next < len(self._tokens):
            raise self._error('expected "and", "or" or the end')

    def _all(self, depth: int) -> Condition:
        terms = [self._term(depth)]
        while self._take_word("and"):
            terms.append(self._term(depth))
        return terms[0] if len(terms) == 1 else lambda row: all(term(row) for term in terms)

    def _term(self, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise self._error(f"nested more than {_DEEPEST} deep")
        if self._take_word("not"):
            inner = self._term(depth + 1)
            return lambda row: not inner(row)
        if self._take_mark("("):
            inner = self.condition(depth + 1)
            if not self._take_mark(")"):
                raise self._error('expected ")"')
            return inner
        return self._test()

    def _test(self) -> Condition:
        path = self._column()
        token = self._peek()
        if token is not None and token.kind == "mark" and token.value in _COMPARISONS:
            self._next += 1
            compare, value = _COMPARISONS[token.value], self._value()
            return lambda row: _compared(_look_up(row, path), value, compare)
        if self._take_word("contains"):
            value = self._value()
            return lambda row: _contains(_look_up(row, path), value)
        if self._take_word("in"):
            values = self._values()
            return lambda row: any(_compared(_look_up(row, path), value, operator.eq) for value in values)
        return lambda row: _is_true(_look_up(row, path))

    def _column(self) -> tuple[str, ...]:
        token = self._peek()
        if token is None or token.kind not in ("name", "quoted") or token.value in _WORDS:
            raise self._error("expected the name of a column")
        self._next += 1
        name = token.value.strip("`")
        self.columns.append(name)
        return (name,) if token.kind == "quoted" else tuple(name.split("."))

    def _value(self) -> Any:
        token = self._peek()
        if token is not None and token.kind in ("number", "text"):
            self._next += 1
            return float(token.value) if token.kind == "number" else token.value[1:-1]
        if token is not None and token.kind == "name" and token.value in _CONSTANTS:
            self._next += 1
            return _CONSTANTS[token.value]
        raise self._error("expected a number, a quoted string, true, false or null")

    def _values(self) -> list[Any]:
        if not self._take_mark("("):
            raise self._error('expected "(" after "in"')
        values = [self._value()]
        while self._take_mark(","):
            values.append(self._value())
        if not self._take_mark(")"):
            raise self._error('expected "," or ")"')
        return values

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take_word(self, word: str) -> bool:
        return self._take("name", word)

    def _take_mark(self, mark: str) -> bool:
        return self._take("mark", mark)

    def _take(self, kind: str, value: str) -> bool:
        token = self._peek()
        taken = token is not None and token.kind == kind and token.value == value
        self._next += taken
        return taken

    def _split(self, text: str) -> list[_Token]:
        tokens, at = [], 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ConfigError(f"--where {text!r}: cannot read {text[at:].strip()[:20]!r}")
            kind = str(found.lastgroup)
            value = found[kind]
            tokens.append(_Token(kind, value.lower() if value.lower() in _WORDS else value, found.start(kind)))
            at = found.end()
        return tokens

    def _error(self, what: str) -> ConfigError:
        token = self._peek()
        found = "the end" if token is None else repr(self._text[token.at :][:20])
        return ConfigError(f"--where {self._text!r}: {what}, found {found}")


def _look_up(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    # A column of a table may have dots in its name.
    if (whole := ".".join(path)) in row:
        return row[whole]
    value: Any = row
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _compared(found: Any, value: Any, compare: Callable[[Any, Any], bool]) -> bool:
    if value is None:
        return compare in (operator.eq, operator.ne) and compare(found is None, True)
    if found is None:
        return False
    if isinstance(value, bool):
        truth = _truth(found)
        return truth is not None and compare(truth, value)
    if isinstance(value, float):
        number = _number(found)
        return number is not None and compare(number, value)
    return isinstance(found, str) and compare(found, value)


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value.casefold() in found.casefold()
    if isinstance(found, list | tuple):
        return any(_same(one, value) for one in found)
    if isinstance(found, Mapping):  # captions with several parts
        return any(_contains(part, value) for part in found.values() if not isinstance(part, Mapping))
    return False


def _same(one: Any, value: Any) -> bool:
    if isinstance(one, str) and isinstance(value, str):
        return one.casefold() == value.casefold()
    if isinstance(one, Mapping):  # hubs list tags as objects with a name
        return any(_same(part, value) for part in one.values() if isinstance(part, str))
    return _compared(one, value, operator.eq)


def _is_true(found: Any) -> bool:
    return _truth(found) is True


def _truth(found: Any) -> bool | None:
    if isinstance(found, bool):
        return found
    if isinstance(found, int | float):
        return found != 0
    text = found.casefold().strip() if isinstance(found, str) else ""
    return True if text in _YES else False if text in _NO else None


def _number(found: Any) -> float | None:
    if isinstance(found, bool):
        return None
    if isinstance(found, int | float):
        return float(found)
    try:
        return float(found) if isinstance(found, str) else None
    except ValueError:
        return None
