"""Writes docs/from-nginx.md from the table of directives: `make docs`."""

import json
import pathlib

from rawproxy.nginx.words import tables

HERE = pathlib.Path(__file__).parent
ROUTES = HERE.parent / "bench" / "results" / "routes.json"  # by `python -m bench routes`
PAGE = pathlib.Path(__file__).parent / "from-nginx.md"
HEAD = """# Moving in from nginx

```console
$ rawproxy --nginx /etc/nginx/sites-enabled/sso.conf          # run it as it is
$ rawproxy import-nginx sso.conf -o rawproxy.toml             # or write our file
```

A file may be whole, or bare `server { … }` or `location { … }` blocks; includes are followed.
Locations by regular expression need `pip install 'rawproxy[nginx]'`. Each directive ends in one of
four words:

* **exact**: it means here what it means there, traps included: a `proxy_pass` with a URI replaces
  what the location has matched, `location /app` fits `/apple` too, regular expressions come in
  order and behind `^~`, one `add_header` or `proxy_set_header` in a block means none of the blocks
  around it, bodies end at 1 MB, Host is that of the upstream unless the file sets it,
  upstreams are not verified, the first server of an address is its default.
* **different on purpose**: it is done in another way, and the note says how.
* **harmless**: it says how nginx works inside, or asks for what happens here anyway.
* **refused**: it is not done here. Nothing is served until it is taken out; FILE:LINE is said.

Whatever the file says, these differ on purpose:

* Upstreams are spoken to in HTTP/1.1, and connections to them are kept.
* `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` are written here; what a client claims in them
  is dropped unless it is trusted.
* A path that servers read in two ways (`//`, `%2F`, dot segments) is refused with 400 where the
  readings lead to different locations. nginx decodes it first.
* A path that is changed never begins with two slashes: an upstream could take it for a host.
* What `return` says has the type that `default_type` names. nginx lets the ending of the path
  choose it, and with it a visitor chooses whether the text is HTML.
* An answer of the proxy's own does not depend on the size of a body that nobody reads.
* What a client escaped stays so that it cannot end a line or a URL, where nginx's `$uri` and `$1`
  write it bare into headers and redirects.
* What an upstream says in `X-Accel-Redirect` and the other `X-Accel-*` steers nothing, and reaches
  the client unless `proxy_hide_header` names it.
* Redirects of a missing slash name the host and the port that were asked for.
* `Server` and `Date` are the upstream's.
* Where `error_page` leads to a file or is not there, pages are our own. A page that an upstream
  answers is asked for without the body of the request, and only when that has come as a whole. What
  `add_header` adds is added whatever the status.
* How large a body may be says the location that answers; nginx holds to the location as well from
  which a `rewrite … last` has led there.
* Where nginx takes `$1` from an expression that is run later than the location's (a map's, or that
  of `proxy_redirect` or `proxy_cookie_*`), the file is refused: type a name for the group.
* A `return` that `error_page CODE = @name` leads to a named location is no error: the request goes
  there as it came, body and all, as in nginx. Other pages are shown for errors of one request once;
  an error of such a page leads nowhere.
* What a guard (`auth_request`) answers by 401, 403 or a redirect goes to the client as it is. If it
  cannot be asked the answer is 503. A 401 leads to the place of `error_page 401` for whoever
  navigates; a script gets the 401. The guard is told method and URI by X-Forwarded-* too.
* After ten wrong passwords an address gets 429 for a while; a password is asked for in UTF-8.
* `limit_req` never delays: the burst passes at once, and what is more gets 429.
* Where client certificates are asked for, SSL-Client-* tell the upstream who came.
* No files are served: a location without `proxy_pass` and `return` answers 404, for a folder too,
  where nginx says 403. Other methods than GET, HEAD and POST get 405 there, as of nginx's files.

How this is known: `tests/nginx/` runs nginx and rawproxy with the same files, sends both the same
requests and compares what the upstream and the client saw; the
[table](../tests/nginx/CONFIGURATIONS.md) has all of them. To try a file put it into
`tests/nginx/configs/`. `make nginx-pairs` puts configurations together at random and compares
100,000 requests ([results](../tests/nginx/PAIRS.md)).

"""


def costs() -> str:
    """What routes cost, where it was measured."""
    if not ROUTES.exists():
        return ""
    results = json.loads(ROUTES.read_text())
    told = []
    for build, found in results["builds"].items():
        most = max(one["us"] for name, one in found["rows"].items() if " sites, " in name)
        ready = ", ".join(
            f"with {kind} ready after {start['seconds']:.2f} s"
            for kind, start in found["start"].items()
        )
        told.append(
            f"{build} build: {ready}, a request finds its route in {most:.2f} µs at the most"
        )
    return (
        f"What a file with {results['servers']:,} servers costs: {'; '.join(told)} (measured"
        f" {results['taken'][:10]}, {results['machine']['cpu']};"
        " [all rows](../bench/results/ROUTES.md)).\n\n"
    )


def page() -> str:
    """The whole page."""
    parts = [HEAD, costs()]
    for module, words in tables().items():
        parts.append(f"## {module.capitalize()}\n\n| directive | word | note |\n|---|---|---|\n")
        parts += [
            f"| `{name}` | {one.word} | {one.note.replace('|', chr(92) + '|')} |\n"
            for name, one in sorted(words.items())
        ]
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
