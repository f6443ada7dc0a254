"""Lines of a TOML file: whatever tomllib finds in it has one, and it is the right one."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config.toml_lines import lines


def paths(value, path=()):
    """Every path into what tomllib gave."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))


def check(text):
    found = lines(text)
    assert set(found) == set(paths(tomllib.loads(text)))
    return found


def test_tables_arrays_of_tables_and_dotted_keys():
    found = check(
        "a = 1\n"
        "b.c.d = 2\n"
        "\n"
        "[group.app]\n"
        "upstream = [ # one a line\n"
        "  'x:1',\n"
        "  { url = 'y:1', weight = 2 },\n"
        "]\n"
        "[group.app.active]\n"
        "path = '/'\n"
        "[[site]]\n"
        "server-name = 'a'\n"
        "[[site.route]]\n"
        "path = '/'\n"
        "[[site.route]]\n"
        "path = '/b'\n"
        "[site.route.request-headers]\n"
        "set.X-A = '1'\n"
        "[[site]]\n"
        "[[site.route]]\n"
        "path = '/c'\n"
    )
    assert found["a",] == 1
    assert found["b", "c", "d"] == 2
    assert found["group",] == found["group", "app"] == 4
    assert found["group", "app", "upstream"] == 5
    assert found["group", "app", "upstream", 0] == 6
    assert found["group", "app", "upstream", 1, "weight"] == 7
    assert found["group", "app", "active", "path"] == 10
    assert found["site", 0, "route", 1, "path"] == 16
    assert found["site", 0, "route", 1, "request-headers", "set", "X-A"] == 18
    assert found["site", 1, "route", 0, "path"] == 21


def test_strings_that_span_lines_and_hold_brackets():
    found = check(
        'a = """\n[no]\nb = 1 \\""" # \n"""\n'
        "c = '''\n[[no]]'''''\n"
        'd = """x"""""\n'
        '\'quoted key\' . "\\u0062.c" = "a \\" # ] } \'" # comment\n'
        "e = '#'\r\n"
        "f = [[1, 2], [], [ '''\n''', 3, ], {}, 1979-05-27 07:32:00] # ]\n"
        "g = 1"
    )
    assert [found[name,] for name in "acd"] == [1, 5, 7]
    assert found["quoted key", "b.c"] == 8
    assert (found["e",], found["f",], found["f", 2, 0], found["f", 2, 1]) == (9, 10, 10, 11)
    assert found["g",] == 12


def test_an_empty_file_has_none():
    assert check("") == check(" # nothing\n") == {}


KEYS = st.text("ab.\" '\\é\t", max_size=3)
TREES = st.recursive(
    st.integers() | st.booleans() | st.text("a\"'\\\n#[]{}=, ", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def written(value, layout) -> str:
    """A value in TOML's inline form, its strings in a form that `layout` draws."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        basic = "".join(f"\\u{ord(char):04x}" if char in '"\\\n' else char for char in value)
        forms = [f'"{basic}"', f'"""\n{basic}"""']
        if "'" not in value:
            forms.append(f"'''\n{value}'''")
        return layout.draw(st.sampled_from(forms))
    if isinstance(value, list):
        gap = layout.draw(st.sampled_from(["", "\n", " # x\n"]))
        return "[" + "".join(f"{gap}{written(one, layout)}{gap}," for one in value) + gap + "]"
    pairs = [f"{written_key(key)} = {written(one, layout)}" for key, one in value.items()]
    return "{" + ", ".join(pairs) + "}"


def written_key(key: str) -> str:
    return '"' + "".join(f"\\u{ord(char):04x}" for char in key) + '"'


@given(st.dictionaries(KEYS, TREES, max_size=4), st.data())
def test_every_path_has_a_line_that_never_decreases(tree, layout):
    text = "".join(
        f"{written_key(key)} = {written(value, layout)}\n" for key, value in tree.items()
    )
    found = check(text)
    rows = [found[path] for path in paths(tomllib.loads(text))]
    assert rows == sorted(rows)
    for key in tree:
        assert text.split("\n")[found[key,] - 1].startswith(written_key(key))
