import http.server
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from scrapray.errors import RegistryError
from scrapray.registry import Registry
from scrapray.registry.server import Server

SECRET = "hunter2"


@contextmanager
def answering(status, body="", headers=()):
    """A web server that says the same to everybody; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _one_try(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)


@pytest.mark.parametrize(
    ("status", "body", "words", "reason"),
    [
        (401, "You are not authenticated", "does not know this user or password; set MLFLOW_TRACKING_USER", "refused"),
        (403, "Permission denied", "has no right to; grant it", "refused"),
        (404, "<html>", "no MLflow server; correct MLFLOW_TRACKING_URI", "refused"),
        (200, "<html>", "no MLflow server; correct MLFLOW_TRACKING_URI", "refused"),
        (503, "", "does not answer; check MLFLOW_TRACKING_URI", "unreachable"),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "a\\nb"}', "8: a b", "refused"),
    ],
)
def test_what_a_server_answers_becomes_one_line_that_says_what_to_do(status, body, words, reason):
    with answering(status, body) as uri, pytest.raises(RegistryError) as caught:
        Registry(uri).list_versions()
    message = str(caught.value).replace(uri, "http://127.0.0.1:8")
    assert message.startswith("cannot list versions of scrap-segmenter at http://127.0.0.1:8")
    assert words in message
    assert "\n" not in message
    assert SECRET not in message
    assert caught.value.reason == reason


def test_a_server_that_is_not_there_is_unreachable():
    with answering(200) as uri:
        pass
    with pytest.raises(RegistryError, match="does not answer; check MLFLOW_TRACKING_URI") as caught:
        Registry(uri).show("champion")
    assert caught.value.reason == "unreachable"


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(RegistryError, match="holds a user name; leave it out") as caught:
        Registry(f"https://somebody:{SECRET}@mlflow.example.com")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("uri", ["mlflow.example.com", "ftp://mlflow", "http://", "mysql://db", "sqlite://x"])
def test_an_address_of_another_kind_is_refused(uri):
    with pytest.raises(RegistryError, match="give http"):
        Server(uri)


def test_the_environment_names_the_server_and_an_argument_weighs_more(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://of-the-environment")
    assert Server().uri == "http://of-the-environment"
    assert Server("http://of-the-argument").uri == "http://of-the-argument"


def test_a_database_keeps_its_place_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    server = Server()
    monkeypatch.chdir("/")
    assert (server.uri, server.file) == (f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db")


@pytest.fixture
def on_a_cluster(tmp_path, monkeypatch):
    """As a submitted job finds itself: beside a cluster, in a folder of its own."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """By us: MLflow logs what it does to a new database."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("scrapray.")]


def test_a_new_database_on_a_cluster_that_nobody_asked_for_is_said_in_one_line(on_a_cluster, caplog):
    _ = Server().client
    (message,) = said(caplog)
    assert f"a new file, {on_a_cluster}/mlflow.db, though Ray is a cluster" in message
    assert "set MLFLOW_TRACKING_URI to the address of an MLflow server" in message


@pytest.mark.usefixtures("on_a_cluster")
def test_a_database_that_was_named_or_is_there_or_is_used_without_a_cluster_needs_no_word(caplog, monkeypatch):
    _ = Server("sqlite:///named.db").client
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
        _ = Server().client
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        _ = Server().client
    Path("mlflow.db").touch()
    _ = Server().client
    assert said(caplog) == []


def test_to_read_makes_no_database(tmp_path):
    with pytest.raises(RegistryError, match="there is no registry at sqlite:"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db").list_versions()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 1000)
    with pytest.raises(RegistryError, match="file is not a database"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db").list_versions()


def test_faults_of_ours_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), Server("http://mlflow").explained("divide"):
        _ = 1 / 0


def test_the_room_is_imported_without_mlflow():
    ask = "import sys, scrapray.registry; sys.exit('mlflow' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", ask], cwd=root, timeout=60, check=False).returncode == 0
