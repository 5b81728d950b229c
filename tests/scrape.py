"""What a node says of itself under `/metrics`, read as Prometheus reads it."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Scrape:
    """One answer. Names are those of samples (`…_bucket`, `…_total`)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, str] = {}
        """Name, as the `# TYPE` line has it, to type."""
        self.values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            self.families[family.name + ("_total" if family.type == "counter" else "")] = family.type
            for sample in family.samples:
                at = (sample.name, frozenset(sample.labels.items()))
                assert at not in self.values, f"{at} is there twice"
                self.values[at] = sample.value

    def value(self, name: str, **labels: object) -> float:
        """The sample with exactly these labels; 0 for one that was never counted."""
        return self.values.get((name, frozenset((key, str(value)) for key, value in labels.items())), 0.0)

    def has(self, name: str, **labels: object) -> bool:
        return (name, frozenset((key, str(value)) for key, value in labels.items())) in self.values

    def labels(self) -> Iterator[tuple[str, str]]:
        """(Label, value) of all samples."""
        for _, labels in self.values:
            yield from labels

    @property
    def names(self) -> set[str]:
        """Of all samples that a family may have, whether there is one or not."""
        found = set()
        for name, kind in self.families.items():
            found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
        return found
