"""The requests that are sent, and wrk, which sends them."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = b'{"name":"sensor-17","site":"plant-3","unit":"C","value":21.75,"note":"' + b"x" * 30 + b'"}'
"""About 100 bytes."""
KEYS = 10_000
CONNECTIONS = 32
GET_PATH = "/kv/bench/1"
INSTALL_HINT = "wrk is not installed: apt install wrk"

_SCRIPT = """\
local requests, sent = {}, 0
init = function()
  for i = 1, KEYS do
    requests[i] = wrk.format("PUT", "/kv/bench/" .. i, nil, [[DOCUMENT]])
  end
end
request = function()
  sent = sent + 1
  return requests[sent % KEYS + 1]
end
"""
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Outcome:
    """What wrk saw: requests a second, and latencies in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def available() -> bool:
    return shutil.which("wrk") is not None


def write_script(folder: Path) -> Path:
    """The wrk script that writes `KEYS` keys over and over."""
    path = folder / "put.lua"
    path.write_text(_SCRIPT.replace("KEYS", str(KEYS)).replace("DOCUMENT", DOCUMENT.decode()))
    return path


def run_wrk(
    url: str, headers: Mapping[str, str], seconds: int, script: Path | None = None, connections: int = CONNECTIONS
) -> Outcome:
    """Raises RuntimeError if any answer was not a success or a connection failed: such a figure would mean nothing."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for name, value in {**headers, "Content-Type": "application/json"}.items():
        command += ["-H", f"{name}: {value}"]
    if script is not None:
        command += ["-s", str(script)]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk met errors at {url}:\n{text}")
    return Outcome(
        rate=float(_find(r"Requests/sec:\s+([\d.]+)", text)[0]),
        p50_ms=_latency("50", text),
        p99_ms=_latency("99", text),
    )


def _latency(percentile: str, text: str) -> float:
    number, unit = _find(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", text)
    return float(number) * _UNITS_MS[unit]


def _find(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk's output was not understood:\n{text}")
    return found.groups()
