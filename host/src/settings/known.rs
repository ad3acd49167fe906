//! The names of the variables, and which known name an unknown one most resembles.

/// Every variable of the table in the specification, and those of the commands that talk to a host.
pub(super) const KNOWN: &[&str] = &[
    "BERTH_CONFIG",
    "BERTH_LISTEN",
    "BERTH_ADMIN_LISTEN",
    "BERTH_DATA",
    "BERTH_DATABASE_URL",
    "BERTH_CACHE_URL",
    "BERTH_QUEUE_URL",
    "BERTH_NAMESPACE",
    "BERTH_MASTER_KEY_FILE",
    "BERTH_MASTER_KEY",
    "BERTH_OPERATOR_TOKEN",
    "BERTH_RATE_LIMIT_PER_MINUTE",
    "BERTH_RATE_LIMIT_WITHOUT_CACHE",
    "BERTH_STOP_DELAY_SECONDS",
    "BERTH_CAPSULES",
    "BERTH_CAPSULES_MIB",
    "BERTH_CAPSULES_DAYS",
    "BERTH_PUBLIC_URL",
    "BERTH_ALLOWED_ORIGINS",
    "BERTH_TRUSTED_PROXIES",
    "BERTH_TLS_CERT",
    "BERTH_TLS_KEY",
    "BERTH_SMTP_URL",
    "BERTH_MAIL_FROM",
    "BERTH_OTLP_ENDPOINT",
    "BERTH_OTLP_SAMPLE",
    "BERTH_FEED_ORGANIZATION",
    "BERTH_LOG",
    "BERTH_LOG_FORMAT",
    "BERTH_DIRECT_PORTS",
    "BERTH_TRUSTED_KEYS",
    "BERTH_URL",
    "BERTH_TOKEN",
];

/// The three variables of a login provider, after `BERTH_OIDC_<NAME>`.
pub(super) const PROVIDER_PARTS: [&str; 3] = ["_ISSUER", "_CLIENT_ID", "_CLIENT_SECRET"];

/// Variables of the test suite: known, and of no effect here.
const TEST_PREFIX: &str = "BERTH_TEST_";
const PROVIDER_PREFIX: &str = "BERTH_OIDC_";
/// As alike as a typing mistake or a forgotten word; below it a hint would only confuse.
const ALIKE_MIN: f64 = 0.75;

/// Whether `name` is a variable that Berth knows.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || name.starts_with(TEST_PREFIX) || provider_part(name).is_some()
}

/// The provider's name in lower case and the part, for `BERTH_OIDC_<NAME>_<PART>`.
pub(super) fn provider_part(name: &str) -> Option<(String, &'static str)> {
    let rest = name.strip_prefix(PROVIDER_PREFIX)?;
    let (provider, part) = PROVIDER_PARTS.iter().find_map(|part| Some((rest.strip_suffix(part)?, *part)))?;
    let is_word =
        !provider.is_empty() && provider.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_word.then(|| (provider.to_ascii_lowercase(), part))
}

/// The sentence about an unknown variable.
pub(super) fn unknown_sentence(name: &str) -> String {
    let hint = if name.starts_with(PROVIDER_PREFIX) {
        let last = name.rsplit('_').next().unwrap_or_default();
        let parts = [("ISSUER", "_ISSUER"), ("ID", "_CLIENT_ID"), ("SECRET", "_CLIENT_SECRET")];
        let part = nearest(last, parts.iter().map(|(word, _)| *word))
            .and_then(|word| parts.iter().find(|(known, _)| *known == word).map(|(_, part)| *part))
            .unwrap_or("_ISSUER");
        Some(format!("{PROVIDER_PREFIX}<NAME>{part}"))
    } else {
        nearest(name, KNOWN.iter().copied()).map(str::to_owned)
    };
    match hint {
        Some(known) => format!("is not a variable of Berth; did you mean {known}?"),
        None => "is not a variable of Berth".to_owned(),
    }
}

/// The candidate most like `name`, when one is alike enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(name, candidate).max(affix(name, candidate)), candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

/// Counts a name that begins or ends with the other as alike: `memory` for `memory_mib`.
fn affix(name: &str, candidate: &str) -> f64 {
    let (short, long) = if name.len() < candidate.len() { (name, candidate) } else { (candidate, name) };
    let contained = short.len() >= 4 && (long.starts_with(short) || long.ends_with(short));
    if contained { ALIKE_MIN } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let names = ["memory_mib", "request_timeout_ms", "concurrency", "body_mib"];
        assert_eq!(nearest("memory", names.into_iter()), Some("memory_mib"));
        assert_eq!(nearest("concurency", names.into_iter()), Some("concurrency"));
        assert_eq!(nearest("request_timeout", names.into_iter()), Some("request_timeout_ms"));
        assert_eq!(nearest("colour", names.into_iter()), None);
    }

    #[test]
    fn a_provider_has_three_parts() {
        assert_eq!(provider_part("BERTH_OIDC_BIG_CO_CLIENT_ID"), Some(("big_co".to_owned(), "_CLIENT_ID")));
        assert_eq!(provider_part("BERTH_OIDC__ISSUER"), None);
        assert_eq!(provider_part("BERTH_OIDC_X_SCOPE"), None);
    }
}
