//! `bench-hyper`: a bare hyper server in the same binary, to measure against.
//!
//! One thread, one fixed answer, nothing else: what the machine can do at most.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;

use super::{CommandError, output};

#[derive(Debug, clap::Args)]
pub(super) struct BenchArguments {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The body of every answer
    #[arg(long, default_value = r#"{"message":"hello","version":"1"}"#)]
    body: String,
    /// Its media type
    #[arg(long, default_value = "application/json")]
    media_type: String,
}

pub(super) async fn serve(arguments: BenchArguments) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::failed(format!("{} cannot be bound: {error}", arguments.listen));
    let listener = tokio::net::TcpListener::bind(arguments.listen).await.map_err(failed)?;
    output::say(&format!("http://{}", listener.local_addr().map_err(failed)?));
    let media_type = http::HeaderValue::try_from(&arguments.media_type)
        .map_err(|_| CommandError::usage("the media type cannot be a header"))?;
    let body = Bytes::from(arguments.body);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (body, media_type) = (body.clone(), media_type.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |_request| {
                let mut response = http::Response::new(Full::new(body.clone()));
                response.headers_mut().insert(http::header::CONTENT_TYPE, media_type.clone());
                std::future::ready(Ok::<_, Infallible>(response))
            });
            // A client that leaves ends its own connection and nothing else.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
