"""Whether a download can succeed, known within seconds."""

from __future__ import annotations

import http.client
import threading
import urllib.request

TIMEOUT = 3.0


def answers(url: str, timeout: float = TIMEOUT) -> bool:
    """Whether the server behind a URL hands the file out now.

    It is asked for the file's first byte, through the proxy that the environment names, if any:
    a proxy that accepts a connection may still refuse the host behind it.

    Args:
        url: of the file.
        timeout: seconds after which the answer is no, name resolution included.
    """
    answered = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
            with urllib.request.urlopen(request, timeout=timeout) as response:
                answered.append(len(response.read(1)) == 1)
        except (OSError, ValueError, http.client.HTTPException):
            return

    # Name resolution knows no time limit, so it is left behind in its thread when it hangs.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return any(answered)
