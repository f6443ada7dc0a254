"""Who may pass, in words: for `rawproxy explain`. In the order in which it is asked.

It never asks anybody. Invariant: what it says of lists and of the question is what the guard's own
code makes of the request.
"""

from __future__ import annotations

from rawproxy.access import htpasswd
from rawproxy.access.address_lists import AddressList
from rawproxy.access.inquiry import AuthGate
from rawproxy.access.route_guard import RouteGuard
from rawproxy.access.rules import AccessRules, AuthRule, RateRule
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Key
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.forwarding import one_client
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.routing.route_targets import RouteTarget

# A line, and the key that it comes from: a name alone is the route's or its site's.
ExplainedLines = list[tuple[str, Key]]


def tell(target: RouteTarget, asked: Asked) -> ExplainedLines:
    """The lines; none where everybody may pass."""
    if target.access is None:
        return []
    rules = from_json(AccessRules, target.access)
    client = rewrite.client_of(asked.head, asked.context)
    told: ExplainedLines = []
    if rules.addresses:
        passes = AddressList(rules.addresses, rules.address_rest).allows(client)
        word = "passes" if passes else "is refused (403)"
        if rules.any and (rules.password is not None or rules.auth is not None):
            word = "passes, nothing else is asked" if passes else "has to sign in"
        name = "deny" if rules.address_rest else "allow"
        told.append((f"{name}: {client.decode()} {word}", (name,)))
    if rules.rate is not None:
        told.append((_rate(rules.rate, one_client(client).decode()), ("request-rate",)))
    if rules.connections:
        text = f"connections: {rules.connections} at once of {one_client(client).decode()}"
        told.append((text, ("connections",)))
    if rules.password is not None:
        told.append((f"basic-auth: {_password(rules, asked)}", ("basic-auth",)))
    guard = target.guard
    if rules.auth is not None and isinstance(guard, RouteGuard) and guard.gate is not None:
        told += _auth(rules.auth, guard.gate, asked)
    if rules.identity:
        told.append((f"cut of what the client says: {', '.join(rules.identity)}", ()))
    return told


def _rate(rule: RateRule, visitor: str) -> str:
    who = {"client": visitor, "site": "all clients together"}.get(rule.key, f"each {rule.key}")
    many = f"{rule.requests} in {rule.per:g} s, {rule.burst + 1} at once"
    return f"request-rate: {many}, for {who}; beyond it 429"


def _password(rules: AccessRules, asked: Asked) -> str:
    assert rules.password is not None
    field = asked.head.value(b"authorization")
    if not field:
        return "no password, so 401"
    credentials = htpasswd.credentials(field)
    if credentials is None:
        return "not a Basic password, so 401"
    users = htpasswd.PasswordFile(rules.password.users)
    fits = htpasswd.right(users, credentials, lambda: None)
    name = credentials.user.decode("utf-8", "backslashreplace")
    return f"the password of {name} is {'right' if fits else 'wrong, so 401'}"


def _auth(rule: AuthRule, gate: AuthGate, asked: Asked) -> ExplainedLines:
    group = gate.service.groups[rule.group]
    where = ", ".join(endpoint.title for endpoint in group.endpoints)
    told: ExplainedLines = [(f"auth: {rule.name} ({rule.kind}) at {where} is asked", ("auth",))]
    question = gate.form.head(asked.head, asked)
    for line in gate.form.opening(question, asked).split(b"\r\n"):
        if line:
            told.append((f"  | {line.decode('utf-8', 'backslashreplace')}", ()))
    renamed = (f"{told} as {field}" for field, told in rule.renamed)
    copied = ", ".join((*rule.copied, *renamed)) or "nothing"
    told.append((f"of its answer the upstream gets: {copied}", ("auth", rule.name)))
    return told
