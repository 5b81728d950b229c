"""Numbers as Prometheus reads them: the text format of prometheus-client. The only file that knows it.

It takes milliseconds for a few hundred samples and is done in a thread. The library is loaded by the first scrape,
because a start need not wait for it.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from kvs.meter import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HistogramSample(NamedTuple):
    """As a Histogram, as it was at one moment."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @classmethod
    def of(cls, histogram: Histogram) -> "HistogramSample":
        return cls(histogram.bounds, tuple(histogram.counts), histogram.total)


class Sample(NamedTuple):
    """One value of a family, with the values of its labels."""

    labels: tuple[str, ...]
    value: float | HistogramSample


class Family(NamedTuple):
    """A metric. `name` of a counter ends with `_total`, and is the name that it is shown under."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    samples: Sequence[Sample]


def render(families: Iterable[Family]) -> bytes:
    """The text that a scrape is answered with, with what the library knows of this process (`process_…`) behind it."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    registry.register(_Given([_metric(family) for family in families]))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Given:
    """What the library asks for metrics."""

    def __init__(self, metrics: list[Any]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Any]:
        return self._metrics


def _metric(family: Family) -> Any:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    metric = kinds[family.kind](family.name, family.help, labels=family.labels)
    for labels, value in family.samples:
        if isinstance(value, HistogramSample):
            bounds = [*map(str, value.bounds), "+Inf"]
            metric.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.total)
        else:
            metric.add_metric(labels, value)
    return metric
