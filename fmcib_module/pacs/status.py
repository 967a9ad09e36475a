"""What the node shows over HTTP: /healthz, /metrics for Prometheus, and one page; no identifiers unless asked for."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Protocol

from jinja2 import Environment

from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.node_settings import NodeSettings
from fmcib_module.pacs.results import Outbox
from fmcib_module.pacs.spool import Spool
from fmcib_module.pacs.state import State, StudyRow, StudyState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

SHOWN_STUDIES: Final = 25
REQUEST_TIMEOUT_S: Final = 10

PAGE: Final = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10"><title>{{ title }}</title>
<style>body{font:15px system-ui;margin:2em;max-width:70em}td,th{text-align:left;padding:.2em 1em .2em 0}
.dead,.retrying,.bad{color:#b00020}</style>
<h1>{{ title }}</h1>
<p>Research use only. {% if healthy %}Running.{% else %}<b class="bad">{{ trouble }}</b>{% endif %} Open
associations: {{ associations }}. Objects received: {{ received }}, refused: {{ refused }}.</p>
<h2>Queue</h2>
<table><tr>{% for state in counts %}<th>{{ state }}{% endfor %}
{% for name in waiting %}<th>for {{ name }}{% endfor %}
<tr>{% for n in counts.values() %}<td>{{ n }}{% endfor %}{% for n in waiting.values() %}<td>{{ n }}{% endfor %}</table>
{% for heading, rows in tables %}
<h2>{{ heading }}</h2>
<table><tr><th>Study<th>State<th>Changed<th>Lesions<th>Failures<th>Reason
{% for row in rows %}
<tr class="{{ row.state }}"><td>{{ name_of(row) }}<td>{{ row.state }}<td>{{ ago(row.changed) }}<td>{{ row.lesions }}
<td>{{ row.attempts }}<td>{{ row.reason }}
{% else %}
<tr><td colspan="6">none
{% endfor %}
</table>
{% endfor %}
</html>
""")


class Associations(Protocol):
    """Who knows how many associations are open; `Node` is one."""

    @property
    def associations(self) -> int:
        """How many."""


class Overview:
    """Everything that is shown, gathered when it is asked for."""

    def __init__(
        self, settings: NodeSettings, state: State, spool: Spool, outbox: Outbox, audit: Audit, node: Associations
    ) -> None:
        """Remember where to look."""
        self._settings, self._state, self._spool, self._outbox = settings, state, spool, outbox
        self._audit, self._node = audit, node

    def trouble(self) -> str:
        """What keeps the node from its work; empty where nothing does."""
        return "" if self._spool.has_room() else "The disk is full up to its limit: objects are refused."

    def page(self) -> str:
        """The status page."""
        counts, now = self._audit.counts, time.time()
        failures = self._state.studies(states=(StudyState.DEAD, StudyState.RETRYING), limit=SHOWN_STUDIES)
        trouble = self.trouble()
        return PAGE.render(
            title=f"fmcib node {self._settings.ae_title}",
            healthy=not trouble,
            trouble=trouble,
            associations=self._node.associations,
            received=counts.get("object-stored", 0) + counts.get("object-repeated", 0),
            refused=counts.get("object-refused", 0),
            counts=self._state.counts(),
            waiting=self._outbox.waiting(),
            tables=[("Failures", failures), ("Last studies", self._state.studies(limit=SHOWN_STUDIES))],
            name_of=self._name_of,
            ago=lambda at: f"{max(0, round(now - at))} s ago",
        )

    def _name_of(self, row: StudyRow) -> str:
        return f"{row.patient_id} {row.study_uid}" if self._settings.identifiers else row.study[:12]

    def collect(self) -> "Iterator[Metric]":
        """The figures, as a collector of prometheus-client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        events = CounterMetricFamily("fmcib_node_events", "What happened, by event of the audit log", labels=["event"])
        for event, count in sorted(self._audit.counts.items()):
            events.add_metric([event], count)
        studies = GaugeMetricFamily("fmcib_node_studies", "Studies, by state", labels=["state"])
        for state, count in self._state.counts().items():
            studies.add_metric([state], count)
        waiting = GaugeMetricFamily("fmcib_node_deliveries_waiting", "Objects to deliver", labels=["destination"])
        for name, count in self._outbox.waiting().items():
            waiting.add_metric([name], count)
        room = GaugeMetricFamily(
            "fmcib_node_disk_has_room", "1 where objects are accepted", value=self._spool.has_room()
        )
        yield from (events, studies, waiting, room)
        yield GaugeMetricFamily("fmcib_node_associations", "Open associations", value=self._node.associations)


class StatusServer:
    """Serves an overview over HTTP."""

    def __init__(self, overview: Overview, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigError: The port is taken, or prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry
        except ImportError as error:
            fix = "pip install 'fmcib-module[pacs]'"
            raise ConfigError("package prometheus-client is not installed", "serve", fix) from error
        registry = CollectorRegistry()
        registry.register(overview)
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(overview, registry))
        except OSError as error:
            fix = "choose a free http_port, or -1 for none"
            raise ConfigError(f"cannot listen: {error.strerror}", f"{host}:{port}", fix) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="status")
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(overview: Overview, registry: "CollectorRegistry") -> type[BaseHTTPRequestHandler]:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    class Handler(BaseHTTPRequestHandler):
        """Three addresses, nothing to change."""

        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            """Answer."""
            if self.path == "/healthz":
                trouble = overview.trouble()
                self._answer(503 if trouble else 200, "text/plain; charset=utf-8", (trouble or "ok") + "\n")
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry).decode())
            elif self.path == "/":
                self._answer(200, "text/html; charset=utf-8", overview.page())
            else:
                self._answer(404, "text/plain; charset=utf-8", "there is /, /healthz and /metrics\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the audit log is for what the node does."""

    return Handler
