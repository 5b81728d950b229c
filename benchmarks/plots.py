"""Pictures of a run: throughput, latency, bytes of a comparison, and what grows with the keys. As PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "kvs"  # the same figures make the same file

from matplotlib import pyplot as plt  # noqa: E402 - the way of drawing is chosen before
from matplotlib.axes import Axes  # noqa: E402

_METHODS = ("GET", "PUT")
_SIZE = (9.0, 4.5)
_WIDTH = 0.38


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """The files that were made; a picture whose figures were not measured is not."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"throughput": _throughput, "latency": _latency, "sync": _sync, "growth": _growth}
    made = []
    for name, picture in pictures.items():
        points = found["series"].get({"latency": "throughput"}.get(name, name), [])
        if points:
            made += _saved(name, folder, picture(points))
    return made


def _saved(name: str, folder: Path, figure: Any) -> list[Path]:
    files = [folder / f"{name}.{ending}" for ending in ("png", "svg")]
    figure.tight_layout()
    figure.savefig(files[0], dpi=110, metadata={"Software": None})
    figure.savefig(files[1], metadata={"Date": None})
    plt.close(figure)
    return files


def _throughput(points: Sequence[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(figsize=_SIZE)
    for method, at, mine in _by_method(points):
        values = [point["median"] for point in mine]
        errors = [[p["median"] - p["low"] for p in mine], [p["high"] - p["median"] for p in mine]]
        axes.bar(at, values, _WIDTH, label=method, yerr=errors, capsize=3)
    axes.set_yscale("log")
    axes.set_ylabel("requests per second, median and range")
    _name_servers(axes, points)
    return figure


def _latency(points: Sequence[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(figsize=_SIZE)
    for method, at, mine in _by_method(points):
        bars = axes.bar(at, [point["p50_ms"] for point in mine], _WIDTH, label=f"{method}, median")
        colour = bars.patches[0].get_facecolor()
        axes.scatter(at, [point["p99_ms"] for point in mine], marker="_", s=300, color=colour, label=f"{method}, p99")
    axes.set_yscale("log")
    axes.set_ylabel("latency at the peak rate, ms")
    _name_servers(axes, points)
    return figure


def _sync(points: Sequence[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(figsize=_SIZE)
    for keys in sorted({point["keys"] for point in points}):
        mine = sorted((p for p in points if p["keys"] == keys), key=lambda point: point["differences"])
        at = [point["differences"] for point in mine]
        axes.plot(at, [point["wire_bytes"] for point in mine], marker="o", label=f"{keys:,} keys")
    axes.plot(at, [p["record_bytes"] for p in mine], linestyle=":", color="black", label="the records alone")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("differences")
    axes.set_ylabel("bytes on the wire")
    axes.legend()
    return figure


def _growth(points: Sequence[dict[str, Any]]) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=_SIZE)
    points = sorted(points, key=lambda point: point["keys"])
    keys = [point["keys"] for point in points]
    left.plot(keys, [point["memory_mb"] for point in points], marker="o")
    left.set_ylabel("resident memory after a start, MB")
    right.plot(keys, [point["start_s"] for point in points], marker="o")
    right.set_ylabel("start to ready, s")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("keys")
    return figure


def _by_method(points: Sequence[dict[str, Any]]) -> list[tuple[str, list[float], list[dict[str, Any]]]]:
    """Each method, where its bars stand, and its points in the order of the servers."""
    found = []
    for index, method in enumerate(_METHODS):
        mine = [point for point in points if point["method"] == method]
        found.append((method, [place + (index - 0.5) * _WIDTH for place in range(len(mine))], mine))
    return found


def _name_servers(axes: Axes, points: Sequence[dict[str, Any]]) -> None:
    names = [point["server"] for point in points if point["method"] == _METHODS[0]]
    axes.set_xticks(range(len(names)), names)
    axes.legend()
