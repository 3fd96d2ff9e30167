"""Signed messages to a real web server of this machine."""

import base64
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from scrapray.alerts.messages import as_json, new_messages
from scrapray.alerts.webhook import Webhook
from scrapray.errors import AlertError
from tests.fixtures.receivers import WebReceiver, late, stranger
from tests.unit.alerts.nights import CREATED_UTC, load_row, run_row

SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
PAGE = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text(encoding="utf-8")
WAY = Webhook(url_env="HOOK_URL", secret_env="HOOK_SECRET", timeout_s=5.0)


@pytest.fixture(autouse=True)
def configured(web_receiver: WebReceiver, monkeypatch):
    monkeypatch.setenv("HOOK_URL", web_receiver.url)
    monkeypatch.setenv("HOOK_SECRET", SECRET)


def message(**changes):
    return new_messages([load_row(**changes)], run_row(), [], created_utc=CREATED_UTC)[0]


def refusal(way=WAY):
    with pytest.raises(AlertError) as caught:
        way.send(message())
    words = str(caught.value)
    assert not {"T0K3N", "hidden", SECRET.removeprefix("whsec_")} & set(re.split(r"[^\w+/=]", words))
    return caught.value


def receiver_of_the_page() -> Any:
    """What docs/alerts.md tells a receiver to do, as it stands there."""
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_genuine"]


def test_the_body_is_the_message(web_receiver: WebReceiver):
    sent = message(truck_id="ТРАК „7“\r\nX: y\u2028<script>")
    WAY.send(sent)
    assert json.loads(web_receiver.bodies[0]) == sent
    assert web_receiver.bodies[0].isascii()
    assert web_receiver.headers[0]["Content-Type"] == "application/json"
    assert web_receiver.headers[0]["webhook-id"] == sent["id"]


def test_a_receiver_who_does_as_the_docs_say_believes_it(web_receiver: WebReceiver):
    WAY.send(message())
    headers, body = web_receiver.headers[0], web_receiver.bodies[0]
    is_genuine = receiver_of_the_page()
    assert is_genuine(headers, body, SECRET)
    assert not is_genuine(headers, body + b" ", SECRET)
    assert not is_genuine(headers, body, f"whsec_{base64.b64encode(bytes(32)).decode()}")
    for name, other in (("webhook-id", "0" * 32), ("webhook-timestamp", "1795230000")):
        assert not is_genuine({**headers, name: other}, body, SECRET)


def test_what_was_recorded_by_somebody_and_comes_again_later_is_not_believed(web_receiver: WebReceiver, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_795_230_000.0)
    WAY.send(message())
    is_genuine = receiver_of_the_page()
    monkeypatch.setattr("time.time", lambda: 1_795_230_000.0 + 200)
    assert is_genuine(web_receiver.headers[0], web_receiver.bodies[0], SECRET)
    monkeypatch.setattr("time.time", lambda: 1_795_230_000.0 + 301)
    assert not is_genuine(web_receiver.headers[0], web_receiver.bodies[0], SECRET)


@pytest.mark.parametrize(
    ("status", "is_temporary"),
    [(500, True), (503, True), (429, True), (400, False), (401, False), (404, False), (301, False), (307, False)],
)
def test_any_answer_but_2xx_is_a_failure(status, is_temporary, web_receiver: WebReceiver):
    web_receiver.statuses = [status]
    error = refusal()
    assert f"127.0.0.1 answered {status}" in str(error)
    assert error.is_temporary == is_temporary
    assert web_receiver.methods == ["POST"], "a redirect is not followed, it would turn into a question"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_a_receipt(status, web_receiver: WebReceiver):
    web_receiver.statuses = [status]
    assert WAY.send(message()) == ""


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HOOK_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/T0K3N?key=hidden")
        error = refusal(Webhook(url_env="HOOK_URL", secret_env="HOOK_SECRET", timeout_s=0.2))
    assert "127.0.0.1 did not answer within 0.2 s" in str(error)
    assert error.is_temporary


def test_a_name_server_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", late(socket.getaddrinfo, 3.0))
    monkeypatch.setenv("HOOK_URL", "http://localhost:9/T0K3N?key=hidden")
    begin = time.monotonic()
    error = refusal(Webhook(url_env="HOOK_URL", secret_env="HOOK_SECRET", timeout_s=0.2))
    assert time.monotonic() - begin < 2
    assert "localhost did not answer within 0.2 s" in str(error)
    assert error.is_temporary


def test_a_server_is_found_by_its_name(web_receiver: WebReceiver, monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("HOOK_URL", web_receiver.url.replace("127.0.0.1", "localhost"))
    assert WAY.send(message()) == ""


def test_a_server_that_is_not_there_may_come_back(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HOOK_URL", f"http://127.0.0.1:{port}/T0K3N?key=hidden")
    error = refusal()
    assert "127.0.0.1 cannot be reached" in str(error)
    assert error.is_temporary


@pytest.mark.parametrize(
    "says",
    [b"", b"hello\r\n\r\n", b"\xff\xfe\x00", b"HTTP/1.1 200", b"HTTP/1.1 999999 x\r\n\r\n", b"220 smtp\r\n" * 9000],
)
def test_whatever_answers_in_place_of_a_web_server_is_a_failure_and_no_more(says, monkeypatch):
    with stranger(says) as port:
        monkeypatch.setenv("HOOK_URL", f"http://127.0.0.1:{port}/T0K3N?key=hidden")
        assert "127.0.0.1 " in str(refusal())


def test_a_server_without_tls_at_an_https_address_is_named(web_receiver: WebReceiver, monkeypatch):
    monkeypatch.setenv("HOOK_URL", web_receiver.url.replace("http:", "https:"))
    assert "TLS certificate of 127.0.0.1 is not accepted" in str(refusal())


@pytest.mark.parametrize(
    "url", ["ftp://a.example/T0K3N", "T0K3N", "https://", "https://a.example:99999/", "https://[::1/", "file:///etc"]
)
def test_an_address_that_is_none_is_named_by_its_variable(url, monkeypatch):
    monkeypatch.setenv("HOOK_URL", url)
    assert "HOOK_URL holds no address such as" in str(refusal())


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://127.0.0.1:9", "the proxy in http_proxy or https_proxy lets nobody through to alerts.example"),
        ("127.0.0.1:9", "or of a proxy in http_proxy or https_proxy, cannot be used"),
    ],
)
def test_a_proxy_that_is_at_fault_is_named(proxy, words, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("HOOK_URL", "http://alerts.example/T0K3N?key=hidden")
    assert words in str(refusal())


@pytest.mark.parametrize("name", ["HOOK_URL", "HOOK_SECRET"])
def test_a_variable_that_is_not_set_is_named(name, monkeypatch):
    monkeypatch.delenv(name)
    error = refusal()
    assert f"environment variable {name} is not set" in str(error)
    assert not error.is_temporary


@pytest.mark.parametrize("secret", ["short", "whsec_c2hvcnQ=", "pässword" * 5, "not base64!" * 5])
def test_a_secret_that_could_be_guessed_is_refused_and_not_shown(secret, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", secret)
    words = str(refusal())
    assert "HOOK_SECRET holds no secret of 24 bytes or more in base64" in words
    assert secret not in words


def test_a_line_end_behind_what_a_file_of_secrets_holds_does_no_harm(web_receiver: WebReceiver, monkeypatch):
    monkeypatch.setenv("HOOK_URL", f"{web_receiver.url}\n")
    monkeypatch.setenv("HOOK_SECRET", f"{SECRET}\n")
    WAY.send(message())
    assert receiver_of_the_page()(web_receiver.headers[0], web_receiver.bodies[0], SECRET)


def test_a_check_sends_no_message(web_receiver: WebReceiver):
    web_receiver.statuses = [405]
    assert WAY.check() == "127.0.0.1 answers"
    assert web_receiver.methods == ["HEAD"]


def test_the_same_message_has_the_same_bytes_after_it_was_kept():
    sent = message(contamination_frac=0.1 + 0.2)
    assert as_json(json.loads(json.dumps(sent))) == as_json(sent)
