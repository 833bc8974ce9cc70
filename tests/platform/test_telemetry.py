"""Metrics of a run: what the table promises is what Ray exports, counted once over drivers."""

import re
import time
import urllib.request
from pathlib import Path

import pytest

from burnish.platform.telemetry import METRICS, Finished, NoTelemetry, RayTelemetry, exported_labels, exported_name

COUNTS = {"groups": 2, "samples": 32, "missing_scores": 1, "resent": 1}


def test_names_in_prometheus_are_rays_with_their_endings():
    assert exported_name("burnish_samples") == "ray_burnish_samples_total"
    assert exported_name("burnish_staleness") == "ray_burnish_staleness"
    assert exported_labels()["ray_burnish_phase_seconds"] == {"run", "stage", "phase"}


def test_the_page_on_monitoring_has_every_metric_and_every_alert():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "operations" / "monitoring.md").read_text()
    rules = (root / "clusters" / "monitoring" / "rules.yaml").read_text()
    assert re.findall(r"^\| `(ray_burnish\w+)` \| (\w+)", page, re.MULTILINE) == [
        (exported_name(name), metric.kind) for name, metric in METRICS.items()
    ]
    assert re.findall(r"^### (\w+)", page, re.MULTILINE) == re.findall(r"alert: (\w+)", rules)


def test_without_ray_nobody_is_told():
    silent = NoTelemetry()
    assert silent.begin("grpo", COUNTS) is silent.tell(Finished("grpo", 1, 2, {}, {}, COUNTS)) is None


def scrape(ray):
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(address, timeout=30).read().decode()
    return [line for line in text.splitlines() if "burnish_" in line and not line.startswith("#")]


@pytest.mark.ray
def test_every_metric_of_the_table_is_exported_with_its_labels_and_counts_once(cluster):
    import ray

    told = RayTelemetry("resumed-run")
    told.begin("grpo", {"samples": 16, "groups": 1})
    told.tell(Finished("grpo", 3, 4, {"sample": 1.5}, {"learner": 0.5}, COUNTS, staleness=1))
    wanted, deadline = {exported_name(name) for name in METRICS}, time.monotonic() + 60
    while wanted - {line.split("{")[0] for line in scrape(ray)} and time.monotonic() < deadline:
        time.sleep(1)
    lines = [line for line in scrape(ray) if 'run="resumed-run"' in line]
    found = {line.split("{")[0]: line for line in lines}
    assert set(found) == wanted
    assert all(f'{label}="' in found[name] for name, labels in exported_labels().items() for label in labels)
    assert float(found["ray_burnish_samples_total"].split()[-1]) == 16.0
    assert float(found["ray_burnish_phase_seconds"].split()[-1]) == 1.5
