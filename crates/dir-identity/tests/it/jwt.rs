//! JWT-SVIDs against the bundles of a Workload API: every row of what is taken and what is refused.

use crate::federation_support::{A, B, Liar, Org, ok, refresh};
use crate::support::{
    CLIENT_ID, Crooked, HOST, OWN, PARTNER, World, dev_config, domain, sample, soon, svid, until,
};
use data_encoding::BASE64URL_NOPAD as B64;
use dir_core::{Clock, TokenIdentity, TokenRefusal, TokenVerifier};
use dir_identity::devapi::DevWorkloadApi;
use dir_identity::{
    AcceptorConfig, ClientCertificate, Connector, IdentityError, JwtConfig, JwtVerifier, ServerCheck,
    TOKEN_MAX,
};
use prometheus::Registry;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A verifier of `https://dir.example` and of `second`, with a minute of tolerance.
struct Bench {
    world: World,
    verifier: JwtVerifier,
    registry: Registry,
}

type Verdict = Result<Arc<TokenIdentity>, TokenRefusal>;

impl Bench {
    async fn start() -> Self {
        let (world, registry) = (World::start().await, Registry::new());
        let identity = world.identity(&world.server_api, &registry).await;
        let audiences = vec!["https://dir.example".to_owned(), "second".to_owned()];
        let config = JwtConfig { audiences, ..JwtConfig::default() };
        let verifier = JwtVerifier::obtain(&identity, config, &registry).await.unwrap();
        Self { world, verifier, registry }
    }

    fn now(&self) -> i64 {
        self.world.clock.now().secs()
    }

    /// Good claims, with a change.
    fn claims(&self, change: impl FnOnce(&mut Value)) -> Value {
        let now = self.now();
        let mut claims = json!({
            "sub": CLIENT_ID, "aud": ["https://dir.example"], "iat": now, "exp": now + 300,
        });
        change(&mut claims);
        claims
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.world.server_api.sign_jwt(OWN, header, claims).unwrap()
    }

    fn verify(&self, token: &str) -> Verdict {
        self.verifier.verify(token, self.world.clock.now())
    }

    /// The verdict over a token that is good but for a change of its claims.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Verdict {
        self.verify(&self.sign(&json!({}), &self.claims(change)))
    }

    /// The same for its header.
    fn headed(&self, header: &Value) -> Verdict {
        self.verify(&self.sign(header, &self.claims(|_| {})))
    }
}

fn refused(verdict: Verdict) -> &'static str {
    let refusal = verdict.expect_err("the token was taken");
    assert!(!refusal.detail.is_empty());
    refusal.reason
}

#[tokio::test]
async fn j_a_good_token_is_its_subject() {
    let bench = Bench::start().await;
    let token = bench.with(|_| {}).unwrap();
    assert_eq!(token.id.as_str(), CLIENT_ID);
    assert_eq!(token.expires.secs(), bench.now() + 300);
    assert_eq!(token.accepted_until.secs(), bench.now() + 360);
    assert!(bench.verifier.still_trusted(&token));
    for typ in ["JWT", "JOSE"] {
        bench.headed(&json!({ "typ": typ })).unwrap();
    }
    bench.headed(&json!({ "typ": null })).unwrap();
}

#[tokio::test]
async fn j_garbage() {
    let bench = Bench::start().await;
    let good = bench.sign(&json!({}), &bench.claims(|_| {}));
    let parts: Vec<_> = good.split('.').collect();
    let twice = B64.encode(br#"{"alg":"ES256","kid":"a","kid":"b"}"#);
    for token in [
        String::new(),
        "garbage".to_owned(),
        "a.b".to_owned(),
        "a.b.c".to_owned(),
        "..".to_owned(),
        format!("{good}.{}", parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}", B64.encode(b"[]"), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], B64.encode(b"{"), parts[2]),
        format!("{twice}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.not base64", parts[0], parts[1]),
    ] {
        assert_eq!(refused(bench.verify(&token)), "malformed", "{token:?}");
    }
    assert_eq!(refused(bench.headed(&json!({ "typ": "at+jwt" }))), "malformed");
    assert_eq!(refused(bench.headed(&json!({ "crit": ["b64"], "b64": false }))), "malformed");
    for name in ["exp", "nbf", "iat"] {
        for value in [json!("soon"), json!(-1), json!(1e300), json!({})] {
            assert_eq!(refused(bench.with(|c| c[name] = value.clone())), "malformed", "{name} {value}");
        }
    }
}

#[tokio::test]
async fn j_a_signature_of_somebody_else() {
    let bench = Bench::start().await;
    let good = bench.sign(&json!({}), &bench.claims(|_| {}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = bench.sign(&json!({}), &bench.claims(|c| c["exp"] = json!(bench.now() + 301)));
    let (_, stolen) = other.rsplit_once('.').unwrap();
    assert_eq!(refused(bench.verify(&format!("{signed}.{stolen}"))), "signature");
    assert_eq!(refused(bench.verify(&format!("{signed}."))), "signature");
    let mut bytes = B64.decode(signature.as_bytes()).unwrap();
    bytes[5] ^= 1;
    assert_eq!(refused(bench.verify(&format!("{signed}.{}", B64.encode(&bytes)))), "signature");
    // Our own subject under the key of a partner.
    let kid = json!({});
    let forged = bench.world.server_api.sign_jwt(PARTNER, &kid, &bench.claims(|_| {})).unwrap();
    assert_eq!(refused(bench.verify(&forged)), "unknown_key");
}

#[tokio::test]
async fn j_alg_none_and_shared_secrets() {
    let bench = Bench::start().await;
    for alg in ["none", "None", "HS256", "HS384", "HS512", "ES256K", "EdDSA", "es256", ""] {
        assert_eq!(refused(bench.headed(&json!({ "alg": alg }))), "algorithm", "{alg:?}");
    }
    assert_eq!(refused(bench.headed(&json!({ "alg": null }))), "algorithm");
    assert_eq!(refused(bench.headed(&json!({ "alg": ["ES256"] }))), "algorithm");
    let signed = bench.sign(&json!({ "alg": "none" }), &bench.claims(|_| {}));
    let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
    assert_eq!(refused(bench.verify(&unsigned)), "algorithm");
    // An algorithm that is fine, for a key that is none of its kind.
    for alg in ["ES384", "ES512", "RS256", "PS512"] {
        assert_eq!(refused(bench.headed(&json!({ "alg": alg }))), "signature", "{alg}");
    }
}

#[tokio::test]
async fn j_unknown_kid() {
    let bench = Bench::start().await;
    assert_eq!(refused(bench.headed(&json!({ "kid": "another" }))), "unknown_key");
    for kid in [json!(""), json!(null), json!(7)] {
        assert_eq!(refused(bench.headed(&json!({ "kid": kid }))), "unknown_key", "{kid}");
    }
}

#[tokio::test]
async fn j_expired_and_inside_the_leeway() {
    let bench = Bench::start().await;
    let clock = &bench.world.clock;
    let claims = bench.claims(|c| c["exp"] = json!(bench.now() + 100));
    let token = bench.sign(&json!({}), &claims);
    let at = claims["exp"].as_i64().unwrap();
    for (now, good) in [(at - 1, true), (at, true), (at + 59, true), (at + 60, false), (at + 6000, false)] {
        // Twice: the second time what is remembered of the token is asked.
        for _ in 0..2 {
            let verdict = bench.verifier.verify(&token, dir_core::Timestamp::from_secs(now));
            match verdict {
                Ok(_) => assert!(good, "{} s after its end", now - at),
                Err(refusal) => {
                    assert!(!good && refusal.reason == "expired", "{} s after its end: {refusal}", now - at);
                }
            }
        }
    }
    assert_eq!(refused(bench.with(|c| drop(c.as_object_mut().unwrap().remove("exp")))), "expired");
    clock.shift(400);
    assert_eq!(refused(bench.verify(&token)), "expired");
}

#[tokio::test]
async fn j_not_yet_valid() {
    let bench = Bench::start().await;
    let now = bench.now();
    for name in ["nbf", "iat"] {
        bench.with(|c| c[name] = json!(now + 50)).unwrap();
        assert_eq!(refused(bench.with(|c| c[name] = json!(now + 70))), "not_yet_valid", "{name}");
        bench.with(|c| c[name] = json!(f64::from(u32::try_from(now).unwrap()) - 0.5)).unwrap();
    }
}

#[tokio::test]
async fn j_wrong_audience_and_the_second_one() {
    let bench = Bench::start().await;
    for good in [json!("second"), json!(["other", "second"]), json!(["https://dir.example"])] {
        bench.with(|c| c["aud"] = good.clone()).unwrap();
    }
    for wrong in
        [json!("other"), json!(["a", "b"]), json!([]), json!(""), json!("SECOND"), json!(null), json!(1)]
    {
        assert_eq!(refused(bench.with(|c| c["aud"] = wrong.clone())), "audience", "{wrong}");
    }
    assert_eq!(refused(bench.with(|c| c["aud"] = json!(["second", 1]))), "malformed");
}

#[tokio::test]
async fn j_subjects_that_are_no_workload() {
    let bench = Bench::start().await;
    for sub in
        [json!(null), json!("alice"), json!("https://example.org/w"), json!("spiffe://example.org"), json!(1)]
    {
        assert_eq!(refused(bench.with(|c| c["sub"] = sub.clone())), "subject", "{sub}");
    }
    let long = format!("spiffe://example.org/{}", "x".repeat(2048));
    assert_eq!(refused(bench.with(|c| c["sub"] = json!(long))), "subject");
}

#[tokio::test]
async fn j_foreign_domain_with_and_without_bundle() {
    let bench = Bench::start().await;
    let claims = bench.claims(|c| c["sub"] = json!("spiffe://partner.example/w"));
    let foreign = bench.world.partner_api.sign_jwt(PARTNER, &json!({}), &claims).unwrap();
    assert_eq!(bench.verify(&foreign).unwrap().id.trust_domain().as_str(), PARTNER);
    // Signed by us for them.
    assert_eq!(refused(bench.verify(&bench.sign(&json!({}), &claims))), "unknown_key");
    let nobody = bench.claims(|c| c["sub"] = json!("spiffe://nobody.example/w"));
    assert_eq!(refused(bench.verify(&bench.sign(&json!({}), &nobody))), "unknown_trust_domain");

    let token = bench.verify(&foreign).unwrap();
    bench.world.server_api.federate(OWN, &[]);
    until("the bundle of the partner is gone", || bench.verify(&foreign).is_err()).await;
    assert_eq!(refused(bench.verify(&foreign)), "unknown_trust_domain", "what was remembered is forgotten");
    assert!(!bench.verifier.still_trusted(&token));
    bench.with(|_| {}).unwrap();
    bench.world.server_api.federate(OWN, &[PARTNER]);
    until("the partner is back", || bench.verify(&foreign).is_ok()).await;
    assert!(bench.verifier.still_trusted(&token), "with the same key");
}

#[tokio::test]
async fn j_keys_rotate_and_are_withdrawn() {
    let bench = Bench::start().await;
    let api = &bench.world.server_api;
    let keys = || sample(&bench.registry, "jwt_bundle_keys", "trust_domain", OWN);
    let (old, mut changed) = (bench.sign(&json!({}), &bench.claims(|_| {})), bench.verifier.changed());
    let identity = bench.verify(&old).unwrap();
    changed.mark_unchanged();
    assert!(api.rotate_jwt_key(OWN, true));
    soon("the new key", changed.changed()).await.unwrap();
    assert!((keys() - 2.0).abs() < 0.1);
    let new = bench.sign(&json!({}), &bench.claims(|_| {}));
    assert!(bench.verify(&old).is_ok() && bench.verify(&new).is_ok());
    assert!(bench.verifier.still_trusted(&identity));
    assert!(api.rotate_jwt_key(OWN, false));
    soon("the newest key", changed.changed()).await.unwrap();
    assert_eq!(refused(bench.verify(&old)), "unknown_key");
    assert_eq!(refused(bench.verify(&new)), "unknown_key");
    assert!(!bench.verifier.still_trusted(&identity));
    bench.with(|_| {}).unwrap();
}

#[tokio::test]
async fn j_the_keys_outlive_the_agent_and_follow_it_again() {
    let bench = Bench::start().await;
    bench.world.server_api.vanish().await;
    bench.with(|_| {}).unwrap();
    bench.world.server_api.rotate_jwt_key(OWN, false);
    bench.world.server_api.appear().await.unwrap();
    until("the key that came meanwhile", || bench.with(|_| {}).is_ok()).await;
}

#[tokio::test]
async fn j_a_verified_token_is_remembered_and_a_long_one_not_looked_at() {
    let bench = Bench::start().await;
    let count = |result: &str| sample(&bench.registry, "token_verifications_total", "result", result);
    let token = bench.sign(&json!({}), &bench.claims(|_| {}));
    for _ in 0..5 {
        bench.verify(&token).unwrap();
    }
    assert!((count("verified") - 1.0).abs() < 0.1 && (count("cached") - 4.0).abs() < 0.1);
    // At the edge of the length.
    let sized = |extra: usize| {
        let claims = bench.claims(|c| c["padding"] = json!("x".repeat(extra)));
        bench.sign(&json!({}), &claims)
    };
    let room = |token: &str| TOKEN_MAX - token.len();
    let mut extra = room(&sized(0)) * 3 / 4 - 8;
    while sized(extra).len() < TOKEN_MAX - 1 {
        extra += 1;
    }
    assert!(sized(extra).len() <= TOKEN_MAX);
    bench.verify(&sized(extra)).unwrap();
    assert_eq!(refused(bench.verify(&sized(extra + 2))), "too_long");
}

#[tokio::test]
async fn j_no_certificate_is_asked_for() {
    let world = World::start().await;
    let config =
        AcceptorConfig { client_certificate: ClientCertificate::NotAsked, ..AcceptorConfig::default() };
    let server = world.server(config).await;
    drop(Crooked::nobody().try_ping(server.addr).await.unwrap());
    // A client with a certificate is not asked for it either.
    let connector = world.connector().await;
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    drop(connector.connect(tcp, HOST).await.unwrap());
    // And one without checks the server as well as any other.
    let identity = world.identity(&world.partner_api, &Registry::new()).await;
    let stranger = Connector::without_certificate(identity, ServerCheck::default());
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let error = stranger.connect(tcp, HOST).await.unwrap_err();
    assert!(error.to_string().contains("expected spiffe://partner.example/"), "{error}");
    until("both connections are closed", || {
        sample(&server.registry, "connections", "state", "open").abs() < 0.1
    })
    .await;
    let peers = server.peers.lock().clone();
    assert!(peers.iter().all(|p| p.principal == dir_core::Principal::Anonymous && p.not_after.is_none()));
}

#[tokio::test]
async fn j_a_server_waits_for_the_keys_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let clock = crate::support::clock();
    let config = dev_config(&dir.path().join("s"), vec![domain(OWN, vec![svid(CLIENT_ID, &[])], &[])]);
    let api = DevWorkloadApi::start(config, clock.clone()).await.unwrap();
    let mut workload = crate::support::workload(api.socket_uri());
    workload.startup_wait.total = Duration::from_millis(300);
    let identity = dir_identity::Identity::obtain(workload, clock, &Registry::new()).await.unwrap();
    api.vanish().await;
    let error = JwtVerifier::obtain(&identity, JwtConfig::default(), &Registry::new()).await.unwrap_err();
    assert!(matches!(error, IdentityError::NoJwtBundles { .. }), "{error}");
    assert!(error.to_string().contains("socket absent"), "{error}");
}

#[tokio::test]
async fn j_keys_of_a_partner_that_is_fetched() {
    let (a, b) = tokio::join!(Org::start(A), Org::start(B));
    let config = JwtConfig { audiences: vec!["dir".to_owned()], ..JwtConfig::default() };
    let verifier = JwtVerifier::obtain(&a.identity, config, &Registry::new()).await.unwrap();
    let now = || a.clock.now();
    let claims = json!({ "sub": "spiffe://b.example/w", "aud": "dir", "exp": now().secs() + 300 });
    let token = b.api.sign_jwt(B, &json!({}), &claims).unwrap();
    assert_eq!(refused(verifier.verify(&token, now())), "unknown_trust_domain");

    // The partner publishes its key beside its roots; of a key that nobody can use only that key is lost.
    let key = b.api.jwt_keys(B).unwrap().remove(0);
    let mut document = b.document(1);
    let keys = document["keys"].as_array_mut().unwrap();
    keys.push(key.clone());
    keys.push(json!({ "kty": "RSA", "use": "jwt-svid", "kid": "short", "n": "AQAB", "e": "AQAB" }));
    let liar = Liar::start().await;
    liar.say(move |_| ok(&document));
    let federation = a.federate(vec![liar.as_partner(B)]).await;
    until("the key has come", || verifier.verify(&token, now()).is_ok()).await;
    let identity = verifier.verify(&token, now()).unwrap();
    assert_eq!(identity.id.trust_domain().as_str(), B);

    // A key that left the document is trusted no more.
    let document = b.document(2);
    liar.say(move |_| ok(&document));
    refresh(&federation, B).await.unwrap();
    until("the key has gone", || !verifier.still_trusted(&identity)).await;
    assert_eq!(refused(verifier.verify(&token, now())), "unknown_key");
}
