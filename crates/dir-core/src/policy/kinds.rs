//! Patterns over callers that are no SPIFFE IDs, and over what tokens claim.

use super::subject::PATTERN_MAX;
use crate::identity::{OidcPrincipal, RoleClaims};

/// A pattern over OIDC principals: the whole text, or one that ends with a `*` within the name of a branch.
#[derive(Debug, Clone)]
pub(crate) struct OidcPattern {
    /// What comes before a `*`.
    text: String,
    /// Whether the rest of a branch name may follow.
    open: bool,
}

impl OidcPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_MAX {
            return Err(format!("the pattern has more than {PATTERN_MAX} bytes"));
        }
        let (head, open) = text.strip_suffix('*').map_or((text, false), |head| (head, true));
        // A branch name goes on with anything: a letter in its place makes a principal of the pattern.
        let whole = if open { format!("{head}x") } else { head.to_owned() };
        if head.contains('*') || (open && !ends_in_branch(head)) {
            return Err("`*` stands only at the end, and only within a branch: \
                        `oidc:github:repo:acme/agents:workflow:ci.yml:ref:refs/heads/release/*`"
                .to_owned());
        }
        whole.parse::<OidcPrincipal>().map_err(|why| why.to_string())?;
        Ok(Self { text: head.to_owned(), open })
    }

    pub(crate) fn matches(&self, who: &str) -> bool {
        self.fits(who, who.get(..self.text.len()) == Some(&self.text))
    }

    /// For what is to be refused: whoever spells himself in other letters is meant too.
    pub(crate) fn matches_in_any_case(&self, who: &str) -> bool {
        self.fits(who, who.get(..self.text.len()).is_some_and(|head| head.eq_ignore_ascii_case(&self.text)))
    }

    fn fits(&self, who: &str, begins: bool) -> bool {
        let rest = who.get(self.text.len()..).unwrap_or_default();
        // Branch names have no colon: what comes behind one says more than the branch.
        begins && if self.open { !rest.is_empty() && !rest.contains(':') } else { rest.is_empty() }
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        if !self.open {
            return !other.open && self.text == other.text;
        }
        other
            .text
            .strip_prefix(&self.text)
            .is_some_and(|rest| !rest.contains(':') && (other.open || !rest.is_empty()))
    }
}

/// Whether a text ends within the branch of a workflow.
fn ends_in_branch(head: &str) -> bool {
    let Some(rest) = head.strip_prefix("oidc:github:repo:") else { return false };
    let Some((repo, rest)) = rest.split_once(":workflow:") else { return false };
    let Some((workflow, branch)) = rest.split_once(":ref:refs/heads/") else { return false };
    !repo.is_empty() && !workflow.is_empty() && !branch.contains(':')
}

/// `org/project/role`; `None` is a `*`, any text (and none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimsPattern {
    org: Option<String>,
    project: Option<String>,
    role: String,
}

impl ClaimsPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [org, project, role] = parts.as_slice() else {
            return Err("claims are written `org/project/role`; `*` is any org or project".to_owned());
        };
        let part = |part: &str| (part != "*").then(|| part.to_owned());
        let plain = |part: &str| if part == "*" { "x".to_owned() } else { part.to_owned() };
        if org.is_empty()
            || project.is_empty()
            || RoleClaims::new(&plain(org), &plain(project), role).is_none()
        {
            return Err("org, project and role are names of visible ASCII; org and project may be `*`, the role may not"
                .to_owned());
        }
        Ok(Self { org: part(org), project: part(project), role: (*role).to_owned() })
    }

    pub(crate) fn matches(&self, claims: &RoleClaims) -> bool {
        self.role == claims.role
            && self.org.as_ref().is_none_or(|org| *org == claims.org)
            && self.project.as_ref().is_none_or(|project| *project == claims.project)
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        let part = |a: &Option<String>, b: &Option<String>| a.is_none() || a == b;
        self.role == other.role && part(&self.org, &other.org) && part(&self.project, &other.project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRANCH: &str = "oidc:github:repo:acme/agents:workflow:ci.yml:ref:refs/heads/";

    #[test]
    fn k_oidc_patterns() {
        for (pattern, who, matches) in [
            ("oidc:google:alice@acme.example", "oidc:google:alice@acme.example", true),
            ("oidc:google:alice@acme.example", "oidc:google:Alice@acme.example", false),
            ("oidc:google:alice", "oidc:google:alice2", false),
            ("oidc:dex:group:writers", "oidc:dex:group:writers", true),
            (&format!("{BRANCH}release/*"), &format!("{BRANCH}release/1.2"), true),
            (&format!("{BRANCH}release/*"), &format!("{BRANCH}release/a/b"), true),
            (&format!("{BRANCH}release/*"), &format!("{BRANCH}release/"), false),
            (&format!("{BRANCH}release/*"), &format!("{BRANCH}main"), false),
            (&format!("{BRANCH}release/*"), &format!("{BRANCH}release/1:env:prod"), false),
            (&format!("{BRANCH}*"), &format!("{BRANCH}main"), true),
            (&format!("{BRANCH}main"), &format!("{BRANCH}main:env:prod"), false),
            (&format!("{BRANCH}main:env:prod"), &format!("{BRANCH}main:env:prod"), true),
        ] {
            assert_eq!(OidcPattern::parse(pattern).unwrap().matches(who), matches, "{pattern} {who}");
        }
        let alice = OidcPattern::parse("oidc:google:alice").unwrap();
        assert!(
            alice.matches_in_any_case("oidc:google:ALICE") && !alice.matches_in_any_case("oidc:google:bob")
        );
    }

    #[test]
    fn k_a_star_is_for_branches_only() {
        for pattern in [
            "oidc:google:*",
            "oidc:*",
            "oidc:dex:group:*",
            "oidc:github:repo:acme/*",
            "oidc:github:repo:acme/agents:workflow:*",
            "oidc:github:repo:acme/agents:workflow:ci.yml:ref:*",
            "oidc:github:repo:acme/agents:workflow:ci.yml:ref:refs/tags/*",
            "oidc:github:repo:acme/agents:workflow:ci.yml:ref:refs/heads/*/x",
            "oidc:github:repo:acme/agents:workflow:ci.yml:ref:refs/heads/main:env:*",
            "oidc:gitlab:repo:acme/agents:workflow:ci.yml:ref:refs/heads/*",
        ] {
            assert!(OidcPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn what_a_pattern_covers() {
        let oidc = |text: &str| OidcPattern::parse(text).unwrap();
        let (all, release) = (oidc(&format!("{BRANCH}*")), oidc(&format!("{BRANCH}release/*")));
        assert!(all.covers(&release) && !release.covers(&all) && release.covers(&release));
        assert!(release.covers(&oidc(&format!("{BRANCH}release/1"))));
        assert!(!all.covers(&oidc(&format!("{BRANCH}main:env:prod"))));
        let claims = |text: &str| ClaimsPattern::parse(text).unwrap();
        assert!(claims("acme/*/editor").covers(&claims("acme/agents/editor")));
        assert!(!claims("acme/agents/editor").covers(&claims("acme/*/editor")));
    }

    #[test]
    fn claims() {
        let token = RoleClaims::new("acme", "agents", "editor").unwrap();
        for (pattern, matches) in [
            ("acme/agents/editor", true),
            ("acme/*/editor", true),
            ("*/*/editor", true),
            ("acme/agents/admin", false),
            ("other/agents/editor", false),
            ("acme/other/editor", false),
        ] {
            assert_eq!(ClaimsPattern::parse(pattern).unwrap().matches(&token), matches, "{pattern}");
        }
        for pattern in
            ["editor", "acme/editor", "acme/agents/*", "acme/agents/", "/agents/editor", "a/b/c/d", "a*/b/c"]
        {
            assert!(ClaimsPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
