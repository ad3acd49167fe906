//! `/docs`: a browser of the API, served from this process alone.
//!
//! Its script and style are a package that the build fetched (`cargo xtask build`); a host that was built without says so.
//! The page may load nothing from anywhere else, and nothing of the host but the document and what its reader asks for.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Response};

use super::error::GatewayError;
use super::health::VERSION;
use super::respond::ResponseBody;

/// What the build found: the bytes of each file, or nothing.
mod files {
    include!(concat!(env!("OUT_DIR"), "/api_browser.rs"));
}

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Berth API</title>
<link rel=\"stylesheet\" href=\"/docs/style.css\">
</head>
<body>
<div id=\"browser\"></div>
<script src=\"/docs/browser.js\"></script>
<script src=\"/docs/start.js\"></script>
</body>
</html>
";
/// Nothing is stored: a token that somebody enters is gone with the page.
const START: &str = "SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#browser',
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
";
/// Exactly what the page needs. The browser writes styles into elements, which only `unsafe-inline` allows; scripts come
/// from files alone.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Whether this path belongs to the browser.
pub(super) fn is_path(path: &str) -> bool {
    path == "/docs" || path.starts_with("/docs/")
}

/// Answers one of its files.
pub(super) fn answer(path: &str) -> Result<Response<ResponseBody>, GatewayError> {
    let (Some(script), Some(style)) = (files::SCRIPT, files::STYLE) else {
        return Err(GatewayError::NotImplemented(
            "this host was built without the API browser; /openapi.json has the document for any other one",
        ));
    };
    let (kind, bytes) = match path {
        "/docs" | "/docs/" => ("text/html; charset=utf-8", PAGE.as_bytes()),
        "/docs/browser.js" => ("text/javascript; charset=utf-8", script),
        "/docs/style.css" => ("text/css; charset=utf-8", style),
        "/docs/start.js" => ("text/javascript; charset=utf-8", START.as_bytes()),
        _ => return Err(GatewayError::RouteNotFound),
    };
    let mut response = Response::new(ResponseBody::full(bytes::Bytes::from_static(bytes)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{VERSION}-{}\"", bytes.len())) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}
