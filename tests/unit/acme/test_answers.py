"""What answers challenges."""

import contextlib
import os
import socket
import ssl
import threading

import pytest
from cryptography import x509

from rawproxy.acme import answers, tls_answers
from rawproxy.tls.self_signed import load_self_signed
from rawproxy.tls.server import ServerContext

BEGIN = b"/.well-known/acme-challenge/"


def test_a_token_is_answered_while_it_is_there(tmp_path):
    folder = str(tmp_path / "answers")
    assert answers.answer_to(folder, BEGIN + b"tok-en_1") is None
    path = answers.put_token(folder, "tok-en_1", "tok-en_1.print")
    assert answers.answer_to(folder, BEGIN + b"tok-en_1") == b"tok-en_1.print"
    answers.take_away(path)
    answers.take_away(path)
    assert answers.answer_to(folder, BEGIN + b"tok-en_1") is None


@pytest.mark.parametrize(
    "target",
    [b"/", b"/x", BEGIN, BEGIN + b"../secret", BEGIN + b"a/b", BEGIN + b"a.test.alpn",
     BEGIN + b"a?b", BEGIN + b"\xff", BEGIN + b"%2e", BEGIN + b"x" * 129, BEGIN + b".part-1"],
)  # fmt: skip
def test_no_other_file_is_read(tmp_path, target):
    folder = tmp_path / "answers"
    folder.mkdir()
    for name in ("a.test.alpn", "x" * 129, ".part-1", "%2e", "a"):
        (folder / name).write_text("secret")
    (tmp_path / "secret").write_text("secret")
    assert answers.answer_to(str(folder), target) is None


def test_an_authority_s_token_names_no_other_file(tmp_path):
    for token in ("../x", "", "a/b", "a.b", "x" * 129):
        with pytest.raises(ValueError, match="base64url"):
            answers.put_token(str(tmp_path), token, "x")


def shaken(context, name, protocols):
    """What a client sees that offers these protocols."""
    ours, theirs = socket.socketpair()

    def serve():
        hello = theirs.recv(16384, socket.MSG_PEEK)
        picked = context if context.pick is None else context.pick(name, hello)
        with contextlib.suppress(OSError), picked.wrap_socket(theirs, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_alpn_protocols(protocols)
    with client.wrap_socket(ours, server_hostname=name) as tls:
        found = x509.load_der_x509_certificate(tls.getpeercert(True)), tls.selected_alpn_protocol()
    thread.join()
    return found


def plain():
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    load_self_signed(context, ())
    return context


def test_who_offers_the_protocol_gets_the_proof_and_nobody_else(tmp_path):
    folder = str(tmp_path)
    path = answers.put_certificate(folder, "a.test", tls_answers.made("a.test", "token.print"))
    context = plain()
    tls_answers.amend(folder, context)
    proof, protocol = shaken(context, "a.test", ["acme-tls/1"])
    found = proof.extensions.get_extension_for_oid(tls_answers.IDENTIFIER)
    assert protocol == "acme-tls/1" and found.critical and len(found.value.value) == 34
    names = proof.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test"]
    for name, protocols in (("a.test", ["h2"]), ("b.test", ["acme-tls/1", "h2"])):
        seen, protocol = shaken(context, name, protocols)
        assert seen != proof and protocol == "h2"
    answers.take_away(path)
    other = plain()
    tls_answers.amend(folder, other)
    assert other.pick is None


def test_sites_that_differ_still_do(tmp_path):
    answers.put_certificate(str(tmp_path), "a.test", tls_answers.made("a.test", "x"))
    context, site = plain(), plain()
    context.pick = lambda name, _: site
    tls_answers.amend(str(tmp_path), context)
    assert context.pick("b.test", b"") is site


def test_an_answer_that_cannot_be_used_is_left_out(tmp_path):
    (tmp_path / "a.test.alpn").write_text("half")
    context = plain()
    tls_answers.amend(str(tmp_path), context)
    assert context.pick is None
    tls_answers.amend(os.path.join(tmp_path, "nowhere"), context)
