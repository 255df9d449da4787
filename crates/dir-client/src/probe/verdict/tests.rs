use super::*;
use dir_identity::Presented;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn leaf(id: Option<&str>, subject: &str, dns: &str) -> Seen {
    Seen {
        presented: Presented { subject: subject.into(), issuer: "CN=x".into(), dns_names: vec![dns.into()] },
        spiffe_id: id.map(|id| id.parse().unwrap()),
        not_before: Timestamp::from_secs(999_000),
        not_after: Timestamp::from_secs(1_001_000),
        serial: "01".into(),
    }
}

fn sighting() -> Sighting {
    Sighting {
        version: "TLSv1.3",
        alpn: Some("h2".into()),
        refused_h2: false,
        chain: Vec::new(),
        http_status: None,
    }
}

fn facts() -> Facts {
    Facts {
        met: Met::Tls(sighting()),
        leaf: Some(leaf(Some("spiffe://example.org/api"), "O=SPIRE", "api")),
        server_name: "api.example.org".into(),
        sni: true,
        by_name: false,
        now: NOW,
        trust: Trust::Holds,
        grpc: Some(Ok(true)),
    }
}

fn stranger(dns: &str, http_status: Option<u16>) -> Facts {
    Facts {
        met: Met::Tls(Sighting { alpn: None, refused_h2: true, http_status, ..sighting() }),
        leaf: Some(leaf(None, "CN=web", dns)),
        trust: Trust::Refused(RefuseReason::NoUriSan, "none".into()),
        grpc: None,
        ..facts()
    }
}

#[test]
fn every_fault_has_its_name_and_its_exit_code() {
    let met = |met: Met| Facts { met, leaf: None, grpc: None, ..facts() };
    let refused = |reason, text: &str| Facts { trust: Trust::Refused(reason, text.into()), ..facts() };
    let tls = |s: Sighting| Facts { met: Met::Tls(s), ..facts() };
    let failed = |kind| {
        let error = ClientError::new(kind, "Check at x", "because", "");
        Facts { grpc: Some(Err(error)), ..facts() }
    };
    let aged = |not_before, not_after| {
        let seconds = Timestamp::from_secs;
        let seen = leaf(Some("spiffe://example.org/api"), "O=SPIRE", "api");
        let seen = Seen { not_before: seconds(not_before), not_after: seconds(not_after), ..seen };
        // An expired SVID is refused for that reason, whatever the chain builder says.
        let trust = Trust::Refused(RefuseReason::Expired, "expired".into());
        Facts { leaf: Some(seen), trust, ..facts() }
    };
    for (facts, cause, code) in [
        (facts(), "healthy", 0),
        (met(Met::Refused), "refused", 3),
        (met(Met::Unreachable("no route".into())), "unreachable", 3),
        (met(Met::Timeout), "timeout", 75),
        (met(Met::PlainHttp2), "plaintext-server", 7),
        (met(Met::PlainHttp1(Some(400))), "http-proxy", 7),
        (met(Met::NotTls), "not-tls", 7),
        (met(Met::Closed), "closed", 7),
        (met(Met::Alert("HandshakeFailure".into())), "handshake-refused", 7),
        (stranger("ingress.local", Some(404)), "host-not-routed", 7),
        (stranger("ingress.local", Some(502)), "ingress-default-certificate", 7),
        (stranger("ingress.local", None), "ingress-default-certificate", 7),
        (stranger("api.example.org", Some(200)), "passthrough-off", 7),
        (stranger("api.example.org", None), "passthrough-off", 7),
        (Facts { sni: false, ..stranger("ingress.local", None) }, "ingress-default-certificate", 7),
        (Facts { leaf: Some(leaf(None, "C=US, O=SPIRE", "api")), ..facts() }, "no-uri-san", 7),
        (aged(999_000, 999_990), "expired", 7),
        (aged(1_000_010, 1_001_000), "not-yet-valid", 7),
        (refused(RefuseReason::UnknownTrustDomain, "no bundle"), "foreign-trust-domain", 7),
        (refused(RefuseReason::UnexpectedId, "the server is x"), "unexpected-server", 7),
        (refused(RefuseReason::BadChain, "unknown issuer"), "untrusted", 7),
        (refused(RefuseReason::LeafIsCa, "a CA"), "untrusted", 7),
        (Facts { leaf: None, ..facts() }, "untrusted", 7),
        (tls(Sighting { version: "TLSv1.2", ..sighting() }), "old-tls", 7),
        (tls(Sighting { alpn: None, ..sighting() }), "wrong-alpn", 7),
        (tls(Sighting { alpn: None, refused_h2: true, ..sighting() }), "wrong-alpn", 7),
        (Facts { trust: Trust::Unjudged("no socket".into()), grpc: None, ..facts() }, "no-identity", 6),
        (failed(Kind::TlsRefused), "client-refused", 7),
        (failed(Kind::Unavailable), "not-serving", 75),
        (failed(Kind::VersionSkew), "grpc-failed", 1),
        (Facts { grpc: Some(Ok(false)), ..facts() }, "not-serving", 75),
    ] {
        let verdict = verdict(&facts);
        assert_eq!((verdict.cause.name(), verdict.cause.exit_code()), (cause, code), "{verdict:?}");
        assert!(!verdict.text.is_empty(), "{verdict:?}");
        let silent = matches!(verdict.cause, Cause::Healthy) || facts.leaf.is_none();
        assert!(silent || verdict.next.len() > 10, "{verdict:?}");
    }
}
