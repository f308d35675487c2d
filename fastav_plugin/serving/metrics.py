"""What a server counts, as a page for Prometheus."""

import importlib.util
import threading
from collections.abc import Sequence

from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.report import PruningReport
from fastav_plugin.serving.batching.observer import ModelObserver
from fastav_plugin.serving.exchange import Outcome

#: Upper bounds of the histograms' buckets: shares of the dense FLOPs, and seconds.
_RATIOS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_PREFILL = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STEP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_OUTCOMES: tuple[Outcome, ...] = ("answered", "refused", "failed", "left")


def is_installed() -> bool:
    """Whether the library that writes the page is there."""
    return importlib.util.find_spec("prometheus_client") is not None


class ServerMetrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fastav_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastav_{name}", text, ["model"], registry=registry)

        def histogram(name: str, text: str, bounds: Sequence[float]) -> Histogram:
            return Histogram(f"fastav_{name}", text, ["model"], buckets=bounds, registry=registry)

        self.seen = counter(
            "prompt_tokens_seen", "Prompt tokens before any cut.", "model", "modality"
        )
        self.kept = counter(
            "prompt_tokens_kept", "Prompt tokens in the last layer.", "model", "modality"
        )
        self.requests = counter("requests", "Requests that have ended.", "model", "outcome")
        self.unpruned = counter(
            "unpruned_requests", "Prompts of which nothing was cut.", "model", "reason"
        )
        self.media = counter("refused_media", "Media that refused their request.", "reason")
        self.flops = histogram("flops_ratio", "FLOPs of a prefill as a share of dense.", _RATIOS)
        self.kv_bytes = gauge("kv_bytes", "Bytes of keys and values that batches hold now.")
        self.running = gauge("running_requests", "Requests that are being answered.")
        self.waiting = gauge("waiting_requests", "Requests that wait for a place.")
        self.prefill = histogram("prefill_seconds", "Prefill of one request.", _PREFILL)
        self.step = histogram("decode_step_seconds", "One token of each request of a batch.", _STEP)
        self._models: dict[str, ModelMetrics] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> "ModelMetrics":
        """Those of one model, by its name."""
        with self._lock:
            if model not in self._models:
                self._models[model] = ModelMetrics(self, model)
            return self._models[model]

    def ended(self, model: str, outcome: Outcome) -> None:
        """As of an OutcomeCounter."""
        self.requests.labels(model, outcome).inc()

    def refused_media(self, reason: str) -> None:
        """As of an OutcomeCounter."""
        self.media.labels(reason).inc()

    def page(self) -> tuple[bytes, str]:
        """What Prometheus reads, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class ModelMetrics(ModelObserver):
    """The metrics of one model.

    Args:
        server: whose metrics they are among.
        model: its name.
    """

    def __init__(self, server: ServerMetrics, model: str) -> None:
        self._server, self._model = server, model
        for outcome in _OUTCOMES:
            server.requests.labels(model, outcome)
        self._flops = server.flops.labels(model)
        self._kv_bytes = server.kv_bytes.labels(model)
        self._running, self._waiting = server.running.labels(model), server.waiting.labels(model)
        self._prefill, self._step = server.prefill.labels(model), server.step.labels(model)
        self._lock = threading.Lock()
        self._in_batches, self._alone = [0, 0], [0, 0]  # running, waiting

    def reported(self, report: PruningReport | None) -> None:
        """As of a ModelObserver."""
        if report is None:
            self._server.unpruned.labels(self._model, Reason.NO_HOOKS.name.lower()).inc()
            return
        for modality, count in report.prompt_tokens().items():
            kept = report.modality_per_layer[modality][-1]
            self._server.seen.labels(self._model, modality).inc(count)
            self._server.kept.labels(self._model, modality).inc(kept)
        self._flops.observe(report.flops_ratio)
        if report.reason is not None:
            reason = Reason.of_sentence(report.reason).name.lower()
            self._server.unpruned.labels(self._model, reason).inc()

    def prefilled(self, seconds: float) -> None:
        """As of a ModelObserver."""
        self._prefill.observe(seconds)

    def stepped(self, seconds: float) -> None:
        """As of a ModelObserver."""
        self._step.observe(seconds)

    def waits(self, requests: int) -> None:
        """As of a ModelObserver."""
        with self._lock:
            self._in_batches[1] = requests
            self._show()

    def holds(self, requests: int, kv_bytes: int) -> None:
        """As of a ModelObserver."""
        self._kv_bytes.set(kv_bytes)
        with self._lock:
            self._in_batches[0] = requests
            self._show()

    def alone(self, *, waiting: int = 0, running: int = 0) -> None:
        """As of a ModelObserver."""
        with self._lock:
            self._alone[0] += running
            self._alone[1] += waiting
            self._show()

    def _show(self) -> None:
        self._running.set(self._in_batches[0] + self._alone[0])
        self._waiting.set(self._in_batches[1] + self._alone[1])
