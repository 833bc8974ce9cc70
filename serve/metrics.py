"""Prometheus metrics of a server, on a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from burnish.serve.versions import Versions

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counts requests by route, status and version."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["route", "status"]
        self.requests = Counter("burnish_requests", "requests answered", labels, registry=self.registry)
        self.pictures = Counter("burnish_pictures", "pictures made", ["policy", "version"], registry=self.registry)
        self.seconds = Histogram(
            "burnish_request_seconds",
            "seconds from arrival to answer",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.busy = Gauge("burnish_requests_in_work", "requests admitted and not answered", registry=self.registry)
        self.changes = Counter("burnish_version_changes", "changes of versions", ["event"], registry=self.registry)
        self.share = Gauge(
            "burnish_version_share", "share of a policy's requests", ["policy", "version"], registry=self.registry
        )
        self.replays = Counter("burnish_replayed", "answers given again", registry=self.registry)

    def show(self, versions: Versions) -> bytes:
        """The text that Prometheus reads."""
        self.share.clear()
        for name, line in versions.lines.items():
            trial = line.share if line.canary is not None else 0.0
            self.share.labels(name, str(line.active)).set(1.0 - trial)
            if line.canary is not None:
                self.share.labels(name, str(line.canary)).set(trial)
        return generate_latest(self.registry)
