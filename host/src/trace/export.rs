//! Sending spans: OTLP over HTTP, in batches, from a thread of its own; and to a sink within this host.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};

use super::Tracer;
use super::tap::{SpanSink, Tap};

/// Spans that wait to be sent; one more is dropped.
const WAITING_MAX: usize = 8_192;
/// Spans in one message.
const BATCH_MAX: usize = 512;
/// How long spans wait for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);
/// How long what waits may take to be sent when the host stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);
/// Bytes of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where spans go and how many.
#[derive(Clone, Default)]
pub(crate) struct TraceOptions {
    /// As in `http://127.0.0.1:4318`; `/v1/traces` is added (`BERTH_OTLP_ENDPOINT`).
    pub endpoint: Option<String>,
    /// Who takes them within this host, and the plugin that keeps them in the end.
    pub sink: Option<(Arc<dyn SpanSink>, &'static str)>,
    /// The share of trees that are recorded, 0 to 1.
    pub ratio: f64,
    /// What tells this host from others.
    pub instance: String,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("the exporter of traces could not be made")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    #[error("the client of the collector could not be made")]
    Client(#[source] reqwest::Error),
}

/// Sends spans until it is stopped.
pub(crate) struct Exporter(Option<SdkTracerProvider>);

impl Exporter {
    /// Nothing is traced.
    fn off() -> Self {
        Self(None)
    }

    /// Starts what sends; nothing is traced where nobody wants it. Must be called within the runtime that then sends.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub(crate) fn start(options: &TraceOptions) -> Result<Self, TraceError> {
        if options.endpoint.is_none() && options.sink.is_none() {
            return Ok(Self::off());
        }
        let mut provider =
            SdkTracerProvider::builder().with_sampler(Sampler::TraceIdRatioBased(options.ratio)).with_resource(
                Resource::builder_empty()
                    .with_attributes([
                        KeyValue::new("service.name", "berth"),
                        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                        KeyValue::new("service.instance.id", options.instance.clone()),
                    ])
                    .build(),
            );
        if let Some(endpoint) = &options.endpoint {
            provider = provider.with_span_processor(to_collector(endpoint)?);
        }
        if let Some((sink, keeper)) = &options.sink {
            provider = provider.with_span_processor(Tap::new(Arc::clone(sink), keeper));
        }
        Ok(Self(Some(provider.build())))
    }

    /// Begins trees; does nothing when nothing is traced.
    pub(crate) fn tracer(&self) -> Tracer {
        Tracer(self.0.as_ref().map(|provider| provider.tracer("berth")))
    }

    /// Sends what waits.
    pub(crate) async fn stop(self) {
        let Some(provider) = self.0 else { return };
        let stopping = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(STOP_TIME_MAX));
        if !matches!(stopping.await, Ok(Ok(()))) {
            tracing::debug!("the last spans were not sent");
        }
    }
}

/// Batches for a collector, from a thread of their own.
fn to_collector(endpoint: &str) -> Result<BatchSpanProcessor, TraceError> {
    let http = reqwest::Client::builder().timeout(SEND_TIME_MAX).build().map_err(TraceError::Client)?;
    let endpoint = endpoint.trim_end_matches('/');
    let endpoint = if endpoint.ends_with("/v1/traces") { endpoint.to_owned() } else { format!("{endpoint}/v1/traces") };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender { http, runtime: tokio::runtime::Handle::current() })
        .with_endpoint(endpoint)
        .with_timeout(SEND_TIME_MAX)
        .build()
        .map_err(TraceError::Exporter)?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    Ok(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
}

/// The exporter's thread is none of the runtime's: what it sends is sent there.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = self.http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let sending = self.runtime.spawn(async move {
            let response = request.send().await?;
            let mut answer = Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                *headers = response.headers().clone();
            }
            let is_long = response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64);
            // Nothing in the answer is needed: its status says whether the spans have arrived.
            let bytes = if is_long { Bytes::new() } else { response.bytes().await? };
            Ok::<_, HttpError>(answer.body(bytes)?)
        });
        sending.await?
    }
}
