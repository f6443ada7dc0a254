"""The rewrite module's directives, run for all requests at once: `set`, `if`, `map`, `rewrite`.

nginx runs them in their order for each request. Here they are run once, when the file is read. An
`if` makes two ways of one, a map as many as it has values; each way ends in what becomes of the
requests that go it, and says by tests (`when` of a route) which ones these are.

    if ($request_method = POST) { return 405; }     when = { "$method" = "POST" }, respond 405
    map $http_x $y { a 1; default 2; }              $http_x is a: $y is 1; else $y is 2

The ways come in such an order that of the ways whose tests hold the first one counts. With
`complete` a way says also what has not held, and the order does not matter.

It never looks at locations or upstreams. Invariant: whatever a request is like, the first way that
fits it ends as nginx would end. Raises `Refusal` for what has no test here.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from rawproxy.nginx.maps import Map, WhenTest, equals, matches, not_equals
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.values import Refusal, Varying, named_groups, value

WAYS: Final = 64  # through one block: what has more is a program, and no configuration
_OF_REWRITE: Final = ("set", "if", "return", "rewrite", "break")
_REDIRECTS: Final = {"permanent": 301, "redirect": 302}
BY_NUMBER: Final = re.compile(r"\$(?:[1-9]|\{[1-9]\})").search
_NAMES: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z_][A-Za-z0-9_]*))")
_ALL: Final = {"^(.*)$": "$1", "^(.*)": "$1", "(.*)": "$1", "^/(.*)$": "/$1", "^/(.*)": "/$1"}
CHANGED: Final = re.compile(  # by a rewrite
    r"\$\{?(?:(?:document_)?uri|args|query_string|is_args|arg_\w+)\b"
).search
NOT_EMPTY: Final = ("!", "!0")


class Way(NamedTuple):
    """One way through the directives, and which requests go it."""

    known: Mapping[str, str]
    when: tuple[WhenTest, ...] = ()
    groups: int = 0  # that $1 to $9 can name
    end: Directive | None = None  # a `return`, or a `rewrite` that redirects
    block: tuple[Directive, ...] | None = None  # of the last `if` that held: it has a say in all
    path: str | None = None  # what a `rewrite` has made of the path
    again: bool = False  # and that is looked up again
    overwritten: bool = False  # nginx takes $1 to $9 from the expression of a map now

    def value(self, text: str) -> str:
        """A value with our variables."""
        return value(text, self.known, self.groups)

    def learns(self, name: str, text: str) -> Way:
        """The same, with a variable."""
        return self._replace(known={**self.known, name: text})

    def tested(self, *tests: WhenTest) -> Way:
        """The same, for fewer requests."""
        return self._replace(when=(*self.when, *tests))


# Yields ways; returns the one of those requests that it is nothing to, or None.
_Run = Generator[Way, None, Way | None]


class Rewriting:
    """What runs the directives of one block."""

    def __init__(
        self, maps: Mapping[str, Map], *, complete: bool = False, of_server: bool = False
    ) -> None:
        self._maps = maps
        self._of_server = of_server  # behind its directives, every path is looked up
        self._complete = complete
        self._count = 0

    def ways(self, block: tuple[Directive, ...], start: Way, said: Iterable[str] = ()) -> list[Way]:
        """All ways through the block. `said`: texts beside it in which variables may stand."""
        self._count = 0
        steps = [one for one in block if one.name in _OF_REWRITE]
        needed = _names([*_texts(steps), *said])
        begun = [start]
        for name in self._maps:
            if name in needed:
                begun = [way for one in begun for way in self._mapped(name, one, 0)]
        return [way for one in begun for way in self._run(steps, one)]

    def _mapped(self, name: str, way: Way, depth: int) -> list[Way]:
        """The ways of a map, by its values."""
        if name in way.known:
            return [way]
        if depth > len(self._maps):
            raise Refusal(f"${name} is made of itself")
        one = self._maps[name]
        begun = [way]
        for other in _names([one.source]):
            if other in self._maps:
                begun = [it for each in begun for it in self._mapped(other, each, depth + 1)]
        found: list[Way] = []
        for each in begun:
            found += self._choices(one, each)
            self._check(len(found))
        return found

    def _choices(self, one: Map, way: Way) -> Iterator[Way]:
        source = way.value(one.source)
        fixed = None if _varies(source) else source.replace("$$", "$")
        negated: list[WhenTest] = []
        for choice in one.choices:
            made = way
            if choice.pattern is not None and fixed is None:
                pattern, names = named_groups(choice.pattern)
                if _used([choice.text], names):
                    made = _captured(way, pattern, names)
                else:
                    pattern = _without_groups(pattern)
                test = matches(source, pattern, choice.any_case)
            elif fixed is not None:
                if not choice.fits(fixed):
                    continue
                made = _overwritten(way, choice.pattern)
                yield made.learns(one.name, _made(way, choice.text))
                return
            else:
                test = equals(source, choice.key)
            if choice.is_default:
                yield way.tested(*(negated if self._complete else ())).learns(
                    one.name, _made(way, choice.text)
                )
                return
            text = _made(made, choice.text)
            made = _overwritten(made, choice.pattern)
            yield made.tested(*(negated if self._complete else ()), test).learns(one.name, text)
            negated.append(test.negated())

    def _run(self, steps: list[Directive], way: Way) -> Iterator[Way]:
        for at, one in enumerate(steps):
            if way.path is not None and CHANGED(" ".join(_texts([one]))):
                raise Refusal(f"{one.place}: it looks at what a rewrite before it has changed")
            if one.name == "set":
                name = one.args[0].removeprefix("$")
                way = way.learns(name, _made(way, one.args[1]))
            elif one.name == "return":
                self._check(1)
                yield way._replace(end=one)
                return
            elif one.name == "break":
                way = way._replace(again=way.again and self._of_server)
                break
            else:
                run = self._if if one.name == "if" else self._rewrite
                rest = yield from run(one, steps[at + 1 :], way)
                if rest is None:
                    return
                way = rest
        self._check(1)
        yield way

    def _check(self, more: int) -> None:
        self._count += more
        if self._count > WAYS * 2:
            raise Refusal(f"more than {WAYS} ways through `if` and `map`: type fewer of them")

    def _if(self, one: Directive, rest: list[Directive], way: Way) -> _Run:
        """Yields the ways of those it holds for; returns that of the others, or None."""
        inner = [step for step in one.block or () if step.name in _OF_REWRITE]
        after = [*inner, *rest]
        held = self._holds(one, way, _texts([*after, *(one.block or ())]))
        if held is False:
            return way
        holds = way if held is True else held[0]
        yield from self._run(after, holds._replace(block=one.block))
        if held is True:
            return None
        return way.tested(*held[1]) if self._complete else way

    def _holds(
        self, one: Directive, way: Way, texts: list[str]
    ) -> bool | tuple[Way, tuple[WhenTest, ...]]:
        """Whether an `if` holds: for all, for none, or the way of those it holds for.

        The latter with the tests that hold for all others.
        """
        args = one.args
        if not args or not args[0].startswith("$") or len(args) not in (1, 3):
            raise Refusal(f"{one.place}: if ({' '.join(args)}): only variables are looked at here")
        left = way.value(args[0])
        fixed = None if _varies(left) else left.replace("$$", "$")
        if len(args) == 1:
            if fixed is not None:
                return fixed not in ("", "0")
            tests = tuple(WhenTest(left, text) for text in NOT_EMPTY)
            return way.tested(*tests), (matches(left, "^0?$", False),)
        operator, right = args[1:]
        if operator in ("=", "!="):
            told = way.value(right)
            if _varies(told):
                raise Refusal(f"{one.place}: two values are not compared here; type a text")
            told = told.replace("$$", "$")
            if fixed is not None:
                return (fixed == told) == (operator == "=")
            tests = (equals(left, told, exact=True), not_equals(left, told))
            holds, other = tests if operator == "=" else tests[::-1]
            return way.tested(holds), (other,)
        if operator not in ("~", "~*", "!~", "!~*"):
            raise Refusal(f"{one.place}: if (… {operator} …) is not known here")
        return self._found(way, left, fixed, (operator, right), texts)

    def _found(
        self, way: Way, left: str, fixed: str | None, asked: tuple[str, str], texts: list[str]
    ) -> bool | tuple[Way, tuple[WhenTest, ...]]:
        """The same, of a regular expression."""
        operator, right = asked
        pattern, names = named_groups(right)
        negated, any_case = operator.startswith("!"), operator.endswith("*")
        if fixed is not None and not _used(texts, names):
            return (re.search(pattern, fixed, re.I if any_case else 0) is not None) != negated
        holds = way
        if not negated and _used(texts, names):
            holds = _captured(way, pattern, names)
        else:
            pattern = _without_groups(pattern)
        test = matches(left, pattern, any_case)
        if negated:
            return way.tested(test.negated()), (test,)
        return holds.tested(test), (test.negated(),)

    def _rewrite(self, one: Directive, rest: list[Directive], way: Way) -> _Run:
        """The same of a `rewrite`."""
        pattern, instead, flag = one.args[0], one.args[1], (*one.args[2:], "")[0]
        if pattern in _ALL and not any(BY_NUMBER(text) for text in _texts(rest)):
            # What it keeps is the path itself, so what others have kept stays known.
            instead = instead.replace(_ALL[pattern], "$uri")
            pattern = "^" if not BY_NUMBER(instead) else pattern
            one = Directive(one.name, (pattern, instead, *one.args[2:]), one.file, one.line)
        away = flag in _REDIRECTS or instead.startswith(("http://", "https://", "$scheme"))
        if way.path is not None:
            raise Refusal(
                f"{one.place}: a second rewrite of one path: type one for both, or `last` behind"
                " the first"
            )
        named, names = named_groups(pattern)
        texts = [instead, *_texts(rest)]
        every = named in ("^", "^/", ".*", "^.*", "^.*$", "^/.*$", "^(.*)$") and not _used(
            texts, names
        )
        test = matches("$uri", named if _used(texts, names) else _without_groups(named), False)
        holds = way if every else _captured(way, named, names).tested(test)
        self._check(1)
        if away:
            yield from _with_query(one, holds)
        else:
            again = flag != "break" or self._of_server
            if again:
                self._check_maps(one, way)
            moved = holds._replace(path=holds.value(instead), again=again)
            if flag in ("last", "break"):
                yield moved
            else:
                yield from self._run(rest, moved)
        if every:
            return None
        return way.tested(test.negated()) if self._complete else way

    def _check_maps(self, one: Directive, way: Way) -> None:
        """What nginx has looked up before the path changed stays as it was; here it does not."""
        for name in way.known:
            if name in self._maps and CHANGED(self._maps[name].source):
                raise Refusal(f"{one.place}: ${name} is made of the path that changes here")


def named_by(way: Way, pattern: str, names: Mapping[str, int]) -> Way:
    """The way of requests whose name a pattern has found something in, which has names."""
    return _captured(way, pattern, names).tested(matches("$host", pattern, False))


def uses(steps: Iterable[Directive], names: Iterable[str]) -> bool:
    """Whether one of these variables is named anywhere in a block."""
    return not set(_names(_texts(list(steps)))).isdisjoint(names)


def redirect_of(one: Directive) -> tuple[str, str]:
    """Status and target of a `rewrite` that redirects."""
    return str(_REDIRECTS.get((*one.args[2:], "")[0], 302)), one.args[1]


def _with_query(one: Directive, way: Way) -> Iterator[Way]:
    """The target gets the query that was asked for, unless it ends with a question mark."""
    pattern, instead, *flags = one.args
    if instead.endswith("?"):
        yield way._replace(end=_redirecting(one, pattern, instead[:-1], flags))
    elif "?" in instead:
        more = f"{instead}&$args"
        some = way.tested(not_equals("$args", ""))
        yield some._replace(end=_redirecting(one, pattern, more, flags))
        yield way.tested(equals("$args", "", exact=True))._replace(end=one)
    else:
        yield way._replace(end=_redirecting(one, pattern, f"{instead}$is_args$args", flags))


def _redirecting(one: Directive, pattern: str, instead: str, flags: list[str]) -> Directive:
    return Directive(one.name, (pattern, instead, *flags), one.file, one.line)


def _overwritten(way: Way, pattern: str | None) -> Way:
    """The way behind a choice of a map: what an expression before it has kept is gone in nginx."""
    return way._replace(overwritten=way.overwritten or (pattern is not None and way.groups > 0))


def _captured(way: Way, pattern: str, names: Mapping[str, int]) -> Way:
    """What was found before is forgotten: `$1` and so on are of this expression now."""
    try:
        groups = min(9, re.compile(pattern).groups)
    except re.error:
        groups = 9  # the loader of ours will say what is wrong with it
    known: dict[str, str] = {
        name: text
        for name, text in way.known.items()
        if not (groups and isinstance(text, Varying) and BY_NUMBER(text))
    }
    known |= {name: Varying(f"${{{number}}}") for name, number in names.items()}
    return way._replace(known=known, groups=groups or way.groups)


def _made(way: Way, text: str) -> str:
    made = way.value(text)
    return Varying(made) if _varies(made) else made.replace("$$", "$")


def _varies(text: str) -> bool:
    return "$" in text.replace("$$", "")


def _texts(steps: list[Directive]) -> list[str]:
    found: list[str] = []
    for one in steps:
        found += one.args
        found += _texts(list(one.block or ()))
    return found


def _names(texts: list[str]) -> dict[str, None]:
    return dict.fromkeys(m[1] or m[2] for text in texts for m in _NAMES.finditer(text))


def _used(texts: list[str], names: Mapping[str, int]) -> bool:
    """Whether any of these texts names what an expression has found."""
    return any(BY_NUMBER(text) for text in texts) or bool(set(_names(texts)) & set(names))


def _without_groups(pattern: str) -> str:
    """The same pattern, in which nothing is kept: so it takes no `$1` away from others."""
    return re.sub(
        r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|\((?!\?)",
        lambda match: match[1] or "(?:",
        pattern,
    )
