import http.server
import socket
import threading

import pytest

from pnil_tf.data import network


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    stopping = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/slow":
                stopping.wait(30)
            found = self.path in ("/file", "/slow")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        stopping.set()
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


def test_a_server_that_is_slow_is_given_up(server):
    """Without the limit it would have answered."""
    assert not network.answers(f"{server}/slow", timeout=0.3)


def test_a_name_resolution_that_hangs_is_given_up(monkeypatch):
    given_up, came_back = threading.Event(), threading.Event()

    def hang(*args, **kwargs):
        given_up.wait(60)
        came_back.set()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert not network.answers("http://example.invalid/file", timeout=0.3)
    assert not came_back.is_set()
    given_up.set()


def test_a_proxy_that_refuses_the_host_is_no_answer(server, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("https_proxy", server)
    # The server takes both for requests to a proxy: it knows no such path, and no CONNECT.
    assert not network.answers("http://example.invalid/elsewhere")
    assert not network.answers("https://example.invalid/file")
