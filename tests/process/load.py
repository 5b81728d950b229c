"""The second process: sends a mixed load over several connections and keeps the ledger, out of the node's reach."""

import contextlib
import http.client
import json
import multiprocessing
import random
import threading
import traceback
from collections import Counter
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.process.audit import audit, timestamp_of, value_of
from tests.process.daemon import Answer, Client, kv_path
from tests.process.ledger import Ledger, Write

JSON_TYPE = {"Content-Type": "application/json"}
BLOB_TYPE = {"Content-Type": "application/octet-stream"}
_PAUSE_AFTER_503_S = 0.02


class Mix(NamedTuple):
    """What is sent. `journal` is a file whose length is noted with each write (power-cut tests)."""

    seed: int
    workers: int = 4
    keys: int = 40
    big_share: float = 0.1
    big_bytes: int = 16 * 1024
    journal: str = ""


class Load:
    """The test's hold on the second process."""

    def __init__(self, mix: Mix) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, mix), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, url: str) -> None:
        """Go on against the node at `url`."""
        self._ask("run", url)

    def pause(self) -> None:
        """Returns when no request is under way."""
        self._ask("pause")

    def ledger(self) -> Ledger:
        """A copy. Pause first."""
        ledger = self._ask("ledger")
        assert isinstance(ledger, Ledger)
        return ledger

    def audit(self, url: str) -> int:
        """Check the node at `url` against the ledger, over there; how many keys. Fails with the violations."""
        answer = self._ask("audit", url)
        assert isinstance(answer, int), answer
        return answer

    def counts(self) -> Counter[str]:
        """Answers so far, by kind: acknowledged, refused, unavailable, broken, read."""
        counts = self._ask("counts")
        assert isinstance(counts, Counter)
        return counts

    def close(self) -> None:
        self._pipe.close()
        self._process.join()

    def _ask(self, *question: str) -> object:
        self._pipe.send(question)
        return self._pipe.recv()


def _serve(pipe: Connection, mix: Mix) -> None:
    ledger, counts = Ledger(), Counter[str]()
    workers = [_Worker(number, mix, ledger, counts) for number in range(mix.workers)]
    with contextlib.suppress(EOFError):  # the test closed its end
        while True:
            word, *arguments = pipe.recv()
            answer: object = None
            if word == "run":
                for worker in workers:
                    worker.run(arguments[0])
            elif word == "pause":
                for worker in workers:
                    worker.ask_pause()
                for worker in workers:
                    worker.join()
            elif word == "audit":
                answer = _audit(ledger, arguments[0])
            else:
                answer = ledger if word == "ledger" else Counter(counts)
            pipe.send(answer)


def _audit(ledger: Ledger, url: str) -> int | str:
    client = Client(url)
    try:
        return audit(ledger, client)
    except Exception:
        return traceback.format_exc()
    finally:
        client.close()


class _Worker:
    """One connection. Its own keys are written by nobody else; the shared ones by all workers."""

    def __init__(self, number: int, mix: Mix, ledger: Ledger, counts: Counter[str]) -> None:
        self._number, self._mix, self._ledger, self._counts = number, mix, ledger, counts
        self._random = random.Random(f"{mix.seed}/{number}")
        self._own = [f"w{number}/k{i}" for i in range(mix.keys)]
        self._hot = self._own[:3]
        self._shared = [f"shared/k{i}" for i in range(3)]
        self._tags: dict[str, str] = {}
        """Entity tags of own keys whose state is surely known."""
        self._numbers = count(1)
        self._pausing = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self, url: str) -> None:
        self._pausing.clear()
        self._thread = threading.Thread(target=self._loop, args=(Client(url),), daemon=True)
        self._thread.start()

    def ask_pause(self) -> None:
        self._pausing.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _loop(self, client: Client) -> None:
        steps = (self._put, self._put_if, self._delete, self._bulk, self._read)
        while not self._pausing.is_set():
            (step,) = self._random.choices(steps, (60, 10, 8, 6, 16))
            try:
                step(client)
            except (OSError, http.client.HTTPException):
                self._counts["broken"] += 1
                # Killed, or cut off: a node that lives takes the next connection at once.
                self._pausing.wait(_PAUSE_AFTER_503_S)
        client.close()

    def _key(self) -> str:
        kind = self._random.random()
        return self._random.choice(self._shared if kind < 0.1 else self._hot if kind < 0.4 else self._own)

    def _value(self) -> tuple[bytes, dict[str, str]]:
        name = f"{self._number}.{next(self._numbers)}"
        if self._random.random() < self._mix.big_share:
            size = self._random.randrange(self._mix.big_bytes) + 1
            return name.encode() + b" " + self._random.randbytes(size), BLOB_TYPE
        text = "x" * self._random.randrange(200)
        return json.dumps({"name": name, "text": text}, separators=(",", ":")).encode(), JSON_TYPE

    def _mark(self) -> int:
        return Path(self._mix.journal).stat().st_size if self._mix.journal else 0

    def _send(self, key: str, value: bytes | None, batch: int = 0) -> Write:
        self._tags.pop(key, None)
        return self._ledger.send(key, value, mark=self._mark(), batch=batch)

    def _settle(self, write: Write, status: int, timestamp: int = 0, tag: str = "") -> None:
        """Note the outcome that `status` tells."""
        if status in (200, 201, 204):
            self._ledger.acknowledge(write, timestamp, mark=self._mark())
            self._counts["acknowledged"] += 1
            if tag and not write.key.startswith("shared"):
                self._tags[write.key] = tag
        elif status == 503:
            self._counts["unavailable"] += 1
            self._pausing.wait(_PAUSE_AFTER_503_S)
        else:
            self._ledger.refuse(write)
            self._counts["refused"] += 1
            if status not in (404, 412):
                self._ledger.violations.append(f"{write.key}: answered with {status}")

    def _settle_put(self, write: Write, answer: Answer) -> None:
        version = answer.json()
        self._settle(write, answer.status, version.get("timestamp", 0), version.get("uuid", ""))

    def _put(self, client: Client) -> None:
        key, (value, headers) = self._key(), self._value()
        write = self._send(key, value)
        self._settle_put(write, client.put(key, value, headers))

    def _put_if(self, client: Client) -> None:
        """Name the version that is known to stand there, or one that surely does not."""
        key = self._random.choice(self._own)
        tag, (value, headers) = self._tags.get(key, ""), self._value()
        right = bool(tag) and self._random.random() < 0.7
        write = self._send(key, value)
        answer = client.put(key, value, headers | {"If-Match": f'"{tag}"' if right else '"no-such-version"'})
        self._settle_put(write, answer)
        if answer.status != 503 and (answer.status == 412) == right:
            self._ledger.violations.append(f"{key}: If-Match with a {right=} tag was answered {answer.status}")

    def _delete(self, client: Client) -> None:
        key = self._key()
        newest = self._ledger.newest.get(key)
        write = self._send(key, None)
        answer = client.delete(key)
        self._settle(write, answer.status)
        if answer.status == 404 and newest is not None:
            self._ledger.read(key, None, newest=newest)

    def _bulk(self, client: Client) -> None:
        keys = self._random.sample(self._own, self._random.randint(2, min(15, len(self._own))))
        batch = next(self._numbers) * 1000 + self._number
        lines, writes = [], []
        for key in keys:
            if self._random.random() < 0.2:
                lines.append(json.dumps({"op": "delete", "path": key}))
                writes.append(self._send(key, None, batch))
            else:
                data = {"name": f"{self._number}.{next(self._numbers)}"}
                lines.append(json.dumps({"op": "put", "path": key, "data": data}, separators=(",", ":")))
                writes.append(self._send(key, json.dumps(data, separators=(",", ":")).encode(), batch))
        answer = client.request("POST", kv_path("_bulk"), "\n".join(lines).encode())
        results = answer.json()["results"] if answer.status == 200 else [{"status": answer.status}] * len(writes)
        for write, result in zip(writes, results, strict=True):
            self._settle(write, result["status"], result.get("timestamp", 0), result.get("uuid", ""))

    def _read(self, client: Client) -> None:
        """Reads are served always, and show one's own writes."""
        key = self._key()
        newest = self._ledger.newest.get(key)
        answer = client.get(key)
        self._counts["read"] += 1
        if answer.status == 503:
            self._counts["unread"] += 1
            return
        if newest is not None:
            self._ledger.read(key, value_of(answer), timestamp_of(answer), newest=newest)
