//! Sign-in by OpenID Connect: against a real provider, and against one that lies.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_tests::answer::text;
use berth_tests::browser::Page;
use berth_tests::client::PASSWORD;
use berth_tests::login_provider::{self, CLIENT_ID, CLIENT_SECRET};
use berth_tests::process::free_port;
use berth_tests::{Browser, Host, Letterbox, LoginProvider, Manifest};
use reqwest::{Method, Url};
use serde_json::{Value, json};

/// A host that knows one provider of some name, and perhaps a mail server.
async fn host_with(name: &str, issuer: &str, port: u16, mail: Option<&Letterbox>) -> Host {
    let prefix = format!("BERTH_OIDC_{}", name.to_uppercase());
    let mut builder = Host::with(Manifest::hello())
        .flag("--listen", &format!("127.0.0.1:{port}"))
        .variable("BERTH_PUBLIC_URL", &format!("http://127.0.0.1:{port}"))
        .variable("BERTH_ALLOWED_ORIGINS", "https://app.example.com")
        .variable(&format!("{prefix}_ISSUER"), issuer)
        .variable(&format!("{prefix}_CLIENT_ID"), CLIENT_ID)
        .variable(&format!("{prefix}_CLIENT_SECRET"), CLIENT_SECRET);
    if let Some(mail) = mail {
        builder = builder.variable("BERTH_SMTP_URL", &mail.url).variable("BERTH_MAIL_FROM", "berth@example.com");
    }
    builder.start().await
}

/// The sound provider with its host; none where it cannot run.
async fn sound(name: &str, mail: Option<&Letterbox>) -> Option<(LoginProvider, Host, String)> {
    if !login_provider::is_there() {
        return None;
    }
    let port = free_port();
    let path = if name == "google" { "google".to_owned() } else { format!("oidc/{name}") };
    let callback = format!("http://127.0.0.1:{port}/api/auth/{path}/callback");
    let provider = LoginProvider::sound(&[&callback]);
    let host = host_with(name, &provider.issuer, port, mail).await;
    Some((provider, host, callback))
}

/// The whole way of a browser: to the provider, through its forms, and back.
async fn sign_in(browser: &mut Browser, start: &str, person: &str, callback: &str) -> Page {
    let page = browser.open(start).await;
    assert_eq!(page.answer.status, 302, "{}", page.answer.text());
    let back = login_provider::sign_in(browser, page, person, callback).await;
    browser.open(back.as_str()).await
}

#[tokio::test]
async fn a_person_signs_in_by_a_provider_and_is_the_same_user_every_time() {
    let Some((_provider, host, callback)) = sound("acme", None).await else { return };
    let start = host.client().url("/api/auth/oidc/acme");
    let mut browser = Browser::default();
    let first = sign_in(&mut browser, &start, "ada", &callback).await.answer.expect(200);
    assert_eq!((&first["user"]["email"], &first["user"]["isEmailVerified"]), (&json!("ada@example.com"), &json!(true)));
    assert!(browser.attributes("accessToken").contains("HttpOnly") && browser.cookie("loginFlow").is_none());
    let ada = host.client().with_token(&text(&first, "token"));
    let me = ada.get("/api/auth/me").await.expect(200);
    assert_eq!((&me["organization"]["name"], &me["role"]["name"]), (&json!("The ada"), &json!("Super Admin")));
    let second = sign_in(&mut Browser::default(), &start, "ada", &callback).await.answer.expect(200);
    assert_eq!(second["user"]["id"], first["user"]["id"]);
    let grace = sign_in(&mut Browser::default(), &start, "grace", &callback).await.answer.expect(200);
    assert_ne!(grace["user"]["id"], first["user"]["id"]);
    // Nobody can sign in with a password there never was, and the only way in stays.
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    host.client().post("/api/auth/login", &login).await.problem(401, "UNAUTHORIZED");
    ada.post("/api/auth/unlink-provider", &json!({ "provider": "acme" })).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn an_account_is_found_by_an_address_that_both_sides_have_confirmed_and_by_no_other() {
    let Some(mail) = Letterbox::open().await else { return };
    let Some((_provider, host, callback)) = sound("acme", Some(&mail)).await else { return };
    let start = host.client().url("/api/auth/oidc/acme");
    let ada = host.client().register("ada@example.com", "Harbour").await;
    // Somebody may have registered with an address that is not theirs.
    let refused = sign_in(&mut Browser::default(), &start, "ada", &callback).await;
    refused.answer.problem(409, "CONFLICT");
    let token = mail.letter("ada@example.com", "Confirm", 1).await.token();
    host.client().post("/api/auth/verify-email", &json!({ "token": token })).await.done(200);
    let signed_in = sign_in(&mut Browser::default(), &start, "ada", &callback).await.answer.expect(200);
    assert_eq!(signed_in["user"]["id"], ada.account["user"]["id"]);
    let providers = ada.get("/api/auth/providers").await.expect(200);
    assert_eq!(providers, json!({ "providers": ["password", "acme"], "available": ["acme"] }));
    let refused = sign_in(&mut Browser::default(), &start, "unproven", &callback).await;
    refused.answer.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn google_is_the_provider_of_that_name_and_is_linked_and_unlinked() {
    let Some((_provider, host, callback)) = sound("google", None).await else { return };
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let mut browser = Browser::default();
    let link = async |browser: &mut Browser, token: &str| {
        let url = Url::parse(&host.client().url("/api/auth/link-google")).expect("a URL");
        browser.send(Method::POST, url, |request| request.bearer_auth(token).json(&json!({}))).await
    };
    let begun = link(&mut browser, ada.token()).await.answer.expect(200);
    let page = browser.open(&text(&begun, "authorizationUrl")).await;
    // Any account of the provider can be linked, whatever its address.
    let back = login_provider::sign_in(&mut browser, page, "countess", &callback).await;
    let linked = browser.open(back.as_str()).await.answer.expect(200);
    assert_eq!(linked["providers"], json!(["password", "google"]));
    link(&mut browser, ada.token()).await.answer.problem(409, "CONFLICT");
    let start = host.client().url("/api/auth/google");
    let signed_in = sign_in(&mut Browser::default(), &start, "countess", &callback).await.answer.expect(200);
    assert_eq!(signed_in["user"]["id"], ada.account["user"]["id"]);
    // What is linked with one user is not linked with another.
    let eve = host.client().register("eve@example.com", "Reef").await;
    let mut other = Browser::default();
    let begun = link(&mut other, eve.token()).await.answer.expect(200);
    let page = other.open(&text(&begun, "authorizationUrl")).await;
    let back = login_provider::sign_in(&mut other, page, "countess", &callback).await;
    other.open(back.as_str()).await.answer.problem(409, "CONFLICT");

    let unlink = async |provider: &str| ada.post("/api/auth/unlink-provider", &json!({ "provider": provider })).await;
    assert_eq!(unlink("google").await.expect(200)["providers"], json!(["password"]));
    unlink("google").await.problem(404, "NOT_FOUND");
    unlink("password").await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_provider_that_is_linked_and_has_confirmed_the_same_address_confirms_it() {
    let Some((_provider, host, callback)) = sound("google", None).await else { return };
    let ada = host.client().register("ada@example.com", "Harbour").await;
    for (person, is_verified) in [("countess", false), ("ada", true)] {
        let mut browser = Browser::default();
        let url = Url::parse(&host.client().url("/api/auth/link-google")).expect("a URL");
        let begun = browser.send(Method::POST, url, |request| request.bearer_auth(ada.token()).json(&json!({}))).await;
        let page = browser.open(&text(&begun.answer.expect(200), "authorizationUrl")).await;
        let back = login_provider::sign_in(&mut browser, page, person, &callback).await;
        browser.open(back.as_str()).await.answer.done(200);
        assert_eq!(ada.get("/api/auth/me").await.expect(200)["user"]["isEmailVerified"], is_verified, "{person}");
        ada.post("/api/auth/unlink-provider", &json!({ "provider": "google" })).await.done(200);
    }
}

#[tokio::test]
async fn what_is_not_configured_says_so_and_a_provider_that_is_away_keeps_no_host_from_starting() {
    let host = Host::with(Manifest::hello()).start().await;
    host.client().get("/api/auth/google").await.problem(503, "SERVICE_UNAVAILABLE");
    host.client().get("/api/auth/google/callback?code=x&state=y").await.problem(503, "SERVICE_UNAVAILABLE");
    host.client().get("/api/auth/oidc/acme").await.problem(404, "NOT_FOUND");
    drop(host);
    let (port, nobody) = (free_port(), free_port());
    let host = host_with("acme", &format!("http://127.0.0.1:{nobody}"), port, None).await;
    host.client().get("/api/auth/oidc/acme").await.problem(502, "BAD_GATEWAY");
    drop(host);
    let output = Host::with(Manifest::hello())
        .variable("BERTH_OIDC_ACME_ISSUER", "http://id.example.com")
        .variable("BERTH_OIDC_ACME_CLIENT_ID", "berth")
        .variable("BERTH_OIDC_ACME_CLIENT_SECRET", "a-secret")
        .run_to_end();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("BERTH_OIDC_ACME_ISSUER: is not a URL") && said.contains("needs BERTH_PUBLIC_URL"), "{said}");
    assert!(!said.contains("a-secret"), "{said}");
}

/// The lying provider with its host, named `acme`; none where it cannot run.
async fn rogue() -> Option<(LoginProvider, Host)> {
    if !login_provider::is_there() {
        return None;
    }
    let provider = LoginProvider::rogue();
    let host = host_with("acme", &provider.issuer, free_port(), None).await;
    Some((provider, host))
}

/// One sign-in that was begun: what the provider was asked.
struct Begun {
    browser: Browser,
    callback: String,
    issuer: String,
    asked: Url,
}

impl Begun {
    async fn at(host: &Host, provider: &LoginProvider) -> Self {
        Self::to(host, provider, "").await
    }

    async fn to(host: &Host, provider: &LoginProvider, query: &str) -> Self {
        let mut browser = Browser::default();
        let page = browser.open(&host.client().url(&format!("/api/auth/oidc/acme{query}"))).await;
        assert_eq!(page.answer.status, 302, "{}", page.answer.text());
        let asked = page.location().expect("where the browser is sent");
        let callback = host.client().url("/api/auth/oidc/acme/callback");
        Self { browser, callback, issuer: provider.issuer.clone(), asked }
    }

    fn parameter(&self, name: &str) -> String {
        let found = self.asked.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        found.unwrap_or_else(|| panic!("no {name} in {}", self.asked))
    }

    /// The code that makes the provider answer with a fault.
    fn code(&self, fault: &str) -> String {
        let order =
            json!({ "nonce": self.parameter("nonce"), "challenge": self.parameter("code_challenge"), "fault": fault });
        URL_SAFE_NO_PAD.encode(order.to_string())
    }

    /// Where the provider sends the browser back to.
    fn back(&self, code: &str) -> String {
        format!("{}?code={code}&state={}&iss={}", self.callback, self.parameter("state"), self.issuer)
    }

    async fn finish(&mut self, fault: &str) -> Page {
        let back = self.back(&self.code(fault));
        self.browser.open(&back).await
    }
}

#[tokio::test]
async fn no_id_token_is_believed_but_one_for_us_for_now_and_for_this_sign_in() {
    let Some((provider, host)) = rogue().await else { return };
    for fault in [
        "audience",
        "audiences",
        "issuer",
        "expired",
        "nonce",
        "noNonce",
        "accessToken",
        "missing",
        "none",
        "shared",
        "publicAsSecret",
        "otherKey",
        "unknownKey",
    ] {
        let mut begun = Begun::at(&host, &provider).await;
        let page = begun.finish(fault).await;
        assert_eq!(page.answer.status, 401, "{fault}: {}", page.answer.text());
        assert!(begun.browser.cookie("accessToken").is_none(), "{fault}");
    }
    Begun::at(&host, &provider).await.finish("unproven").await.answer.problem(403, "FORBIDDEN");
    for fault in ["large", "noSubject"] {
        Begun::at(&host, &provider).await.finish(fault).await.answer.problem(502, "BAD_GATEWAY");
    }
    // Nothing of all this has made an account, and the same way without a fault does.
    let mut begun = Begun::at(&host, &provider).await;
    let body = begun.finish("").await.answer.expect(200);
    assert_eq!(body["user"]["email"], "mallory@example.com");
    let users = host.client().with_token(&text(&body, "token")).get("/api/users").await.expect(200);
    assert_eq!(users["total"], 1);
    assert!(!host.log().contains("a-secret-between"), "the log holds the client's secret");
}

#[tokio::test]
async fn an_answer_counts_once_for_the_browser_that_asked_and_from_the_provider_that_was_asked() {
    let Some((provider, host)) = rogue().await else { return };
    let refused = |page: Page, why: &str| {
        let body: Value = page.answer.problem(400, "VALIDATION_ERROR");
        assert!(["state", "iss"].contains(&body["errors"][0]["field"].as_str().unwrap_or_default()), "{why}: {body}");
    };
    let begun = Begun::at(&host, &provider).await;
    assert!(begun.browser.attributes("loginFlow").contains("HttpOnly; SameSite=Lax"));
    assert_eq!(begun.parameter("code_challenge_method"), "S256");
    let good = begun.back(&begun.code(""));
    // The browser of somebody else, who was handed the link.
    refused(Browser::default().open(&good).await, "another browser");
    let mut stranger = Begun::at(&host, &provider).await;
    refused(stranger.browser.open(&good).await, "a browser with a sign-in of its own");
    let mut begun = begun;
    let state = begun.parameter("state");
    refused(begun.browser.open(&good.replace(&state, "guess")).await, "a guessed state");
    refused(begun.browser.open(&good.replace(&format!("&state={state}"), "")).await, "no state");
    begun.browser.open(&good).await.answer.done(200);
    refused(begun.browser.open(&good).await, "a second time");
    // The cookie was taken away; whoever kept it does not get further.
    let mut kept = Begun::at(&host, &provider).await;
    let back = kept.back(&kept.code(""));
    let mut copy = kept.browser.clone();
    kept.browser.open(&back).await.answer.done(200);
    refused(copy.open(&back).await, "the same answer with the old cookie");
    // Mixed up: the answer of another provider, or of none that says who it is.
    let mut begun = Begun::at(&host, &provider).await;
    let good = begun.back(&begun.code(""));
    let other = good.replace(&begun.issuer, "https://id.example.com");
    refused(begun.browser.open(&other).await, "another issuer");
    let mut begun = Begun::at(&host, &provider).await;
    let nameless = begun.back(&begun.code("")).replace(&format!("&iss={}", begun.issuer), "");
    refused(begun.browser.open(&nameless).await, "no issuer although the provider always names it");
    // A code that was meant for another challenge, and a provider that refuses.
    let (mut begun, other) = (Begun::at(&host, &provider).await, Begun::at(&host, &provider).await);
    let stolen = begun.back(&other.code(""));
    begun.browser.open(&stolen).await.answer.problem(401, "UNAUTHORIZED");
    let mut begun = Begun::at(&host, &provider).await;
    let denied = begun.back("x").replace("code=x", "error=access_denied");
    begun.browser.open(&denied).await.answer.problem(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_browser_is_only_sent_on_to_where_the_operator_allows() {
    let Some((provider, host)) = rogue().await else { return };
    for bad in [
        "https://evil.example.com/",
        "//evil.example.com",
        "/%5C..%5Cevil".replace("%5C", "\\").as_str(),
        "https://app.example.com@evil.example.com/",
        "https://app.example.com.evil.example.com/",
        "http://app.example.com/",
        "javascript:alert(1)",
        "data:text/html,x",
    ] {
        let encoded: String = bad.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = host.client().get(&format!("/api/auth/oidc/acme?redirectTo={encoded}")).await;
        answer.problem(400, "VALIDATION_ERROR");
        assert_eq!(answer.faulty_fields(), ["redirectTo"], "{bad}");
    }
    for (good, lands) in [
        ("/welcome%3Fa=1", host.client().url("/welcome?a=1")),
        ("https://app.example.com/in", "https://app.example.com/in".to_owned()),
    ] {
        let mut begun = Begun::to(&host, &provider, &format!("?redirectTo={good}")).await;
        let page = begun.finish("").await;
        assert_eq!((page.answer.status, page.answer.header("location")), (302, lands));
        assert!(begun.browser.cookie("accessToken").is_some());
    }
}
