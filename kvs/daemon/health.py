"""Asking a running node how it is."""

import http.client
import json
import urllib.error
import urllib.request

_MAX_BYTES = 64 * 1024
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy that the environment names: the node is on this host."""


def ask_health(url: str, timeout_s: float) -> dict[str, object] | None:
    """The answer of `GET /health`, also when it is 503 (degraded); None if no node answers there in time."""
    if not url.startswith("http://"):
        return None
    try:
        with _DIRECT.open(f"{url}/health", timeout=timeout_s) as response:
            body = response.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and "node_id" in answer else None
