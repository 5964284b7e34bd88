"""The names of metrics are an interface: operators' dashboards and alerts stand on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client.metrics import MetricWrapperBase

import bridge.metrics
import bus.http.metrics
import bus.runtime.metrics
import webapp.mail.metrics
import webapp.project.metrics

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
MODULES = (
    bus.runtime.metrics,
    bus.http.metrics,
    bridge.metrics,
    webapp.mail.metrics,
    webapp.project.metrics,
)


def metrics(module: ModuleType) -> Iterator[MetricWrapperBase]:
    return (value for value in vars(module).values() if isinstance(value, MetricWrapperBase))


def row(metric: MetricWrapperBase) -> str:
    """Its row of the table in docs/operating.md."""
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_metric_is_in_the_table(module: ModuleType) -> None:
    documented = PAGE.read_text().splitlines()
    assert [row(metric) for metric in metrics(module) if row(metric) not in documented] == []


def test_the_table_names_no_metric_that_is_gone() -> None:
    rows = {row(metric) for module in MODULES for metric in metrics(module)}
    documented = [line for line in PAGE.read_text().splitlines() if line.startswith("| `chatbus_")]
    assert [line for line in documented if line not in rows] == []
