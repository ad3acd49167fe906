//! A component at an address on the web. Its digest is asked for: the address alone says nothing about what is behind it.

use reqwest::Url;
use reqwest::redirect::Policy;

use super::super::CommandError;
use super::super::client::{http_client, reason};
use super::super::output;
use super::{COMPONENT_BYTES_MAX, Component, Sha256Digest, check_size, is_loopback};

/// How often a server may point elsewhere.
const REDIRECTS_MAX: usize = 5;

/// Fetches what is behind `address`, over TLS unless it is on this machine or `plain_http` allows it.
///
/// # Errors
/// One sentence: no digest, an address in the clear, an answer that is none, too large, or not what the digest says.
pub(super) async fn fetch(
    address: &str,
    wanted: Option<Sha256Digest>,
    plain_http: bool,
) -> Result<Component, CommandError> {
    let Place { url, shown, digest } = Place::parse(address, wanted)?;
    if !may_ask(&url, plain_http) {
        return Err(CommandError::usage(format!(
            "{shown} would come in the clear; use https://, or --plain-http where there is no other way"
        )));
    }
    output::progress(&format!("fetching {shown}"));
    let failed = |error: reqwest::Error| CommandError::failed(format!("{shown} cannot be fetched: {}", reason(&error)));
    let mut response = http_client(redirects(plain_http))?.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(CommandError::failed(format!("{shown} answers {}", response.status())));
    }
    check_size(&shown, response.content_length().unwrap_or(1).max(1))?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            break;
        }
    }
    check_size(&shown, bytes.len() as u64)?;
    digest.check(&shown, &bytes)?;
    Ok(Component { bytes, source: format!("{shown}#sha256={}", digest.digits()), signature: None })
}

/// An address, taken apart.
#[derive(Debug)]
struct Place {
    /// What is asked for.
    url: Url,
    /// The same without name, password and query, which may be secrets: for messages and the history.
    shown: String,
    digest: Sha256Digest,
}

impl Place {
    fn parse(address: &str, wanted: Option<Sha256Digest>) -> Result<Self, CommandError> {
        // The address itself is not repeated: it may hold a password.
        let mut url = Url::parse(address)
            .map_err(|error| CommandError::usage(format!("the source is not an address on the web: {error}")))?;
        let fragment = url.fragment().map(str::to_owned);
        url.set_fragment(None);
        let mut shown = url.clone();
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        let named = match fragment.as_deref().map(|text| text.strip_prefix("sha256=")) {
            None => None,
            Some(Some(digits)) => Some(Sha256Digest::parse(digits)?),
            Some(None) => return Err(CommandError::usage(format!("only #sha256=… may stand behind {shown}"))),
        };
        if let (Some(named), Some(wanted)) = (&named, &wanted)
            && named != wanted
        {
            return Err(CommandError::usage(format!("{shown} has two digests: {named} and {wanted}")));
        }
        let Some(digest) = named.or(wanted) else {
            return Err(CommandError::usage(format!(
                "{shown} needs its digest, so that nothing else is deployed: add #sha256=… or --digest sha256:…"
            )));
        };
        Ok(Self { url, shown: shown.to_string(), digest })
    }
}

fn may_ask(url: &Url, plain_http: bool) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => plain_http || url.host_str().is_some_and(is_loopback),
        _ => false,
    }
}

/// Downloads are often kept somewhere else than they are offered; the digest holds wherever that is.
pub(super) fn redirects(plain_http: bool) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("it points elsewhere too often")
        } else if may_ask(attempt.url(), plain_http) {
            attempt.follow()
        } else {
            attempt.error("it points to an address in the clear")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn digest() -> Sha256Digest {
        Sha256Digest::parse(DIGITS).unwrap()
    }

    #[test]
    fn an_address_needs_one_digest() {
        let with = format!("https://example.com/a.wasm#sha256={DIGITS}");
        assert_eq!(Place::parse(&with, None).unwrap().digest, digest());
        assert_eq!(Place::parse("https://example.com/a.wasm", Some(digest())).unwrap().digest, digest());
        assert!(Place::parse(&with, Some(digest())).is_ok());
        for (address, wanted, word) in [
            ("https://example.com/a.wasm", None, "needs its digest"),
            ("https://example.com/a.wasm#top", Some(digest()), "#sha256="),
            ("https://example.com/a.wasm#sha256=1", None, "64 hexadecimal digits"),
            ("https://", None, "not an address"),
            (&with, Some(Sha256Digest::of(b"another")), "two digests"),
        ] {
            let refusal = Place::parse(address, wanted).unwrap_err().to_string();
            assert!(refusal.contains(word), "{address}: {refusal}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secrets() {
        let address = format!("https://ann:secret@example.com/a.wasm?token=secret#sha256={DIGITS}");
        let place = Place::parse(&address, None).unwrap();
        assert_eq!(place.shown, "https://example.com/a.wasm");
        assert_eq!(place.url.as_str(), "https://ann:secret@example.com/a.wasm?token=secret");
        let refusal = Place::parse("https://ann:secret@example.com/a.wasm?token=secret", None).unwrap_err().to_string();
        assert!(!refusal.contains("secret"), "{refusal}");
    }

    #[test]
    fn nothing_comes_in_the_clear_from_elsewhere() {
        let may = |address: &str, plain_http| may_ask(&Url::parse(address).unwrap(), plain_http);
        assert!(may("https://example.com/", false) && may("http://127.0.0.1:1/", false) && may("http://[::1]/", false));
        assert!(!may("http://example.com/", false) && may("http://example.com/", true));
        assert!(!may("ftp://example.com/", true));
    }
}
