"""nginx's files: every value keeps its file and line, and nginx-crossplane reads the same."""

import pathlib
import re
import tempfile

import crossplane
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawproxy.errors import ConfigError
from rawproxy.nginx import reading
from rawproxy.nginx.reading import Directive, read
from tests.nginx.generator import configurations
from tests.nginx.stand import CONFIGS


def flat(tree, depth=0):
    """Every directive: its name, arguments, place and depth."""
    for one in tree:
        yield one.name, list(one.args), pathlib.Path(one.file).name, one.line, depth
        yield from flat(one.block or (), depth + 1)


def crossplanes(path: pathlib.Path):
    """The same as nginx-crossplane reads it, what stands within `http` beside the rest."""
    found = crossplane.parse(str(path), combine=True, check_ctx=False, check_args=False)
    assert not found["errors"]
    parsed = found["config"][0]["parsed"]
    whole = [
        inner for one in parsed for inner in (one["block"] if one["directive"] == "http" else [one])
    ]

    def walk(block, depth):
        for one in block:
            args = [reading_escapes(text) for text in one["args"]]
            file = pathlib.Path(one.get("file", path)).name
            yield one["directive"], args, file, one["line"], depth
            yield from walk(one.get("block") or (), depth + 1)

    return list(walk(whole, 0))


def reading_escapes(text: str) -> str:
    """nginx-crossplane leaves the backslashes that nginx takes out."""
    meant = {"t": "\t", "r": "\r", "n": "\n"}
    return re.sub(r"\\([\"'\\trn])", lambda match: meant.get(match[1], match[1]), text)


@pytest.fixture
def files(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / name.replace("__", "/").replace("_conf", ".conf")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return str(tmp_path / "main.conf")

    return write


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.conf")), ids=lambda path: path.stem)
def test_crossplane_reads_the_same(path):
    assert list(flat(read(str(path)))) == crossplanes(path)


WORDS = st.text("ab/.$^~*:=|#-+()[]", min_size=1, max_size=6).filter(lambda one: one[0] not in "#")
QUOTED = st.text("ab $;{}#/'\n", max_size=6)
ARGUMENTS = (
    WORDS
    | QUOTED.map(lambda one: one and f'"{one}"').filter(bool)
    | WORDS.map(lambda one: f"a${{{'x'}}}{one}")
)
BLANKS = st.sampled_from((" ", "  ", "\n", "\t"))
COMMENTS = st.sampled_from(("", "", "\n# said; { on the side }\n"))
NAMES = st.sampled_from(("listen", "server_name", "proxy_pass", "add_header", "unheard_of"))


@st.composite
def texts(draw, depth=2):
    """A file: statements, blanks, comments, quotes, blocks."""
    made = ""
    for _ in range(draw(st.integers(0, 4))):
        made += draw(COMMENTS) + draw(BLANKS) + draw(NAMES)
        made += "".join(draw(BLANKS) + one for one in draw(st.lists(ARGUMENTS, max_size=3)))
        if depth and draw(st.booleans()):
            made += draw(BLANKS) + "{" + draw(texts(depth - 1)) + draw(BLANKS) + "}"
        else:
            made += draw(st.sampled_from(("", " "))) + ";"
    return made


@settings(deadline=None)
@given(texts())
def test_whatever_is_written_crossplane_reads_the_same(text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "main.conf")
        path.write_text(text)
        assert list(flat(read(str(path)))) == crossplanes(path)


@settings(deadline=None, max_examples=20)
@given(configurations())
def test_what_is_put_together_crossplane_reads_the_same(configuration):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "main.conf")
        path.write_text(configuration.text)
        assert list(flat(read(str(path)))) == crossplanes(path)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["a", " ", ";", "{", "}", '"', "'", "\\", "#", "\n", "${", "$", "include x"]
        ),
        max_size=14,
    )
)
def test_any_text_is_read_or_refused_with_its_line(parts):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "main.conf")
        path.write_text("".join(parts))
        said, tree = [f"{path}:"], ()
        try:
            tree = read(str(path))
        except ConfigError as error:
            said = error.messages
        assert all(one.startswith(f"{path}:") for one in said)
        last = "".join(parts).count("\n") + 1
        assert all(0 < line <= last for _, _, _, line, _ in flat(tree))


@settings(deadline=None)
@given(
    st.lists(st.text("abc.-/", min_size=1, max_size=4), min_size=1, max_size=6), st.integers(0, 6)
)
def test_every_value_keeps_its_file_and_line_through_includes(names, cut):
    """The same statements in one file and in several have the same arguments, in the same order."""
    with tempfile.TemporaryDirectory() as folder:
        inner = pathlib.Path(folder, "conf.d")
        inner.mkdir()
        first, second = names[:cut], names[cut:]
        (inner / "1.conf").write_text("".join(f"\nserver_name {one};\n" for one in first))
        (inner / "2.conf").write_text("".join(f"# x\nserver_name {one};" for one in second))
        main = pathlib.Path(folder, "main.conf")
        main.write_text("user x;\nserver {\n  include conf.d/*.conf;\n}\n")
        server = read(str(main))[1]
        said = [(one.args[0], pathlib.Path(one.file).name, one.line) for one in server.block]
        assert said == [
            *((one, "1.conf", 2 + 2 * at) for at, one in enumerate(first)),
            *((one, "2.conf", 2 + at) for at, one in enumerate(second)),
        ]


def test_includes_begin_at_the_folder_of_the_first_file(files):
    path = files(
        main_conf="http { include sites/*.conf; include sites/none-*.conf; }",
        sites__b_conf="server { include sites/more; }",
        sites__a_conf="server { listen 1; }",
        sites__more="listen 2;",
    )
    first, second = read(path)
    assert [one.block[0].args for one in (first, second)] == [("1",), ("2",)]
    assert second.block[0].place.endswith("sites/more:1")


def test_all_files_that_are_missing_are_told_at_once(files):
    path = files(main_conf="include a;\nserver {\n include b; }")
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert [one.rpartition(": ")[2] for one in caught.value.messages] == [
        "No such file or directory"
    ] * 2
    assert caught.value.messages[1].startswith(f"{path}:3: ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("server {\n listen 80\n}", ':3: unexpected "}"'),
        ("}\n", ':1: unexpected "}"'),
        ("\n;", ':2: unexpected ";"'),
        ("{ }", ':1: unexpected "{"'),
        ("server {\n\n", ":1: server { has no } at its end"),
        ("\nlisten 80", ":2: unexpected end of file"),
        ('\nadd_header X "a\nb;', ':2: a word in " that does not end'),
        ("add_header X 'a'b;", ":1: a word in ' that does not end, or has no blank"),
        ("include a b;", ":1: include takes one name"),
        ("server { if $host { } }", ":1: if takes a condition"),
        ("access_by_lua_block { return }", ":1: access_by_lua_block: no Lua"),
        ("a { " * 20 + "} " * 20, ":1: more than"),
        ("include main.conf;", ":1: more than"),
    ],
)
def test_what_cannot_be_read_says_where(files, text, why):
    path = files(main_conf=text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(path + why)


def test_a_file_has_an_end(files, monkeypatch):
    monkeypatch.setattr(reading, "BYTES", 1 << 20)
    with pytest.raises(ConfigError, match="more than 1 MB"):
        read(files(main_conf="#" * (1 << 20) + "#"))


@pytest.mark.parametrize(
    ("text", "args"),
    [
        (r'"a\"b"', ('a"b',)),
        (r"'a\\b' c\;d", ("a\\b", "c\\;d")),
        (r"a\ b", ("a\\ b",)),
        ('"" x', ("", "x")),
        ("a${b}c{", None),
        ("^/x(a{2}", None),
        ("a#b ##", ("a#b",)),
    ],
)
def test_words(files, text, args):
    if args is None:
        with pytest.raises(ConfigError):
            read(files(main_conf=f"name {text};"))
    else:
        assert read(files(main_conf=f"name {text}\n;"))[0].args == args


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("($host = a.test)", ("$host", "=", "a.test")),
        ("( $host = a )", ("$host", "=", "a")),
        ("($host ~ (a|b))", ("$host", "~", "(a|b)")),
        ('($https = "")', ("$https", "=", "")),
        ("($slow)", ("$slow",)),
    ],
)
def test_conditions(files, text, args):
    (one,) = read(files(main_conf=f"if {text} {{ return 200; }}"))
    assert one == Directive("if", args, one.file, 1, one.block)
