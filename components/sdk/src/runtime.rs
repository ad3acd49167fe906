//! The exports of a component, made from its [`Service`](crate::service::Service). Only for wasm.

mod describe;
mod streaming;

use crate::{
    bindings::exports::berth::platform::{consumer, handler, lifecycle},
    bindings::wasi::http::types::{IncomingRequest, ResponseOutparam},
    events::{Envelope, Kind, Outcome},
    http::{Body, Request, Response},
    packed,
    problem::Problem,
    service::Service,
};

/// `berth:platform/handler`.
pub fn handle(service: &Service, request: handler::Request) -> handler::Response {
    let mut request = Request {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request.headers,
        body: request.body,
        request_id: request.request_id,
        params: Vec::new(),
    };
    let (status, headers, body) = answer(service, &mut request);
    handler::Response { status, headers, body }
}

/// `berth:platform/packed-handler`.
pub fn handle_packed(service: &Service, request: Vec<u8>) -> Vec<u8> {
    let (status, headers, body) = match packed::unpack(request) {
        Some(mut request) => answer(service, &mut request),
        // The host packs it; what it cannot have packed is nobody's request.
        None => (500, Vec::new(), Vec::new()),
    };
    packed::pack(status, &headers, body)
}

/// Status, headers and body of a whole answer.
fn answer(service: &Service, request: &mut Request) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let Response { status, headers, body } = service.answer(request);
    if let Body::Whole(body) = body {
        return (status, headers, body);
    }
    let problem = Problem::not_implemented("This route streams; call it through wasi:http.");
    let Response { status, headers, body } = Response::problem(&problem, &request.request_id);
    (status, headers, if let Body::Whole(body) = body { body } else { Vec::new() })
}

/// `wasi:http/incoming-handler`.
pub fn serve(service: &Service, request: IncomingRequest, out: ResponseOutparam) {
    streaming::serve(service, request, out);
}

/// `berth:platform/consumer`.
pub fn consume(service: &Service, delivery: consumer::Delivery) -> consumer::Outcome {
    let envelope = Envelope {
        kind: match delivery.kind {
            consumer::DeliveryKind::Event => Kind::Event,
            consumer::DeliveryKind::Work => Kind::Work,
            consumer::DeliveryKind::Timer => Kind::Timer,
        },
        id: delivery.id,
        message_type: delivery.type_,
        text: delivery.data,
        organization_id: delivery.organization_id,
        user_id: delivery.user_id,
        source_service: delivery.source_service,
        timestamp: delivery.timestamp,
        correlation_id: delivery.correlation_id,
        causation_id: delivery.causation_id,
        attempt: delivery.attempt,
        is_last_attempt: delivery.is_last_attempt,
    };
    match service.deliver(&envelope) {
        Outcome::Acknowledged => consumer::Outcome::Acknowledged,
        Outcome::Retry(after) => {
            consumer::Outcome::Retry(after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
        }
        Outcome::Rejected(reason) => consumer::Outcome::Rejected(reason),
    }
}

/// `berth:platform/lifecycle.describe`.
pub fn describe(service: &Service) -> lifecycle::Description {
    describe::description(service)
}

/// `berth:platform/lifecycle.ready`.
pub fn ready(service: &Service) -> Result<(), String> {
    service.ready()
}
