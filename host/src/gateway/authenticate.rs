//! Which credential a request brings, and which of its headers are only for the host.
//!
//! Identity comes from the verified token alone: a header that names a user, an organization or a tenant is dropped in
//! every spelling before anything else sees it, and a guest never sees the caller's token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap};
use http::{HeaderName, HeaderValue};

use super::error::GatewayError;
use crate::accounts::is_api_key;

/// The cookie that carries the access token of a browser.
pub(crate) const ACCESS_COOKIE: &str = "accessToken";
/// Cookies that are the host's own: no guest may read or set them.
const HOST_COOKIES: [&str; 3] = [ACCESS_COOKIE, "refreshToken", "loginFlow"];
/// Bytes of a token; a longer one is no token of ours.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What the request shows to prove who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential<'headers> {
    None,
    Bearer(&'headers str),
    Cookie(&'headers str),
    /// A user name and a password, still encoded; see [`basic`]. It counts only where [`super::webdav`] says so.
    Basic(&'headers str),
    /// Something that cannot be a token of ours, such as another scheme.
    Unusable,
}

/// Finds the credential. Two of them that could disagree are refused rather than chosen from.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Credential<'_>, GatewayError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(GatewayError::Malformed("more than one Authorization header"));
        }
        let basic = || of_scheme(value, "basic").map(Credential::Basic);
        return Ok(of_scheme(value, "bearer").map(Credential::Bearer).or_else(basic).unwrap_or(Credential::Unusable));
    }
    let mut found = None;
    for token in cookies(headers).filter_map(|(name, value)| (name == ACCESS_COOKIE).then_some(value)) {
        if found.is_some_and(|earlier| earlier != token) {
            return Err(GatewayError::Malformed("more than one accessToken cookie"));
        }
        found = Some(token);
    }
    Ok(match found {
        None => Credential::None,
        Some(token) if is_token(token) => Credential::Cookie(token),
        Some(_) => Credential::Unusable,
    })
}

/// Whether a client's header claims an identity and must be dropped.
pub(crate) fn is_identity(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    // Cheap refusals first: every request's every header comes through here.
    matches!(name.first(), Some(b'x'))
        && [&b"x-user-id"[..], b"x-organization-id", b"x-tenant-id"].iter().any(|claimed| {
            claimed.len() == name.len()
                && claimed
                    .iter()
                    .zip(name)
                    .all(|(claimed, byte)| claimed == byte || (*claimed == b'-' && *byte == b'_'))
        })
}

/// Whether a header concerns one connection only and is never forwarded.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
    )
}

/// A `Cookie` header without the host's own cookies; none when nothing is left.
pub(crate) fn guest_cookies(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    if !HOST_COOKIES.iter().any(|name| text.contains(name)) {
        return Some(value.clone());
    }
    let kept: Vec<&str> = text.split(';').map(str::trim).filter(|pair| !is_host_cookie(pair)).collect();
    if kept.is_empty() { None } else { HeaderValue::from_str(&kept.join("; ")).ok() }
}

/// Whether a `name=value` pair, as in `Cookie` or `Set-Cookie`, is one of the host's own cookies. What has no name comes back from a
/// browser as its value alone: `=accessToken=x` as `accessToken=x`.
pub(crate) fn is_host_cookie(pair: &str) -> bool {
    let pair = pair.trim_start_matches(|letter: char| letter == '=' || letter.is_whitespace());
    let name = pair.split(['=', ';']).next().unwrap_or(pair).trim();
    HOST_COOKIES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The user name and the password of a credential by Basic (RFC 7617, in UTF-8).
pub(super) fn basic(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

/// Whether an `Authorization` header holds what has the form of an API key, alone or as a password: no guest may see that,
/// whoever's it is.
pub(super) fn holds_key(value: &HeaderValue) -> bool {
    let pair = of_scheme(value, "basic").and_then(basic);
    pair.is_some_and(|(_, password)| is_api_key(&password)) || of_scheme(value, "bearer").is_some_and(is_api_key)
}

/// What follows the name of the scheme.
fn of_scheme<'value>(value: &'value HeaderValue, wanted: &str) -> Option<&'value str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case(wanted) && is_token(token)).then_some(token)
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_wins_over_the_cookie() {
        let both = headers(&[("authorization", "bEaReR abc.def"), ("cookie", "accessToken=xyz")]);
        assert_eq!(credential(&both).unwrap(), Credential::Bearer("abc.def"));
        let cookie = headers(&[("cookie", "theme=dark; accessToken=xyz")]);
        assert_eq!(credential(&cookie).unwrap(), Credential::Cookie("xyz"));
        assert_eq!(credential(&HeaderMap::new()).unwrap(), Credential::None);
    }

    #[test]
    fn credentials_that_disagree_are_refused() {
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert!(matches!(credential(&twice), Err(GatewayError::Malformed(_))));
        let cookies = headers(&[("cookie", "accessToken=a"), ("cookie", "accessToken=b")]);
        assert!(matches!(credential(&cookies), Err(GatewayError::Malformed(_))));
    }

    #[test]
    fn another_scheme_is_no_credential_of_ours() {
        for value in ["Digest YTpi", "Bearer", "Bearer ", "Bearer a b", "Basic", "Basic a b", "abc"] {
            assert_eq!(credential(&headers(&[("authorization", value)])).unwrap(), Credential::Unusable, "{value}");
        }
    }

    #[test]
    fn a_name_and_a_password_are_read_and_a_key_among_them_is_known() {
        let both = headers(&[("authorization", "bAsIc YWRhQGV4YW1wbGUuY29tOmE6Yg=="), ("cookie", "accessToken=xyz")]);
        let Credential::Basic(encoded) = credential(&both).unwrap() else { panic!("no Basic") };
        assert_eq!(basic(encoded), Some(("ada@example.com".into(), "a:b".into())));
        // No base64, no colon, no UTF-8.
        for wrong in ["a", "YWI=", "/zo="] {
            assert_eq!(basic(wrong), None, "{wrong}");
        }
        assert!(!holds_key(&HeaderValue::from_static("Basic YTpi")));
        let key = format!("Basic {}", STANDARD.encode("eve@example.com:berth_secret"));
        assert!(holds_key(&HeaderValue::from_str(&key).unwrap()));
        assert!(holds_key(&HeaderValue::from_static("bearer berth_secret")));
        assert!(!holds_key(&HeaderValue::from_static("Bearer somebody-elses")));
    }

    #[test]
    fn an_identity_header_is_known_in_every_spelling() {
        for name in [
            "X-User-Id",
            "x_user_id",
            "X-USER_ID",
            "x-organization_id",
            "X_Organization-Id",
            "X-Tenant-ID",
            "x_tenant_id",
        ] {
            assert!(is_identity(&HeaderName::from_bytes(name.as_bytes()).unwrap()), "{name}");
        }
        for name in ["x-user-ids", "x-user", "user-id", "x-request-id"] {
            assert!(!is_identity(&HeaderName::from_bytes(name.as_bytes()).unwrap()), "{name}");
        }
    }

    #[test]
    fn a_guest_never_sees_the_hosts_cookies() {
        let kept = guest_cookies(&HeaderValue::from_static("a=1; accessToken=t; b=2; refreshToken=r"));
        assert_eq!(kept.unwrap(), "a=1; b=2");
        assert_eq!(guest_cookies(&HeaderValue::from_static("accessToken=t")), None);
        assert!(is_host_cookie("AccessToken=x; Path=/"));
        assert!(is_host_cookie("=accessToken=x") && is_host_cookie(" = accessToken=x; Path=/"));
        assert!(!is_host_cookie("accessTokenTheme=x"));
    }
}
