"""Variables, sizes and times of nginx in our words."""

import pytest

from rawproxy.nginx.values import Refusal, fixed, named_groups, seconds, size, value


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("https://$host$request_uri", "https://$host$request_uri"),
        ("$request_method-$query_string", "$method-$args"),
        ("${scheme}x", "${scheme}x"),
        ("$document_uri$is_args$args", "$uri$is_args$args"),
        ("$http_x_own $cookie_a $arg_b", "$http_x_own $cookie_a $arg_b"),
        ("$app/x", "a$$b/x"),
        ("5$", "5$$"),
        ("$1st", "${1}st"),
    ],
)
def test_values(text, ours):
    assert value(text, {"app": "a$b"}, 1) == ours


def test_what_is_refused():
    for text in ("$upstream_addr", "$2", "$ssl_client_s_dn"):
        with pytest.raises(Refusal):
            value(text, {}, 1)
    with pytest.raises(Refusal, match="differs from request to request"):
        fixed("http://$host", {})
    assert fixed("http://$a:80", {"a": "b"}) == "http://b:80"


def test_sizes_and_times():
    assert [size(one) for one in ("0", "1k", "8M", "1g")] == [0, 1024, 8 << 20, 1 << 30]
    assert [seconds(one) for one in ("60", "1m30s", "500ms", "1d")] == [60, 90, 0.5, 86400]
    for text in ("1x", "-1", ""):
        with pytest.raises(Refusal):
            size(text)
    with pytest.raises(Refusal):
        seconds("5 apples")


def test_names_of_groups_become_numbers():
    assert named_groups(r"^/(?<user>\w+)/([(]x)(?P<rest>.*)$") == (
        r"^/(\w+)/([(]x)(.*)$",
        {"user": 1, "rest": 3},
    )
