"""Counters of a service, as Prometheus reads them."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from aftermap.workflows.service.jobs import Jobs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """Counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "aftermap_requests", "Requests", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "aftermap_request_seconds",
            "Time to the end of an answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.uploaded = Counter("aftermap_uploaded_bytes", "Bytes of uploads", registry=self.registry)
        self.refused = Counter("aftermap_refused", "Requests refused", ["why"], registry=self.registry)
        self._jobs = Gauge("aftermap_jobs", "Jobs by state", ["state"], registry=self.registry)

    def text(self, jobs: "Jobs") -> bytes:
        """All of them now."""
        for state in ("queued", "running", "done", "failed", "cancelled"):
            self._jobs.labels(state).set(jobs.count(state))
        return generate_latest(self.registry)
