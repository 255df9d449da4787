//! What a check found, and whether it is good.

use dir_client::settings::SettingError;
use dir_client::{AuthMode, ClientError};
use dir_core::Timestamp;
use dir_proto::directory::admin::v1::{Bundle, GetIdentityResponse};
use serde::Serialize;
use std::time::Duration;

/// When to warn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thresholds {
    pub(crate) root_expiry: Duration,
    pub(crate) bundle_age: Duration,
    pub(crate) clock_skew: Duration,
}

/// What a server said of its identity. Times are RFC 3339, durations whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// `ok` or `warning`.
    pub(crate) status: &'static str,
    pub(crate) server: String,
    pub(crate) server_version: String,
    pub(crate) server_id: String,
    pub(crate) trust_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_id: Option<String>,
    pub(crate) svid_expires_in_seconds: Option<i64>,
    pub(crate) clock_skew_seconds: Option<i64>,
    pub(crate) bundles: Vec<BundleState>,
    /// The oldest of them.
    pub(crate) oldest_bundle_seconds: Option<i64>,
    /// The first root to expire.
    pub(crate) earliest_root_expiry: Option<String>,
    pub(crate) earliest_root_expiry_in_seconds: Option<i64>,
    pub(crate) warnings: Vec<String>,
}

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BundleState {
    pub(crate) trust_domain: String,
    pub(crate) source: String,
    pub(crate) authorities: u32,
    pub(crate) age_seconds: Option<i64>,
    pub(crate) earliest_expiry: Option<String>,
    pub(crate) earliest_expiry_in_seconds: Option<i64>,
}

type WireTime = prost_types::Timestamp;

impl Report {
    /// Judges an answer. Ages and expiries are measured by the server's clock; `now` is ours.
    pub(crate) fn new(
        server: String,
        mode: AuthMode,
        own_id: Option<String>,
        answer: &GetIdentityResponse,
        now: Timestamp,
        thresholds: &Thresholds,
    ) -> Self {
        let server_now = answer.now.as_ref().map_or(now.secs(), |t| t.seconds);
        let skew = answer.now.as_ref().map(|t| t.seconds - now.secs());
        let bundles: Vec<BundleState> =
            answer.bundles.iter().map(|b| BundleState::new(b, server_now)).collect();
        let earliest = bundles.iter().filter(|b| b.earliest_expiry_in_seconds.is_some());
        let earliest = earliest.min_by_key(|b| b.earliest_expiry_in_seconds);
        let mut report = Self {
            status: "ok",
            server,
            server_version: answer.version.clone(),
            server_id: answer.spiffe_id.clone(),
            trust_domain: answer.trust_domain.clone(),
            own_id,
            svid_expires_in_seconds: answer.svid_not_after.as_ref().map(|t| t.seconds - server_now),
            clock_skew_seconds: skew,
            oldest_bundle_seconds: bundles.iter().filter_map(|b| b.age_seconds).max(),
            earliest_root_expiry: earliest.and_then(|b| b.earliest_expiry.clone()),
            earliest_root_expiry_in_seconds: earliest.and_then(|b| b.earliest_expiry_in_seconds),
            bundles,
            warnings: Vec::new(),
        };
        report.warnings = report.judge(mode, thresholds);
        if !report.warnings.is_empty() {
            report.status = "warning";
        }
        report
    }

    fn judge(&self, mode: AuthMode, thresholds: &Thresholds) -> Vec<String> {
        let mut warnings = Vec::new();
        if mode == AuthMode::Insecure {
            warnings.push("the connection was plaintext: nobody's identity was checked".to_owned());
        }
        if self.server_id.is_empty() {
            warnings.push("the server serves without an identity".to_owned());
        } else if self.bundles.is_empty() {
            warnings.push("the server holds no bundle".to_owned());
        }
        if let Some(left) = self.svid_expires_in_seconds.filter(|left| *left <= 0) {
            warnings.push(format!("the server's SVID expired {} ago", span(-left)));
        }
        if let Some(skew) =
            self.clock_skew_seconds.filter(|s| s.unsigned_abs() > thresholds.clock_skew.as_secs())
        {
            let direction = if skew > 0 { "ahead of" } else { "behind" };
            warnings.push(format!("the server's clock is {} {direction} ours", span(skew.abs())));
        }
        for bundle in &self.bundles {
            warnings.extend(bundle.judge(thresholds));
        }
        warnings
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let id = if self.server_id.is_empty() { "without identity" } else { &self.server_id };
        let held = self.bundles.len();
        let bundles = if held == 1 { "bundle" } else { "bundles" };
        let mut line = format!("federation {}: {} is {id}, {held} {bundles}", self.status, self.server);
        if let Some(age) = self.oldest_bundle_seconds {
            line.push_str(&format!(", oldest {}", span(age)));
        }
        if let (Some(at), Some(left)) = (&self.earliest_root_expiry, self.earliest_root_expiry_in_seconds) {
            line.push_str(&format!(", first root expires {at} (in {})", span(left)));
        }
        if !self.warnings.is_empty() {
            line.push_str(&format!("; {}", self.warnings.join("; ")));
        }
        line
    }

    /// One JSON document, on one line as logs want it.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| format!("{{\"status\":\"failed\",\"error\":\"{e}\"}}"))
    }
}

impl BundleState {
    fn new(bundle: &Bundle, server_now: i64) -> Self {
        let expiry = bundle.earliest_expiry.as_ref();
        Self {
            trust_domain: bundle.trust_domain.clone(),
            source: bundle.source.clone(),
            authorities: bundle.authorities,
            age_seconds: bundle.updated_at.as_ref().map(|t| (server_now - t.seconds).max(0)),
            earliest_expiry: expiry.map(|t: &WireTime| Timestamp::from_secs(t.seconds).rfc3339()),
            earliest_expiry_in_seconds: expiry.map(|t| t.seconds - server_now),
        }
    }

    fn judge(&self, thresholds: &Thresholds) -> Vec<String> {
        let mut warnings = Vec::new();
        let name = &self.trust_domain;
        if self.authorities == 0 {
            warnings.push(format!("the bundle of {name} is empty"));
        }
        // With a successor beside it, a root that ends is rotation at work: SPIRE keeps expired roots for a day.
        match self.earliest_expiry_in_seconds.filter(|_| self.authorities == 1) {
            Some(left) if left <= 0 => warnings.push(format!("a root of {name} expired {} ago", span(-left))),
            Some(left) if left.unsigned_abs() < thresholds.root_expiry.as_secs() => {
                warnings.push(format!("a root of {name} expires in {}", span(left)));
            }
            _ => {}
        }
        if let Some(age) = self.age_seconds.filter(|age| age.unsigned_abs() > thresholds.bundle_age.as_secs())
        {
            warnings.push(format!("the bundle of {name} was last received {} ago", span(age)));
        }
        warnings
    }
}

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// `failed`.
    status: &'static str,
    kind: &'static str,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) next: String,
    /// Where a job can be taken up again.
    #[serde(skip_serializing_if = "String::is_empty")]
    mark: String,
    #[serde(skip)]
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) const fn new(kind: &'static str, message: String, next: String, code: u8) -> Self {
        Self { status: "failed", kind, message, next, mark: String::new(), code }
    }

    /// A job that can be taken up again here.
    pub(crate) fn at(self, mark: &str) -> Self {
        Self { mark: mark.to_owned(), ..self }
    }

    /// What helps is known better.
    pub(crate) fn advised(self, next: &str) -> Self {
        Self { next: next.to_owned(), ..self }
    }

    /// One line for people.
    pub(crate) fn line(&self, what: &str) -> String {
        format!("{what} failed: {} ({})", self.message, self.kind)
    }

    /// One JSON document, on one line as logs want it.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|e| format!("{{\"status\":\"failed\",\"message\":\"{e}\"}}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self {
            status: "failed",
            kind: error.kind().name(),
            message: error.to_string(),
            next: error.next_step().to_owned(),
            mark: String::new(),
            code: error.exit_code(),
        }
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        let code = error.exit_code();
        let kind = if error.is_usage { "usage" } else { "config" };
        Self::new(kind, error.message, error.next, code)
    }
}

/// Seconds as people read them: the largest unit that leaves at least two, or the one below.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> WireTime {
        WireTime { seconds, nanos: 0 }
    }

    fn bundle(name: &str, age: i64, left: i64) -> Bundle {
        Bundle {
            trust_domain: name.into(),
            source: "workload_api".into(),
            authorities: 1,
            updated_at: Some(at(NOW - age)),
            earliest_expiry: Some(at(NOW + left)),
        }
    }

    fn answer(bundles: Vec<Bundle>) -> GetIdentityResponse {
        GetIdentityResponse {
            version: "1.2.3".into(),
            now: Some(at(NOW)),
            spiffe_id: "spiffe://example.org/api".into(),
            trust_domain: "example.org".into(),
            svid_not_after: Some(at(NOW + HOUR)),
            bundles,
            ..GetIdentityResponse::default()
        }
    }

    fn report(answer: &GetIdentityResponse, skew: i64) -> Report {
        let thresholds = Thresholds {
            root_expiry: Duration::from_secs(72 * 3_600),
            bundle_age: Duration::from_secs(24 * 3_600),
            clock_skew: Duration::from_secs(60),
        };
        let now = Timestamp::from_secs(NOW - skew);
        Report::new("api:8888".into(), AuthMode::X509, None, answer, now, &thresholds)
    }

    #[test]
    fn all_is_well() {
        let found = report(
            &answer(vec![bundle("example.org", 300, 80 * HOUR), bundle("b.example", 5, 100 * HOUR)]),
            0,
        );
        assert_eq!((found.status, found.warnings.len()), ("ok", 0));
        assert_eq!(
            found.line(),
            "federation ok: api:8888 is spiffe://example.org/api, 2 bundles, oldest 5 min, first root expires \
             2027-01-18T16:00:00Z (in 3 days)"
        );
        let json: serde_json::Value = serde_json::from_str(&found.json()).unwrap();
        assert_eq!(json["bundles"][1]["trust_domain"], "b.example");
        assert_eq!(json["earliest_root_expiry_in_seconds"], 80 * HOUR);
    }

    #[test]
    fn thresholds_at_their_edges() {
        for (age, left, skew, warnings) in [
            (24 * HOUR, 72 * HOUR, 60, 0),
            (24 * HOUR + 1, 72 * HOUR, 0, 1),
            (0, 72 * HOUR - 1, 0, 1),
            (0, 0, 0, 1),
            (0, 80 * HOUR, 61, 1),
            (0, 80 * HOUR, -61, 1),
            (24 * HOUR + 1, -1, 61, 3),
        ] {
            let found = report(&answer(vec![bundle("example.org", age, left)]), skew);
            assert_eq!(found.warnings.len(), warnings, "{age} {left} {skew}: {:?}", found.warnings);
        }
    }

    #[test]
    fn a_root_with_a_successor_may_end() {
        let rotating = Bundle { authorities: 2, ..bundle("example.org", 0, -HOUR) };
        assert_eq!(report(&answer(vec![rotating]), 0).status, "ok");
        let stuck = bundle("example.org", 0, -HOUR);
        assert_eq!(report(&answer(vec![stuck]), 0).warnings.len(), 1);
    }

    #[test]
    fn what_is_missing_is_warned_of() {
        assert_eq!(report(&answer(vec![]), 0).warnings, ["the server holds no bundle"]);
        let empty = Bundle { authorities: 0, ..bundle("b.example", 0, 80 * HOUR) };
        assert_eq!(report(&answer(vec![empty]), 0).warnings, ["the bundle of b.example is empty"]);
        let nobody = GetIdentityResponse { spiffe_id: String::new(), ..answer(vec![]) };
        assert_eq!(report(&nobody, 0).warnings, ["the server serves without an identity"]);
        let lapsed = GetIdentityResponse {
            svid_not_after: Some(at(NOW - 5)),
            ..answer(vec![bundle("a", 0, 80 * HOUR)])
        };
        assert_eq!(report(&lapsed, 0).warnings, ["the server's SVID expired 5 s ago"]);
    }

    #[test]
    fn spans() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
