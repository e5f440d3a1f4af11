"""Write the tables of docs/operations.md that follow from the code; a test holds that they are up to date."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from logsvc import config, metrics, toml

FILE = Path(__file__).parent.parent / "docs" / "operations.md"


def settings() -> Iterator[str]:
    """A row a setting."""
    yield "| setting | default | meaning |\n| --- | --- | --- |"
    for name, field in config.fields():
        default = toml.written(field.get_default())
        yield f"| `{name}` | `{default}` | {' '.join((field.description or '').split())} |"


def measures() -> Iterator[str]:
    """A row a metric."""
    yield "| metric | type | labels | meaning |\n| --- | --- | --- | --- |"
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            name = described.name + {"counter": "_total", "info": "_info"}.get(described.type, "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - nothing else tells them
            yield f"| `{name}` | {described.type} | {labels} | {described.documentation} |"


def with_tables(text: str) -> str:
    """The text with what stands between `<!-- settings -->` and `<!-- /settings -->`, and so on, made anew."""
    for name, rows in {"settings": settings, "metrics": measures}.items():
        head, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->\n")
        text = "".join((head, begin, *(f"{row}\n" for row in rows()), end, tail))
    return text


if __name__ == "__main__":
    FILE.write_text(with_tables(FILE.read_text("utf-8")), "utf-8")
