"""Weight files: fetched once, verified, refused in one sentence."""

import errno
import hashlib
import http.server
import threading

import pytest

from repro import cli
from repro.errors import ReproError
from repro.presets import PRESETS
from repro.scoring import weights

CONTENT = b"inception" * 1000


@pytest.fixture
def server(tmp_path):
    """A local file server whose replies a test can spoil: (address, replies by name)."""
    replies = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body, length = replies.get(self.path[1:], (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}", replies
    running.shutdown()


@pytest.fixture
def file(server, tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    address, _ = server
    return weights.File("weights.pt", f"{address}/weights.pt", hashlib.sha256(CONTENT).hexdigest())


def test_weights_are_fetched_once_into_the_users_cache(file, server, tmp_path):
    _, replies = server
    replies["weights.pt"] = (200, CONTENT, len(CONTENT))
    path = weights.find(file)
    assert path == tmp_path / "cache" / "weights" / "weights.pt" and path.read_bytes() == CONTENT
    replies.clear()
    assert weights.find(file) == path  # no network any more


@pytest.mark.parametrize(
    "reply, said",
    [
        (
            (200, CONTENT[:500], len(CONTENT)),
            "is not the published file .500 bytes|could not be fetched",
        ),  # cut short
        ((200, b"another file", 12), "is not the published file .12 bytes"),
        ((404, b"", 0), "could not be fetched.*404.*smoke.*cifar10-cpu"),
    ],
)
def test_a_bad_download_is_refused_with_the_remedy_and_not_kept(file, server, tmp_path, reply, said):
    _, replies = server
    replies["weights.pt"] = reply
    with pytest.raises(ReproError, match=said):
        weights.find(file)
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_offline_and_absent_names_the_offline_presets(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    nowhere = weights.File("weights.pt", "http://127.0.0.1:9/weights.pt", "0" * 64)
    monkeypatch.setattr(weights, "TORCH_FIDELITY", nowhere)
    assert cli.run(["reproduce", "--preset", "cifar10", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "could not be fetched" in error and len(error.strip().splitlines()) == 1
    named = ("rehearsal, " + error.partition("(rehearsal, ")[2].partition(")")[0]).split(", ")
    assert set(named) == {p.name for p in PRESETS.values() if not p.extractor.startswith("inception")}


def test_a_connection_that_breaks_is_no_full_disk(file, tmp_path, monkeypatch):
    def reset(*_, **__):
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    monkeypatch.setattr(weights.urllib.request, "urlopen", reset)
    with pytest.raises(ReproError, match="could not be fetched"):
        weights.find(file)


def test_a_wrong_file_in_the_folder_is_refused_not_replaced(file, tmp_path, monkeypatch):
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    with pytest.raises(ReproError, match="does not exist: put the file there"):
        weights.find(file)
    (tmp_path / "weights.pt").write_bytes(CONTENT[:-1])
    with pytest.raises(ReproError, match="is not the published file .its SHA-256"):
        weights.find(file)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT[:-1]


def test_a_folder_of_weights_can_be_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(weights.VARIABLE, "elsewhere")
    assert (
        cli.run(
            ["--weights", str(tmp_path), "reproduce", "--preset", "cifar10", "--out", str(tmp_path / "out")]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert (
        str(tmp_path / weights.TORCH_FIDELITY.name) in error and "does not exist: put the file there" in error
    )
