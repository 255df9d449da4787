//! Certificates good and crooked, and what becomes of those who present them.

use crate::logs;
use crate::support::*;
use dir_core::{Clock, SpiffeId, Timestamp};
use dir_identity::RefuseReason;
use dir_identity::devapi::{Authority, svid_params};
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

pub(crate) fn in_secs(clock: &TestClock, secs: i64) -> Timestamp {
    Timestamp(clock.now().0 + secs * 1000)
}

pub(crate) fn date(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.secs()).unwrap()
}

/// A good client leaf of a trust domain, changed at will, signed by that domain's CA.
pub(crate) fn mint(
    world: &World,
    signer: &str,
    id: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Crooked {
    let authority = world.server_api.authority(signer).unwrap();
    mint_by(&authority, world, id, change)
}

pub(crate) fn mint_by(
    authority: &Authority,
    world: &World,
    id: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Crooked {
    let id: SpiffeId = id.parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = svid_params(&id, &[], world.clock.now(), in_secs(&world.clock, 600)).unwrap();
    change(&mut params);
    let mut chain = vec![authority.sign(&params, &key).unwrap()];
    chain.extend(authority.intermediates().iter().cloned());
    Crooked::with(chain, key.serialize_der())
}

/// A leaf below an intermediate of our own making.
pub(crate) fn below(world: &World, intermediate: impl FnOnce(&mut CertificateParams)) -> Crooked {
    let authority = world.server_api.authority(OWN).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date(in_secs(&world.clock, -60));
    params.not_after = date(in_secs(&world.clock, 600));
    intermediate(&mut params);
    let middle = authority.sign(&params, &key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let id: SpiffeId = CLIENT_ID.parse().unwrap();
    let leaf = svid_params(&id, &[], world.clock.now(), in_secs(&world.clock, 600)).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap().der().to_vec();
    Crooked::with(vec![leaf, middle], leaf_key.serialize_der())
}

/// The client is let in: one connection comes out, and nothing is counted as refused.
pub(crate) async fn accepted(server: &Server, what: &str, client: Crooked) {
    let (before, refused) = (server.peers.lock().len(), server.refused_in_all());
    client.try_ping(server.addr).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(server.peers.lock().len(), before + 1, "{what}");
    assert!((server.refused_in_all() - refused).abs() < f64::EPSILON, "{what}");
}

/// The client is refused for this reason: its counter rises by one and no other, the log says so, no connection comes
/// out. Returns the line of the log.
pub(crate) async fn refused(server: &Server, what: &str, reason: RefuseReason, client: Crooked) -> String {
    let (before, all) = (server.refused(reason), server.refused_in_all());
    let peers = server.peers.lock().len();
    let (local, outcome) = client.try_ping_from(server.addr).await;
    assert!(outcome.is_err(), "{what}: was let in");
    until(&format!("{what}: reason {reason}"), || server.refused_in_all() > all).await;
    let reasons: Vec<_> = RefuseReason::ALL.iter().filter(|r| server.refused(**r) > 0.0).collect();
    assert!((server.refused(reason) - before - 1.0).abs() < f64::EPSILON, "{what}: {reasons:?}");
    assert!((server.refused_in_all() - all - 1.0).abs() < f64::EPSILON, "{what}: {reasons:?}");
    assert_eq!(server.peers.lock().len(), peers, "{what}: a connection came out");
    let line = logs::line(&format!("addr={local} ")).await;
    assert!(line.contains(&format!("reason=\"{reason}\"")), "{what}: {line}");
    line
}
