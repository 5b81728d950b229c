"""Asking a running node how it is."""

import http.client
import json
import urllib.error

from kvs.daemon.trust import Trust

_MAX_BYTES = 64 * 1024


def ask_health(url: str, fingerprint: str, timeout_s: float) -> dict[str, object] | None:
    """The answer of `GET /health`, also when it is 503 (degraded); None if no node answers there in time, or one that
    has not the certificate with this fingerprint."""
    if not url.startswith("https://" if fingerprint else "http://"):
        return None
    try:
        with Trust(fingerprint=fingerprint).opener(url).open(f"{url}/health", timeout=timeout_s) as response:
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
