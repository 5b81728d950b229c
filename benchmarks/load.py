"""The requests that are sent, and wrk, which sends them."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = b'{"name":"sensor-17","site":"plant-3","unit":"C","value":21.75,"note":"' + b"x" * 30 + b'"}'
"""About 100 bytes."""
KEYS = 10_000
CONNECTIONS = 32
GET_PATH = "/kv/bench/1"
INSTALL_HINT = "wrk is not installed: apt install wrk"

_STATIC = """\
wrk.method, wrk.path, wrk.body = METHOD, PATH, BODY
"""
_IN_TURN = """\
local requests, sent = {}, 0
init = function()
  for i = 1, COUNT do
    local path = PATH .. (i + FIRST)
    requests[i] = wrk.format(METHOD, path, nil, BODY)
  end
end
request = function()
  sent = sent + 1
  return requests[sent % COUNT + 1]
end
"""
_BODIES_IN_TURN = """\
local requests, sent = {}, 0
init = function()
  for body in io.lines(FILE) do
    requests[#requests + 1] = wrk.format(METHOD, PATH, nil, body)
  end
end
request = function()
  sent = sent + 1
  return requests[sent % #requests + 1]
end
"""
_PAUSE = """\
math.randomseed(os.time())
function delay()
  return math.floor(-math.log(1 - math.random()) * PAUSE_MS + 0.5)
end
"""
"""Before each request of each connection, of exponential length: the arrivals of many clients that do not know of each
other. wrk counts latencies from behind it."""
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Outcome:
    """What was seen: requests a second, and latencies in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Requests:
    """What is asked over and over. With `count` the paths end in the numbers from `first` + 1 on, in turn; with
    `bodies` these are sent in turn."""

    method: str
    path: str
    body: bytes = b""
    count: int = 0
    first: int = 0
    bodies: Sequence[bytes] = ()

    def script(self, folder: Path) -> str:
        """In wrk's Lua."""
        if self.bodies:
            file = folder / "bodies"
            file.write_bytes(b"\n".join(self.bodies))
            text = _BODIES_IN_TURN.replace("FILE", _quoted(str(file)))
        elif self.count:
            text = _IN_TURN.replace("COUNT", str(self.count)).replace("FIRST", str(self.first))
        else:
            text = _STATIC
        text = text.replace("METHOD", _quoted(self.method)).replace("PATH", _quoted(self.path))
        return text.replace("BODY", _quoted(self.body.decode()))


PUTS = Requests("PUT", "/kv/bench/", DOCUMENT, count=KEYS)
"""Of KVS and of the bare handlers."""
GETS = Requests("GET", GET_PATH)
GETS_IN_TURN = Requests("GET", "/kv/bench/", count=KEYS)
"""More keys than KVS remembers as readers get them."""


def available() -> bool:
    return shutil.which("wrk") is not None


def run_wrk(
    url: str,
    headers: Mapping[str, str],
    seconds: int,
    requests: Requests,
    folder: Path,
    *,
    pause_ms: float = 0.0,
    connections: int = CONNECTIONS,
) -> Outcome:
    """Send `requests` from all connections at once; each waits for its answer, and then `pause_ms` on average. `folder`
    is for wrk's script. Raises RuntimeError if any answer was not a success or a connection failed: such a figure would
    mean nothing."""
    script = folder / "requests.lua"
    script.write_text(requests.script(folder) + (_PAUSE.replace("PAUSE_MS", f"{pause_ms:.6f}") if pause_ms else ""))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    for name, value in {**headers, "Content-Type": "application/json"}.items():
        command += ["-H", f"{name}: {value}"]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk met errors at {url}:\n{text}")
    return Outcome(
        rate=float(_find(r"Requests/sec:\s+([\d.]+)", text)[0]),
        p50_ms=_latency("50", text),
        p99_ms=_latency("99", text),
    )


def _quoted(text: str) -> str:
    """A string of Lua, whose escapes for what is in use here are those of JSON."""
    return json.dumps(text)


def _latency(percentile: str, text: str) -> float:
    number, unit = _find(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", text)
    return float(number) * _UNITS_MS[unit]


def _find(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk's output was not understood:\n{text}")
    return found.groups()
