//! Texts: cleaning them and checking their formats.

/// Trims a text and takes control characters out of it, line breaks and tabs aside.
///
/// ```
/// assert_eq!(berth_sdk::validate::clean(" a\u{0}b\n c \n"), "ab\n c");
/// ```
pub fn clean(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t'))
        .collect::<String>()
        .trim()
        .to_string()
}

/// For names and titles: one line, no control characters, no `<` and `>`.
///
/// ```
/// assert_eq!(berth_sdk::validate::clean_plain(" <b>Ship\n it</b> "), "bShip it/b");
/// ```
pub fn clean_plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() && !matches!(letter, '<' | '>'))
        .collect::<String>()
        .trim()
        .to_string()
}

/// Counts characters, not bytes.
///
/// ```
/// use berth_sdk::validate::string;
/// assert!(string("é", 1, 1).is_ok());
/// assert!(string("", 1, 200).is_err());
/// ```
pub fn string(text: &str, min: usize, max: usize) -> Result<(), String> {
    let count = text.chars().take(max.saturating_add(1)).count();
    if count < min {
        return Err(if min == 1 { "must not be empty".into() } else { format!("must have at least {min} characters") });
    }
    if count > max {
        return Err(format!("must have at most {max} characters"));
    }
    Ok(())
}

/// A plausible address: one `@`, a local part, and a domain with a dot.
///
/// ```
/// use berth_sdk::validate::email;
/// assert!(email("a@example.com").is_ok());
/// assert!(email("a@b").is_err());
/// ```
pub fn email(text: &str) -> Result<(), String> {
    let plausible = text.len() <= 254
        && !text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
        && text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.len() <= 64
                && !domain.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        });
    if plausible { Ok(()) } else { Err("must be an e-mail address".into()) }
}

/// 3 to 63 of `[a-z0-9-]`, no hyphen at either end and no two in a row.
///
/// ```
/// use berth_sdk::validate::slug;
/// assert!(slug("my-team").is_ok());
/// assert!(slug("my--team").is_err());
/// ```
pub fn slug(text: &str) -> Result<(), String> {
    let fits = (3..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    if fits { Ok(()) } else { Err("must have 3 to 63 characters of a-z, 0-9 and single hyphens inside".into()) }
}

/// An absolute `http` or `https` address without a user name in it.
///
/// ```
/// use berth_sdk::validate::url;
/// assert!(url("https://example.com/a?b=c").is_ok());
/// assert!(url("javascript:alert(1)").is_err());
/// ```
pub fn url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = text.len() <= 2048
        && !text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
        && rest.is_some_and(|rest| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            !authority.is_empty() && !authority.contains('@')
        });
    if fits { Ok(()) } else { Err("must be an http or https address".into()) }
}

/// An opaque id: 1 to 64 of `[A-Za-z0-9_-]`.
///
/// ```
/// use berth_sdk::validate::id;
/// assert!(id("0198f3c2-1111-7000-8000-000000000000").is_ok());
/// assert!(id("a/b").is_err());
/// ```
pub fn id(text: &str) -> Result<(), String> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if fits { Ok(()) } else { Err("must have 1 to 64 characters of A-Z, a-z, 0-9, _ and -".into()) }
}

/// One of a closed set.
///
/// ```
/// use berth_sdk::validate::one_of;
/// assert!(one_of("asc", &["asc", "desc"]).is_ok());
/// assert_eq!(one_of("up", &["asc", "desc"]).unwrap_err(), "must be one of asc, desc");
/// ```
pub fn one_of(text: &str, choices: &[&str]) -> Result<(), String> {
    if choices.contains(&text) { Ok(()) } else { Err(format!("must be one of {}", choices.join(", "))) }
}

/// Checks a named format of `#[field(format = "…")]`.
pub(crate) fn format(name: &str, text: &str) -> Result<(), String> {
    match name {
        "email" => email(text),
        "slug" => slug(text),
        "url" => url(text),
        "id" => id(text),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{email, slug, url};

    #[test]
    fn an_address_needs_both_sides() {
        for bad in ["", "@", "a@", "@b.c", "a@@b.c", "a b@c.de", "a@-b.de", "a@b..de"] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slug_has_no_hyphen_at_its_ends() {
        for bad in ["ab", "-abc", "abc-", "aBc", "a_b_c", ""] {
            assert!(slug(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_of_the_web_hides_no_user_name() {
        assert!(url("https://user@example.com/").is_err());
        assert!(url("https://").is_err());
        assert!(url("http://a/@b").is_ok());
    }
}
