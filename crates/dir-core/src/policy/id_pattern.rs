//! Patterns over SPIFFE IDs for those who choose whom to talk to, in the spelling of policies.

use super::subject::Subject;
use crate::identity::SpiffeId;
use std::fmt;
use std::str::FromStr;

/// A pattern over SPIFFE IDs: `spiffe://example.org/ns/*/sa/ci` (`*` is one whole segment), `spiffe://example.org/ns/dir/**`
/// (`**` is the rest of a path, and never empty), `spiffe://*.example.org/**` (`*` is one whole label). Always about the
/// whole ID.
#[derive(Debug, Clone)]
pub struct IdPattern {
    subject: Subject,
    text: String,
}

impl IdPattern {
    /// Whether this ID is meant.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        self.subject.matches_id(id)
    }

    /// The trust domain, where the pattern names one and does not describe several.
    pub fn trust_domain(&self) -> Option<&crate::TrustDomain> {
        self.subject.named_domain()
    }

    /// Whether every workload of the trust domains is meant.
    pub fn is_about_every_path(&self) -> bool {
        self.subject.is_about_every_path()
    }
}

impl FromStr for IdPattern {
    type Err = String;

    /// As policies have it, but a trust domain must be named or described: `*` alone would be every one.
    fn from_str(text: &str) -> Result<Self, String> {
        // A scheme has no case (RFC 3986, section 3.1).
        let rest = text.get(..9).filter(|s| s.eq_ignore_ascii_case("spiffe://")).map(|_| &text[9..]);
        let rest = rest.ok_or("a SPIFFE ID pattern starts with spiffe://")?;
        let (domain, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if domain.split('.').all(|label| label == "*") {
            return Err(format!("\"{text}\": the trust domain must be named; `*` alone would be any"));
        }
        let text = format!("spiffe://{}{path}", domain.to_ascii_lowercase());
        Ok(Self { subject: Subject::parse_id(&text)?, text })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for IdPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for IdPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_ids_and_no_look_alikes() {
        for (pattern, same, look_alikes) in [
            (
                "spiffe://example.org/ns/*/sa/ci",
                &["spiffe://example.org/ns/dir/sa/ci", "SPIFFE://EXAMPLE.org/ns/a.b/sa/ci"][..],
                &[
                    "spiffe://example.org/ns/sa/ci",
                    "spiffe://example.org/ns/a/b/sa/ci",
                    "spiffe://example.org/ns/dir/sa/ci2",
                    "spiffe://example.org/ns/dir/sa/CI",
                    "spiffe://example.org/ns/dir/sa/ci/x",
                    "spiffe://example.org/x/ns/dir/sa/ci",
                    "spiffe://example.org.evil.example/ns/dir/sa/ci",
                    "spiffe://evil-example.org/ns/dir/sa/ci",
                    "spiffe://exampleXorg/ns/dir/sa/ci",
                    "spiffe://sub.example.org/ns/dir/sa/ci",
                ][..],
            ),
            (
                "spiffe://example.org/ns/dir/**",
                &["spiffe://example.org/ns/dir/a", "spiffe://example.org/ns/dir/a/b"],
                &["spiffe://example.org/ns/dir", "spiffe://example.org/ns/dir2/a", "spiffe://example.org"],
            ),
            (
                "spiffe://*.example.org/sa/api",
                &["spiffe://a.example.org/sa/api"],
                &[
                    "spiffe://example.org/sa/api",
                    "spiffe://a.b.example.org/sa/api",
                    "spiffe://a.example.org.evil.example/sa/api",
                    "spiffe://aexample.org/sa/api",
                ],
            ),
            (
                "Spiffe://Example.ORG/sa/api",
                &["spiffe://example.org/sa/api"],
                &["spiffe://example.org/sa/API"],
            ),
        ] {
            let parsed: IdPattern = pattern.parse().unwrap();
            for id in same {
                assert!(parsed.matches(&id.parse().unwrap()), "{pattern} means {id}");
            }
            for id in look_alikes {
                assert!(!parsed.matches(&id.parse().unwrap()), "{pattern} does not mean {id}");
            }
        }
        let every: IdPattern = "spiffe://example.org/**".parse().unwrap();
        assert!(every.is_about_every_path() && every.trust_domain().unwrap().as_str() == "example.org");
        assert!("spiffe://*.example.org/**".parse::<IdPattern>().unwrap().trust_domain().is_none());
    }

    #[test]
    fn what_is_no_pattern() {
        for text in [
            "",
            "example.org/*",
            "https://example.org/*",
            "spiffe://",
            "spiffe:///a",
            "spiffe://*/**",
            "spiffe://*.*/a",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/../a",
            "spiffe://example.org/a*",
            "spiffe://example.org/ns/**/sa",
            "spiffe://ex*mple.org/a",
            "spiffe://re:.*/a",
            "spiffe://example.org/a?b",
            "spiffe://example.org:8888/a",
            "spiffe://user@example.org/a",
            "spiffe://exa mple.org/a",
        ] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
        let long = format!("spiffe://example.org/{}", "a".repeat(super::super::PATTERN_MAX));
        assert!(long.parse::<IdPattern>().is_err());
    }
}
