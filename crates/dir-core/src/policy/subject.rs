//! Who a rule is about: patterns over trust domains and over the paths of SPIFFE IDs.

use super::kinds::{ClaimsPattern, OidcPattern};
use crate::identity::{Principal, RoleClaims, SpiffeId, TrustDomain};
use regex::{Regex, RegexBuilder};
use std::fmt;

/// Longest pattern of a policy, in bytes: that of the longest SPIFFE ID.
pub const PATTERN_MAX: usize = 2048;
/// Largest compiled regular expression, in bytes.
const REGEX_MAX: usize = 1 << 20;

/// A pattern over trust domains. Always about the whole name.
#[derive(Debug, Clone)]
pub(crate) enum DomainPattern {
    /// `*`.
    Any,
    /// One name.
    Exact(TrustDomain),
    /// Labels from left to right; `None` is a `*`, one whole label.
    Labels(Vec<Option<String>>),
    /// `re:`, as written and as compiled.
    Regex(String, Regex),
}

/// What was noticed while a pattern was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noticed {
    LowerCased,
    InferredRegex,
}

const FORMS: &str =
    "write a trust domain, `*`, `*.example.org` (one whole label) or `re:` and a regular expression";

impl DomainPattern {
    /// Reads the trust domain column. `infer` takes what looks like a regular expression as one.
    pub(crate) fn parse(text: &str, infer: bool) -> Result<(Self, Vec<Noticed>), String> {
        if text.len() > PATTERN_MAX {
            return Err(format!("the trust domain pattern has more than {PATTERN_MAX} bytes"));
        }
        if let Some(inner) = text.strip_prefix("re:") {
            return Ok((Self::Regex(inner.to_owned(), whole(inner)?), Vec::new()));
        }
        if text == "*" {
            return Ok((Self::Any, Vec::new()));
        }
        if let Some(odd) = text.chars().find(|c| "\\()[]{}|+?^$".contains(*c)) {
            let compiled = whole(text);
            if infer {
                return Ok((Self::Regex(text.to_owned(), compiled?), vec![Noticed::InferredRegex]));
            }
            return Err(match compiled {
                Ok(_) => format!(
                    "trust domain pattern \"{text}\": '{odd}' belongs to a regular expression; if this is one, write `re:{text}`"
                ),
                Err(why) => format!("trust domain pattern \"{text}\": {why}"),
            });
        }
        let lower = text.to_ascii_lowercase();
        let noticed = if lower == text { Vec::new() } else { vec![Noticed::LowerCased] };
        if lower.contains('*') {
            return Ok((Self::Labels(labels(&lower)?), noticed));
        }
        match lower.parse() {
            Ok(domain) => Ok((Self::Exact(domain), noticed)),
            Err(why) => Err(format!("trust domain pattern \"{text}\": {why}; {FORMS}")),
        }
    }

    pub(crate) fn matches(&self, domain: &TrustDomain) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => own == domain,
            Self::Labels(labels) => {
                let mut parts = domain.as_str().split('.');
                labels.iter().all(|label| match (label, parts.next()) {
                    (Some(label), Some(part)) => label == part,
                    (None, Some(part)) => !part.is_empty(),
                    (_, None) => false,
                }) && parts.next().is_none()
            }
            Self::Regex(_, regex) => regex.is_match(domain.as_str()),
        }
    }

    /// Whether everything that `other` matches is matched here; `false` when that cannot be told.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(domain)) => self.matches(domain),
            (Self::Labels(a), Self::Labels(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_none() || a == b)
            }
            (Self::Regex(a, _), Self::Regex(b, _)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(domain) => f.write_str(domain.as_str()),
            Self::Labels(labels) => {
                let spelled: Vec<&str> = labels.iter().map(|l| l.as_deref().unwrap_or("*")).collect();
                f.write_str(&spelled.join("."))
            }
            Self::Regex(text, _) => write!(f, "re:{text}"),
        }
    }
}

fn labels(text: &str) -> Result<Vec<Option<String>>, String> {
    let good = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    text.split('.')
        .map(|label| match label {
            "*" => Ok(None),
            "" => Err(format!("trust domain pattern \"{text}\" has an empty label; {FORMS}")),
            label if label.contains('*') => {
                Err(format!("trust domain pattern \"{text}\": `*` stands for one whole label; {FORMS}"))
            }
            label if good(label) => Ok(Some(label.to_owned())),
            _ => Err(format!("trust domain pattern \"{text}\": a label has a-z, 0-9, '-' and '_'; {FORMS}")),
        })
        .collect()
}

/// A regular expression over the whole name. It has to be one by itself: otherwise `a)|(b` would escape the anchors.
fn whole(inner: &str) -> Result<Regex, String> {
    if inner.is_empty() {
        return Err("an empty regular expression".to_owned());
    }
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_MAX).build();
    build(inner)
        .and_then(|_| build(&format!("^(?:{inner})$")))
        .map_err(|why| format!("\"{inner}\" is no regular expression: {}", last_line(&why.to_string())))
}

/// The cause in an error text of several lines with a picture.
pub(crate) fn last_line(text: &str) -> &str {
    text.lines().last().map_or(text, |line| line.trim_start_matches("error: ").trim())
}

/// A pattern over the path of a SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathPattern {
    /// Every path.
    Any,
    /// Segments from left to right; `None` is a `*`, one whole segment. With `tail` at least one more follows.
    Segments { segments: Vec<Option<String>>, tail: bool },
}

impl PathPattern {
    fn parse(path: &str) -> Result<Self, String> {
        if path == "/**" {
            return Ok(Self::Any);
        }
        let Some(rest) = path.strip_prefix('/') else {
            return Err("a path must follow the trust domain; `/**` is every path".to_owned());
        };
        let (rest, tail) = rest.strip_suffix("/**").map_or((rest, false), |rest| (rest, true));
        let segments = rest.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self::Segments { segments, tail })
    }

    fn matches(&self, path: &str) -> bool {
        let Self::Segments { segments, tail } = self else { return true };
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut parts = path.split('/');
        let all = segments.iter().all(|segment| match (segment, parts.next()) {
            (Some(segment), Some(part)) => segment == part,
            (None, Some(_)) => true,
            (_, None) => false,
        });
        all && parts.next().is_some() == *tail
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Segments { segments: a, tail: at }, Self::Segments { segments: b, tail: bt }) => {
                let fits = if *at { a.len() < b.len() + usize::from(*bt) } else { a.len() == b.len() && !bt };
                fits && a.len() <= b.len() && a.iter().zip(b).all(|(a, b)| a.is_none() || a == b)
            }
        }
    }
}

fn segment(text: &str) -> Result<Option<String>, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match text {
        "*" => Ok(None),
        "**" => Err("`**` stands for the rest of a path, and only at its end".to_owned()),
        "" | "." | ".." => Err("a path has no empty, `.` or `..` segment".to_owned()),
        _ if text.contains('*') => Err(format!("\"{text}\": `*` stands for one whole segment")),
        _ if text.bytes().all(good) => Ok(Some(text.to_owned())),
        _ => Err(format!("\"{text}\": a segment has A-Z, a-z, 0-9, '.', '-' and '_'")),
    }
}

/// Who a rule is about.
#[derive(Debug, Clone)]
pub struct Subject {
    pub(crate) who: Who,
    pub(crate) path: PathPattern,
    text: String,
}

/// Which kind of caller, and of which trust domains.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// SPIFFE IDs of the trust domains of a pattern.
    Domains(DomainPattern),
    /// SPIFFE IDs of every trust domain but this one: class `federated`.
    OtherThan(TrustDomain),
    /// Whom an OIDC provider knows.
    Oidc(OidcPattern),
    /// `anonymous:http`.
    Http,
    /// SPIFFE IDs of a trust domain whose token claims a role. A claim is worth what its trust domain is.
    Claims(TrustDomain, ClaimsPattern),
}

impl Subject {
    pub(crate) fn of_domain(pattern: DomainPattern) -> Self {
        let text = pattern.to_string();
        Self { who: Who::Domains(pattern), path: PathPattern::Any, text }
    }

    /// Class `local`: everybody of the own trust domain.
    pub(crate) fn local(own: &TrustDomain) -> Self {
        let who = Who::Domains(DomainPattern::Exact(own.clone()));
        Self { who, path: PathPattern::Any, text: "local".to_owned() }
    }

    /// Class `federated`: everybody else.
    pub(crate) fn federated(own: &TrustDomain) -> Self {
        Self { who: Who::OtherThan(own.clone()), path: PathPattern::Any, text: "federated".to_owned() }
    }

    /// Reads `spiffe://td/ns/*/sa/ci`.
    pub(crate) fn parse_id(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_MAX {
            return Err(format!("the pattern has more than {PATTERN_MAX} bytes"));
        }
        let rest = text.strip_prefix("spiffe://").ok_or("a SPIFFE ID pattern starts with spiffe://")?;
        let (domain, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if domain.starts_with("re:") {
            return Err("regular expressions are for the trust domain column of CSV policies".to_owned());
        }
        let (domain, _) = DomainPattern::parse(domain, false)?;
        let path = PathPattern::parse(path)?;
        Ok(Self { who: Who::Domains(domain), path, text: text.to_owned() })
    }

    /// Reads `oidc:<provider>:…`.
    pub(crate) fn parse_oidc(text: &str) -> Result<Self, String> {
        let who = Who::Oidc(OidcPattern::parse(text)?);
        Ok(Self { who, path: PathPattern::Any, text: text.to_owned() })
    }

    /// Whoever comes over the HTTP gateway.
    pub(crate) fn http() -> Self {
        Self { who: Who::Http, path: PathPattern::Any, text: Principal::Http.as_str().to_owned() }
    }

    /// Reads `org/project/role`, claimed by tokens of this trust domain.
    pub(crate) fn parse_claims(domain: TrustDomain, text: &str) -> Result<Self, String> {
        let pattern = ClaimsPattern::parse(text)?;
        let text = format!("claims {text} of {domain}");
        Ok(Self { who: Who::Claims(domain, pattern), path: PathPattern::Any, text })
    }

    /// Whether this caller is meant.
    pub fn matches(&self, who: &Principal, claims: Option<&RoleClaims>) -> bool {
        match (&self.who, who) {
            (Who::Oidc(pattern), Principal::Oidc(who)) => pattern.matches(who.as_str()),
            (Who::Http, Principal::Http) => true,
            (Who::Claims(domain, pattern), Principal::Spiffe(id)) => {
                id.trust_domain() == domain && claims.is_some_and(|claims| pattern.matches(claims))
            }
            (Who::Domains(_) | Who::OtherThan(_), Principal::Spiffe(id)) => self.matches_id(id),
            _ => false,
        }
    }

    /// As [`Subject::matches`], for what is to be refused: whoever spells an OIDC principal in other letters is
    /// meant too.
    pub(crate) fn matches_to_deny(&self, who: &Principal, claims: Option<&RoleClaims>) -> bool {
        match (&self.who, who) {
            (Who::Oidc(pattern), Principal::Oidc(who)) => pattern.matches_in_any_case(who.as_str()),
            _ => self.matches(who, claims),
        }
    }

    /// Whether a SPIFFE ID is meant by what it is.
    pub(crate) fn matches_id(&self, id: &SpiffeId) -> bool {
        self.matches_domain(id.trust_domain()) && self.path.matches(id.path())
    }

    /// Whether SPIFFE IDs of this trust domain can be meant by what they are.
    pub(crate) fn matches_domain(&self, domain: &TrustDomain) -> bool {
        match &self.who {
            Who::Domains(pattern) => pattern.matches(domain),
            Who::OtherThan(own) => own != domain,
            Who::Oidc(_) | Who::Http | Who::Claims(..) => false,
        }
    }

    /// Whether SPIFFE IDs are meant by what they are, not by what else is known of them.
    pub(crate) fn is_about_ids(&self) -> bool {
        matches!(self.who, Who::Domains(_) | Who::OtherThan(_))
    }

    /// Whether every caller that `other` means is meant here; `false` when that cannot be told.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let domains = match (&self.who, &other.who) {
            (Who::Domains(a), Who::Domains(b)) => a.covers(b),
            (Who::Domains(a), Who::OtherThan(_)) => matches!(a, DomainPattern::Any),
            (Who::OtherThan(own), Who::Domains(DomainPattern::Exact(b))) => own != b,
            (Who::OtherThan(_), Who::Domains(_)) => false,
            (Who::OtherThan(a), Who::OtherThan(b)) => a == b,
            // Everybody of a trust domain, and those of them that claim a role.
            (Who::Domains(a), Who::Claims(domain, _)) => a.matches(domain),
            (Who::OtherThan(own), Who::Claims(domain, _)) => own != domain,
            (Who::Oidc(a), Who::Oidc(b)) => a.covers(b),
            (Who::Http, Who::Http) => true,
            (Who::Claims(a, pattern), Who::Claims(b, other)) => a == b && pattern.covers(other),
            _ => false,
        };
        domains && self.path.covers(&other.path)
    }

    /// The trust domain that is meant by name.
    pub(crate) fn named_domain(&self) -> Option<&TrustDomain> {
        match &self.who {
            Who::Domains(DomainPattern::Exact(domain)) | Who::OtherThan(domain) => Some(domain),
            _ => None,
        }
    }

    /// Whether SPIFFE IDs of one trust domain alone are meant by what they are, or none.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(&self.who, Who::Domains(DomainPattern::Exact(_))) || !self.is_about_ids()
    }

    /// Whether it is about everybody of the trust domains it is about.
    pub(crate) fn is_about_every_path(&self) -> bool {
        self.path == PathPattern::Any
    }

    /// Whether every trust domain that no rule names is treated alike.
    pub(crate) fn is_uniform_for_strangers(&self) -> bool {
        match &self.who {
            Who::Domains(DomainPattern::Any) | Who::OtherThan(_) => self.path == PathPattern::Any,
            // Never about a stranger.
            Who::Domains(DomainPattern::Exact(_)) | Who::Oidc(_) | Who::Http | Who::Claims(..) => true,
            Who::Domains(_) => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
