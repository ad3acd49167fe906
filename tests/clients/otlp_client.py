"""The official OpenTelemetry SDK against Berth: three services in one trace, with metrics and logs. Where to send and with which key
is in the environment, as the README of observability says. Prints the id of the trace."""

import logging

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

results = []


def sure(exporter):
    """Notes how each export ended: a processor keeps that to itself."""
    export = exporter.export

    def noted(*arguments, **options):
        result = export(*arguments, **options)
        results.append((type(exporter).__name__, result.name))
        return result

    exporter.export = noted
    return exporter


def of(service):
    return Resource.create({"service.name": service, "service.version": "1.2.3"})


providers = {}
for service, compression in [("gate", Compression.NoCompression), ("shop", Compression.Gzip), ("store", Compression.NoCompression)]:
    providers[service] = TracerProvider(resource=of(service))
    providers[service].add_span_processor(BatchSpanProcessor(sure(OTLPSpanExporter(compression=compression))))
tracer = {service: provider.get_tracer("tests", "0.1") for service, provider in providers.items()}

reader = PeriodicExportingMetricReader(sure(OTLPMetricExporter()), export_interval_millis=3_600_000)
meters = MeterProvider(resource=of("shop"), metric_readers=[reader])
meter = meters.get_meter("tests")
orders = meter.create_counter("orders", unit="1")
latency = meter.create_histogram("latency", unit="ms", explicit_bucket_boundaries_advisory=[10.0, 100.0])
meter.create_observable_gauge("depth", [lambda _: [Observation(7, {"queue": "a"})]])

logs = LoggerProvider(resource=of("shop"))
logs.add_log_record_processor(BatchLogRecordProcessor(sure(OTLPLogExporter())))
log = logging.getLogger("cart")
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(logger_provider=logs))
log.propagate = False

with tracer["gate"].start_as_current_span("GET /buy", kind=SpanKind.SERVER, attributes={"http.route": "/buy", "items": 3}) as root:
    trace_id = trace.format_trace_id(root.get_span_context().trace_id)
    with tracer["gate"].start_as_current_span("call shop", kind=SpanKind.CLIENT):
        with tracer["shop"].start_as_current_span("buy", kind=SpanKind.SERVER) as buy:
            buy.add_event("cart opened", {"size": 2})
            log.info("order %s accepted, token=abcdefghijkl", 17)
            for number in (1, 2, 3):
                orders.add(number, {"route": "/buy"})
                latency.record(number * 30.0, {"route": "/buy"})
            with tracer["store"].start_as_current_span("reserve", kind=SpanKind.SERVER, attributes={"tags": ["a", "b"]}) as reserve:
                try:
                    raise LookupError("shelf 99 is empty")
                except LookupError as error:
                    reserve.record_exception(error)
                    reserve.set_status(Status(StatusCode.ERROR, "shelf 99 is empty"))
                    log.exception("reservation failed")

for provider in [*providers.values(), meters, logs]:
    assert provider.force_flush(), provider
    provider.shutdown()
assert {name for name, _ in results} == {"OTLPSpanExporter", "OTLPMetricExporter", "OTLPLogExporter"}, results
assert all(result == "SUCCESS" for _, result in results), results
print(trace_id)
