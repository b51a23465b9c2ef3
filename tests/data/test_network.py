import http.server
import socket
import threading
import time

import pytest

from pnil_tf.data import network


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/file"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_file_that_is_there_answers(server):
    assert network.answers(f"{server}/file")
    assert not network.answers(f"{server}/other")


def test_no_server_no_name_and_no_url_do_not_answer(server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not network.answers(f"http://127.0.0.1:{unused.getsockname()[1]}/file")
    assert not network.answers("http://no-such-host.invalid/file")
    assert not network.answers("")


def test_a_silent_server_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert not network.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/f", timeout=0.3)
        assert time.monotonic() - started < 2


def test_a_name_resolution_that_hangs_is_given_up(monkeypatch):
    def hang(*args, **kwargs):
        time.sleep(5)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    assert not network.answers("http://example.invalid/file", timeout=0.3)
    assert time.monotonic() - started < 2


def test_a_proxy_that_refuses_the_host_is_no_answer(server, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("https_proxy", server)
    # The server takes both for requests to a proxy: it knows no such path, and no CONNECT.
    assert not network.answers("http://example.invalid/elsewhere")
    assert not network.answers("https://example.invalid/file")
