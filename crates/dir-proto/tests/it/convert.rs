//! Conversions between wire and core.

use dir_core::identity::{BundleReport, IdentityReport};
use dir_core::query::{Filter, Query, QueryKind, Sort};
use dir_core::{Class, Classified, Timestamp};
use dir_proto::agntcy::dir::search::v1::{
    CountRecordsRequest, RecordQuery, RecordQueryType, SearchCiDsRequest, SearchRecordsRequest, SortMode,
};
use dir_proto::convert::{self, ConvertError};

fn wire(kind: i32, value: &str, negate: bool) -> RecordQuery {
    RecordQuery { r#type: kind, value: value.into(), negate }
}

#[test]
fn a_search_becomes_a_query() {
    let request = SearchCiDsRequest {
        queries: vec![
            wire(RecordQueryType::SkillName as i32, "nlp/*", false),
            wire(RecordQueryType::Version as i32, ">=1.0", true),
        ],
        limit: Some(50),
        offset: Some(100),
        sort_mode: SortMode::Popularity as i32,
    };
    let expected = Query {
        filters: vec![
            Filter { kind: QueryKind::SkillName, value: "nlp/*".into(), negate: false },
            Filter { kind: QueryKind::Version, value: ">=1.0".into(), negate: true },
        ],
        sort: Sort::Popularity,
        limit: Some(50),
        offset: 100,
        scope: None,
    };
    assert_eq!(Query::try_from(request.clone()), Ok(expected.clone()));
    let SearchCiDsRequest { queries, limit, offset, sort_mode } = request;
    assert_eq!(Query::try_from(SearchRecordsRequest { queries, limit, offset, sort_mode }), Ok(expected));
}

#[test]
fn limit_0_and_no_limit_are_unlimited() {
    for limit in [None, Some(0)] {
        let query = Query::try_from(SearchCiDsRequest { limit, ..Default::default() }).unwrap();
        assert_eq!(query, Query::default());
    }
    let query = Query::try_from(SearchCiDsRequest { limit: Some(u32::MAX), ..Default::default() }).unwrap();
    assert_eq!(query.limit, Some(u64::from(u32::MAX)));
}

#[test]
fn sort_modes() {
    for (mode, sort) in [
        (0, Sort::Recency),
        (1, Sort::Recency),
        (2, Sort::Popularity),
        (3, Sort::ProviderCount),
        (4, Sort::Recency),
        (5, Sort::Recency),
        (-1, Sort::Recency),
    ] {
        let query = Query::try_from(SearchCiDsRequest { sort_mode: mode, ..Default::default() }).unwrap();
        assert_eq!(query.sort, sort, "{mode}");
    }
}

#[test]
fn type_0_is_skipped_and_an_unknown_type_is_refused_by_name() {
    let queries = vec![wire(0, "anything", false), wire(RecordQueryType::Name as i32, "", false)];
    let query = Query::try_from(CountRecordsRequest { queries }).unwrap();
    assert_eq!(query.filters, [Filter { kind: QueryKind::Name, value: String::new(), negate: false }]);

    for number in [16, 26, -1, i32::MAX] {
        let error =
            Query::try_from(CountRecordsRequest { queries: vec![wire(number, "x", false)] }).unwrap_err();
        assert_eq!(error, ConvertError::UnknownQueryType(number));
        assert!(error.to_string().contains(&number.to_string()), "{error}");
        assert_eq!(error.class(), Class::Invalid);
    }
}

#[test]
fn every_query_type_of_the_wire_has_a_kind_and_no_other() {
    for number in -1..64 {
        let known = RecordQueryType::try_from(number).is_ok_and(|t| t != RecordQueryType::Unspecified);
        assert_eq!(QueryKind::from_number(number).is_some(), known, "{number}");
    }
}

#[test]
fn timestamps_keep_milliseconds_on_both_sides_of_the_epoch() {
    for ms in [0, 1, 999, 1000, 1_764_000_000_123, -1, -1000, -1001, 253_402_300_799_999] {
        let wire = convert::timestamp(Timestamp(ms));
        assert!((0..1_000_000_000).contains(&wire.nanos), "{wire:?}");
        assert_eq!(convert::core_timestamp(&wire), Some(Timestamp(ms)));
    }
    assert_eq!(convert::timestamp(Timestamp(-1)), prost_types::Timestamp { seconds: -1, nanos: 999_000_000 });
    for (seconds, nanos) in [(0, 1_000_000_000), (0, -1), (i64::MAX, 0)] {
        assert_eq!(convert::core_timestamp(&prost_types::Timestamp { seconds, nanos }), None);
    }
}

#[test]
fn an_identity_report_on_the_wire() {
    let at = Timestamp::from_secs;
    let report = IdentityReport {
        id: "spiffe://example.org/ns/dir/sa/apiserver".parse().unwrap(),
        dns_names: vec!["localhost".into()],
        serial: "0a1b".into(),
        not_before: at(10),
        not_after: at(20),
        generation: 3,
        bundles: vec![BundleReport {
            trust_domain: "example.org".parse().unwrap(),
            source: "workload_api".into(),
            authorities: 2,
            updated_at: at(11),
            earliest_expiry: None,
        }],
    };
    let wire = convert::identity_response(Some(&report), "1.2.3", at(15));
    assert_eq!((wire.version.as_str(), wire.now), ("1.2.3", Some(convert::timestamp(at(15)))));
    assert_eq!(wire.spiffe_id, "spiffe://example.org/ns/dir/sa/apiserver");
    assert_eq!(wire.trust_domain, "example.org");
    assert_eq!((wire.dns_names, wire.svid_serial), (vec!["localhost".to_owned()], "0a1b".to_owned()));
    assert_eq!(wire.svid_not_after, Some(convert::timestamp(at(20))));
    assert_eq!(wire.generation, 3);
    assert_eq!((wire.bundles[0].authorities, wire.bundles[0].earliest_expiry), (2, None));

    let none = convert::identity_response(None, "1.2.3", at(15));
    assert!(none.spiffe_id.is_empty() && none.svid_not_after.is_none() && none.bundles.is_empty());
}
