"""`error_page` and `proxy_intercept_errors` as the keys `error-page` and `intercept` of a route.

    error_page 502 504 /sorry/;              "502" = "/sorry/", "504" = "/sorry/"
    error_page 404 =200 @app;                "404" = "=200 @app"
    error_page 403 =301 https://a.test/;     "403" = "=301 https://a.test/"

A page that is a file is none here: errors of the proxy have pages of its own then. What a guard
(`auth_request`) answers by 401 is `guards`' business. It never makes a route. Invariant: a status
leads where nginx leads it, or the location is refused. Raises `Refusal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from rawproxy.nginx.matching import found_by
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.report import Report
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.values import Refusal
from rawproxy.nginx.words import DIFFERENT, Word

_OURS: Final = range(494, 500)  # nginx's own: they never lead anywhere here
_SAYS: Final = ("proxy_pass", "return", "rewrite", "if")
_STATIC: Final = Word(DIFFERENT, "errors of the proxy have pages of its own, as Accept asks for")


class Pages:
    """The error pages of one location."""

    def __init__(
        self, blocks: Blocks, locations: tuple[Directive, ...], report: Report, of_server: bool
    ) -> None:
        self._blocks = blocks
        self._locations = locations
        self._report = report
        self._of_server = of_server  # of a `return` there, which is in the way of a page by path
        self._guarded = blocks.first_of("auth_request", "off") != "off"
        self.intercepts = blocks.is_on("proxy_intercept_errors")

    def keys(self, value: Callable[[str], str]) -> dict[str, Any]:
        """The keys of the route."""
        found: dict[str, str] = {}
        for one in self._blocks.all("error_page"):
            for status in self._statuses(one):
                place = self._place(one)
                if place:
                    found.setdefault(str(status), self._overridden(one) + value(place))
        if not found:
            return {}
        return {"error-page": found} | ({"intercept": True} if self.intercepts else {})

    def _statuses(self, one: Directive) -> Iterator[int]:
        for text in one.args[:-1]:
            if text.startswith("="):
                continue
            status = int(text) if text.isdigit() else 0
            if not 400 <= status <= 599:
                raise Refusal(f"{one.place}: error_page {text}: only errors lead elsewhere here")
            if status not in _OURS and not (status == 401 and self._guarded):
                yield status

    def _overridden(self, one: Directive) -> str:
        said = [text for text in one.args[:-1] if text.startswith("=")]
        return f"{said[-1]} " if said else ""

    def _place(self, one: Directive) -> str:
        """Where it leads; empty: to a page of ours."""
        target = one.args[-1]
        if target.startswith("@"):
            found = next((it for it in self._locations if it.args == (target,)), None)
        elif target.startswith("/"):
            if self._of_server:
                return ""
            found = found_by(self._locations, target.partition("?")[0])
        else:
            return target
        inner = () if found is None or found.block is None else found.block
        if not any(it.name in _SAYS for it in inner):
            if self.intercepts or self._overridden(one) or target.startswith("@"):
                raise Refusal(f"{one.place}: error_page {target}: no files are served here")
            self._report.say(one, _STATIC)
            return ""
        if any(it.name == "proxy_pass" for it in inner):
            self._check(one, self._blocks.beside(inner))
        return target

    def _check(self, one: Directive, page: Blocks) -> None:
        """A page that an upstream answers."""
        guards = page.innermost("allow", "deny") + list(page.all("limit_req"))
        guards += page.all("limit_conn")
        asks = any(page.first_of(name, "off") != "off" for name in ("auth_basic", "auth_request"))
        if guards or asks:
            text = f"error_page {one.args[-1]}: a page for errors has to be one for everybody"
            raise Refusal(f"{one.place}: {text}; type auth_basic off and the like there")


def check_server(server: Blocks, changed: Callable[[str], object]) -> None:
    """Nginx runs the server's rewrites again for a page by its path."""
    for one in server.own("rewrite", "if", "set"):
        inner = [text for it in one.block or () for text in it.args]
        if one.name == "rewrite" or changed(" ".join((*one.args, *inner))):
            raise Refusal(
                f"{one.place}: it looks at the path of an error page too: lead to an @name"
            )
