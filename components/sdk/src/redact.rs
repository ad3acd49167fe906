//! What is secret by its name.

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";
/// What the name of something secret holds, in lower case and without separators.
const WORDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "authorization",
    "apikey",
    "credential",
    "privatekey",
    "cardnumber",
];
/// How a name ends that holds such a word and yet names nothing secret: `secretId`, `maxTokens`.
const HARMLESS: [&str; 8] = ["id", "ids", "count", "type", "at", "status", "name", "tokens"];

/// Whether what is called so is secret, by the words that such names hold and those in `more`: lower-case letters and digits.
///
/// ```
/// use berth_sdk::redact::is_secret;
/// assert!(is_secret("api_key", &[]) && is_secret("Authorization", &[]) && is_secret("Set-Cookie", &["cookie"]));
/// assert!(!is_secret("secretId", &[]) && !is_secret("maxTokens", &[]) && !is_secret("Set-Cookie", &[]));
/// ```
pub fn is_secret(name: &str, more: &[&str]) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    let holds = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    (holds(&WORDS) || holds(more)) && !HARMLESS.iter().any(|end| plain.ends_with(end))
}
