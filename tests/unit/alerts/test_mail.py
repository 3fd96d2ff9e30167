"""E-mails to a real SMTP server of this machine."""

import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from scrapray.alerts.mail import Mail
from scrapray.alerts.messages import new_messages
from scrapray.errors import AlertError
from scrapray.recipients import EmailConfig
from tests.fixtures.receivers import PASSWORD, USER, MailReceiver, late, mail_server, stranger
from tests.unit.alerts.nights import CREATED_UTC, load_row, run_row

YARD, BOSS = "yard@example.com", "boss@example.com"


def message(**changes):
    return new_messages([load_row(**changes)], run_row(), [], created_utc=CREATED_UTC)[0]


def mail(port, **changes):
    values = {"host": "127.0.0.1", "port": port, "sender": "audit@example.com", "recipients": (YARD, BOSS)}
    return Mail(config=EmailConfig(**values | {"security": "none"} | changes), timeout_s=5.0)


def refusal(way, sent=None):
    with pytest.raises(AlertError) as caught:
        way.send(sent or message())
    return caught.value


def test_a_letter_goes_to_all_recipients_at_once(mail_receiver: MailReceiver):
    assert mail(mail_receiver.port).send(message()) == ""
    assert mail_receiver.envelopes == [("audit@example.com", [YARD, BOSS])]
    (letter,) = mail_receiver.letters
    assert letter["Subject"] == "scrapray: reject: truck 0419, load L003, north-yard 2026-11-20: 2 spray can"
    assert letter["To"] == f"{YARD}, {BOSS}"
    assert letter["Date"].datetime == CREATED_UTC
    assert letter["Message-ID"] == f"<{message()['id']}@example.com>"
    assert "Supplier       Rottami Rossi" in letter.get_content()


def test_a_letter_is_plain_ascii_on_the_wire_and_reads_as_it_was_meant(mail_receiver: MailReceiver):
    mail(mail_receiver.port).send(message(truck_id="ТРАК-7 „Ø“", supplier="鋼鉄"))
    assert mail_receiver.raw[0].isascii()
    (letter,) = mail_receiver.letters
    assert "truck ТРАК-7 „Ø“," in letter["Subject"]
    assert "鋼鉄" in letter.get_content()


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x85", "\u2028", "\0"])
def test_a_truck_id_cannot_add_a_header_or_a_line(end, mail_receiver: MailReceiver):
    hostile = f"7{end}Bcc: thief@example.com{end}{end}Verdict accept{end}.{end}"
    mail(mail_receiver.port).send(message(truck_id=hostile, supplier=hostile, load_id=hostile, verdict_reason=hostile))
    (letter,) = mail_receiver.letters
    assert letter["Bcc"] is None
    assert mail_receiver.envelopes[0][1] == [YARD, BOSS]
    assert "truck 7 Bcc: thief@example.com Verdict accept ., load" in letter["Subject"]
    assert not [line for line in letter.get_content().splitlines() if line.startswith(("Bcc", "Verdict accept"))]


@pytest.mark.parametrize("load_id", ["L1", "Lé"])
@pytest.mark.parametrize(
    "word", ["q?7=0ABcc:_t@x.y", "q?7=0D=0A=0Aaccept:_all_clean", "q?=ff", "b?N0EKQmNjOiB0QHgueQ=="]
)
def test_a_truck_id_that_mail_would_decode_stays_as_it_is(word, load_id, mail_receiver: MailReceiver):
    mail(mail_receiver.port).send(message(truck_id=f"=?utf-8?{word}?=", load_id=load_id))
    (letter,) = mail_receiver.letters
    shown = f"=?utf-8?{word}?=".replace("=?", "= ?")
    assert f"truck {shown}, load {load_id}," in " ".join(letter["Subject"].split())
    assert letter["Bcc"] is None
    assert letter.get_content().startswith("reject: truck =?utf-8?")


def test_a_message_of_which_no_letter_can_be_made_is_no_fault_of_the_server(mail_receiver: MailReceiver):
    error = refusal(mail(mail_receiver.port), message() | {"run_id": "\udcff"})
    assert "no letter can be made of message" in str(error)
    assert not error.is_temporary


def test_a_word_without_end_is_cut(mail_receiver: MailReceiver):
    mail(mail_receiver.port).send(message(truck_id="7" * 5000))
    assert max(map(len, mail_receiver.raw[0].splitlines())) < 998
    assert "7777…" in mail_receiver.letters[0]["Subject"]


def test_how_the_server_says_good_bye_does_not_matter(mail_receiver: MailReceiver):
    mail_receiver.answers["QUIT"] = "no manners"
    mail(mail_receiver.port).send(message())
    assert len(mail_receiver.letters) == 1


def test_one_address_that_is_refused_keeps_nobody_else_from_knowing(mail_receiver: MailReceiver):
    mail_receiver.answers[BOSS] = "550 no such user"
    assert mail(mail_receiver.port).send(message()) == f"not for {BOSS}, whom 127.0.0.1 refuses"
    assert mail_receiver.envelopes == [("audit@example.com", [YARD])]


@pytest.mark.parametrize(
    ("answers", "words", "is_temporary"),
    [
        ({"DATA": "451 come again"}, "127.0.0.1 answered 451 come again", True),
        ({"DATA": "554 this is spam"}, "127.0.0.1 answered 554 this is spam", False),
        ({"MAIL": "452 disk full"}, "127.0.0.1 answered 452 disk full", True),
        ({YARD: "550 who?", BOSS: "550 who?"}, "127.0.0.1 answered 550 who?", False),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(answers, words, is_temporary, mail_receiver: MailReceiver):
    mail_receiver.answers |= answers
    error = refusal(mail(mail_receiver.port))
    assert (str(error), error.is_temporary) == (words, is_temporary)
    assert mail_receiver.letters == []


def test_a_server_that_is_not_there_may_come_back():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = refusal(mail(port))
    assert "127.0.0.1 cannot be reached" in str(error)
    assert error.is_temporary


@pytest.mark.parametrize(
    "says", [b"", b"hello\r\n", b"\xff\xfe\x00\r\n", b"220 hello\r\n", b"220 " + b"x" * 9000, b"421 full\r\n"]
)
def test_whatever_answers_in_place_of_a_mail_server_is_a_failure_and_no_more(says):
    with stranger(says) as port:
        assert "127.0.0.1 " in str(refusal(mail(port)))


def test_a_server_that_never_says_a_word_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        way = Mail(config=mail(silent.getsockname()[1]).config, timeout_s=0.2)
        error = refusal(way)
    assert "did not answer within 0.2 s" in str(error)
    assert error.is_temporary


@contextmanager
def endless(line):
    """A port where somebody begins to say the same line again and again, until whoever asked goes away."""
    over = threading.Event()

    def drip(server):
        caller, _ = server.accept()
        with caller, suppress(OSError):
            while not over.wait(0.02):
                caller.sendall(line)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("line", [b"220-wait\r\n", b"2"])
def test_a_server_that_never_comes_to_an_end_is_given_up_in_time(line):
    with endless(line) as port:
        error = refusal(Mail(config=mail(port).config, timeout_s=0.3))
    assert "did not answer within 0.3 s" in str(error)
    assert error.is_temporary


def test_what_was_given_up_is_not_sent_behind_the_back_of_the_report(mail_receiver: MailReceiver, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", late(socket.getaddrinfo, 0.4))
    error = refusal(Mail(config=mail(mail_receiver.port).config, timeout_s=0.2))
    assert "did not answer within 0.2 s" in str(error)
    time.sleep(0.5)
    assert mail_receiver.letters == []


LOGIN = {"user_env": "MAIL_USER", "password_env": "MAIL_PASSWORD"}


@pytest.fixture
def secure_receiver(certificate, monkeypatch):
    """A server that wants TLS and a user, whose certificate is trusted."""
    trusted, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("MAIL_USER", USER)
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    with mail_server(tls_context=context, require_starttls=True, auth_required=True) as receiver:
        yield receiver


def test_by_default_the_letter_is_encrypted_and_the_user_logs_in(secure_receiver: MailReceiver):
    way = mail(secure_receiver.port, security="starttls", **LOGIN)
    assert way.check() == "127.0.0.1 takes mail"
    assert secure_receiver.letters == []
    way.send(message())
    assert len(secure_receiver.letters) == 1
    assert secure_receiver.users == [USER, USER]


def test_a_wrong_password_is_not_tried_again_and_not_shown(secure_receiver: MailReceiver, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "pa55-w0rd")
    error = refusal(mail(secure_receiver.port, security="starttls", **LOGIN))
    assert "127.0.0.1 answered 535" in str(error)
    assert "pa55" not in str(error)
    assert not error.is_temporary


def test_a_password_that_is_not_set_is_named(secure_receiver: MailReceiver, monkeypatch):
    monkeypatch.delenv("MAIL_PASSWORD")
    error = refusal(mail(secure_receiver.port, security="starttls", **LOGIN))
    assert "environment variable MAIL_PASSWORD is not set" in str(error)


def test_a_password_that_no_server_takes_is_named_and_not_shown(secure_receiver: MailReceiver, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "pässwort")
    error = refusal(mail(secure_receiver.port, security="starttls", **LOGIN))
    assert str(error) == "the environment variable MAIL_PASSWORD holds letters beyond ASCII, which no mail server takes"
    assert not error.is_temporary


def test_a_certificate_that_nobody_knows_is_refused(secure_receiver: MailReceiver, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    error = refusal(mail(secure_receiver.port, security="starttls"))
    assert "TLS certificate of 127.0.0.1 is not accepted" in str(error)
    assert secure_receiver.letters == []


def test_a_letter_never_goes_unencrypted_where_encryption_was_asked_for(mail_receiver: MailReceiver):
    error = refusal(mail(mail_receiver.port, security="starttls"))
    assert "does not offer" in str(error)
    assert mail_receiver.letters == []
