//! Access tokens and cookies as somebody who attacks them sees them.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_tests::answer::text;
use berth_tests::client::PASSWORD;
use berth_tests::{Browser, Host, Manifest};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use reqwest::{Method, Url};
use serde_json::{Value, json};

async fn host() -> Host {
    Host::with(Manifest::hello()).start().await
}

/// Header and claims of a token.
fn parts(token: &str) -> (Value, Value) {
    let part = |index: usize| {
        let part = token.split('.').nth(index).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    };
    (part(0), part(1))
}

fn assembled(header: &Value, claims: &Value, signature: &str) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

#[tokio::test]
async fn no_token_is_believed_but_one_that_this_installation_signed() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let (header, claims) = parts(ada.token());
    let signature = ada.token().split('.').nth(2).expect("a signature").to_owned();
    let keys = host.client().get("/.well-known/jwks.json").await.expect(200);
    let public = text(&keys["keys"][0], "x");
    let with = |changes: Value| {
        let mut claims = claims.clone();
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    };
    let header_of = |alg: &str| {
        let mut header = header.clone();
        header["alg"] = alg.into();
        header
    };
    let mut forged = vec![
        assembled(&header, &with(json!({ "sub": "somebody" })), &signature),
        assembled(&header, &with(json!({ "exp": 4_102_444_800_u64 })), &signature),
        assembled(&header, &claims, ""),
        assembled(&header, &claims, &signature[..signature.len() - 2]),
        format!("{}.", ada.token()),
        String::from("a.b.c"),
        "x".repeat(10_000),
    ];
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "ES256"] {
        forged.push(assembled(&header_of(alg), &claims, ""));
        forged.push(assembled(&header_of(alg), &claims, &signature));
    }
    // The classic confusion: an HMAC keyed with what everybody can read.
    for secret in [public.as_bytes(), &URL_SAFE_NO_PAD.decode(&public).expect("a key"), b"", b"berth"] {
        for (alg, name) in [(Algorithm::HS256, "HS256"), (Algorithm::HS512, "HS512")] {
            let header = Header { kid: Some(text(&header_of(name), "kid")), ..Header::new(alg) };
            forged.push(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).expect("a token"));
        }
    }
    // A key of the attacker's own, under our key's id, under its own, and inside the header.
    let seed_of_another = [&hex("302e020100300506032b657004220420")[..], &[7; 32]].concat();
    let own = EncodingKey::from_ed_der(&seed_of_another);
    for kid in [text(&header, "kid"), "mine".to_owned(), "../../etc/passwd".to_owned()] {
        let header = Header {
            kid: Some(kid),
            jku: Some("https://evil.example.com/jwks".into()),
            ..Header::new(Algorithm::EdDSA)
        };
        forged.push(jsonwebtoken::encode(&header, &claims, &own).expect("a token"));
    }
    for token in &forged {
        let answer = host.client().with_token(token).get("/api/auth/me").await;
        assert_eq!(answer.status, 401, "{token}: {}", answer.text());
    }
    // A refresh token is no access token, and the other way round.
    let refresh = text(&ada.account, "refreshToken");
    host.client().with_token(&refresh).get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    let swapped = host.client().post("/api/auth/refresh", &json!({ "refreshToken": ada.token() })).await;
    assert!(matches!(swapped.status, 400 | 401), "{}", swapped.text());
    ada.get("/api/auth/me").await.done(200);
}

#[tokio::test]
async fn others_can_verify_a_token_with_the_published_keys() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let answer = host.client().get("/.well-known/jwks.json").await;
    assert!(answer.header("cache-control").contains("max-age"));
    let keys = answer.expect(200);
    let verify = |token: &str, keys: &Value| {
        let kid = text(&parts(token).0, "kid");
        let key = keys["keys"].as_array()?.iter().find(|key| key["kid"] == kid.as_str())?.clone();
        let key = DecodingKey::from_jwk(&serde_json::from_value(key).ok()?).ok()?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&["berth"]);
        jsonwebtoken::decode::<Value>(token, &key, &validation).ok().map(|data| data.claims)
    };
    let claims = verify(ada.token(), &keys).expect("a valid token");
    assert_eq!((&claims["iss"], &claims["type"]), (&json!("berth"), &json!("access")));
    assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), 900);

    // Rotated: both keys are published, and tokens of both are good.
    host.client().with_token(ada.token()).post("/api/admin/signing-keys/rotate", &json!({})).await.done(201);
    let keys = host.client().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2));
    let again = host.client().login("ada@example.com").await;
    assert_ne!(parts(ada.token()).0["kid"], parts(again.token()).0["kid"]);
    for token in [ada.token(), again.token()] {
        assert!(verify(token, &keys).is_some());
        host.client().with_token(token).get("/api/auth/me").await.done(200);
    }
    // Rotated for a reason: what was signed before is worth nothing at once, the sessions are.
    host.operator().post("/api/admin/signing-keys/rotate", &json!({ "endEarlier": true })).await.done(201);
    for token in [ada.token(), again.token()] {
        host.client().with_token(token).get("/api/auth/me").await.problem(401, "UNAUTHORIZED");
    }
    let refresh = json!({ "refreshToken": text(&again.account, "refreshToken") });
    let renewed = host.client().post("/api/auth/refresh", &refresh).await.expect(200);
    host.client().with_token(&text(&renewed, "token")).get("/api/auth/me").await.done(200);
}

#[tokio::test]
async fn keys_survive_a_restart_and_only_the_platform_rotates_them() {
    let host = host().await;
    let ada = host.client().register("ada@example.com", "Harbour").await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.post("/api/admin/signing-keys/rotate", &json!({})).await.problem(403, "FORBIDDEN");
    host.client().get("/api/admin/signing-keys").await.problem(401, "UNAUTHORIZED");
    let listed = ada.get("/api/admin/signing-keys").await.expect(200);
    assert_eq!(listed["items"][0]["isCurrent"], true);
    let (token, host) = (ada.token().to_owned(), host.restart().await);
    host.client().with_token(&token).get("/api/auth/me").await.done(200);
}

#[tokio::test]
async fn a_cookie_works_for_our_pages_and_for_nobody_elses() {
    let host = Host::with(Manifest::hello()).variable("BERTH_ALLOWED_ORIGINS", "https://app.example.com").start().await;
    host.client().register("ada@example.com", "Harbour").await;
    let mut browser = Browser::default();
    let url = |path: &str| Url::parse(&host.client().url(path)).expect("a URL");
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    browser.send(Method::POST, url("/api/auth/login"), |request| request.json(&login)).await.answer.done(200);
    for name in ["accessToken", "refreshToken"] {
        let attributes = browser.attributes(name);
        assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{name}: {attributes}");
    }
    assert!(browser.attributes("refreshToken").contains("Path=/api/auth"));
    let team = json!({ "name": "Riggers" });
    let own = host.base.clone();
    for (origin, status) in [
        (Some("https://evil.example.com"), 403),
        (Some("null"), 403),
        (Some("https://app.example.com"), 201),
        (Some(own.as_str()), 201),
        (None, 201),
    ] {
        let body = json!({ "name": format!("{} {}", team["name"], origin.unwrap_or("none").len()) });
        let page = browser
            .send(Method::POST, url("/api/teams"), |request| match origin {
                Some(origin) => request.header("origin", origin).json(&body),
                None => request.json(&body),
            })
            .await;
        assert_eq!(page.answer.status, status, "{origin:?}: {}", page.answer.text());
    }
    // The refresh cookie obeys the same rule: another page cannot even have it rotated.
    let foreign = browser
        .send(Method::POST, url("/api/auth/refresh"), |request| request.header("origin", "https://evil.example.com"))
        .await;
    foreign.answer.problem(400, "VALIDATION_ERROR");
    browser.send(Method::POST, url("/api/auth/refresh"), |request| request).await.answer.done(200);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}
