//! Roles: names for groups of methods, given to SPIFFE IDs, OIDC principals and to what tokens claim.

use super::RuleEffect;
use super::native::NativeRule;

/// What somebody is to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads and writes.
    Editor,
    /// Reads.
    Viewer,
    /// Reads and writes, and is no person.
    ServiceAccount,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Editor, Role::Viewer, Role::ServiceAccount];

    /// As policies spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Editor => "editor",
            Role::Viewer => "viewer",
            Role::ServiceAccount => "service-account",
        }
    }

    /// The role of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The methods it may call, as a rule spells them.
    pub const fn methods(self) -> &'static [&'static str] {
        match self {
            Role::Admin => &["*"],
            Role::Editor | Role::ServiceAccount => &["@read", "@write"],
            Role::Viewer => &["@read"],
        }
    }
}

/// Who has a role: any of `principals`, and whoever's token claims any of `claims`.
#[derive(Debug, Clone)]
pub struct RoleBinding {
    /// The role.
    pub role: Role,
    /// Line in its file, from 1.
    pub line: Option<usize>,
    /// As those of a rule.
    pub principals: Vec<String>,
    /// `org/project/role`.
    pub claims: Vec<String>,
    /// Whose tokens are believed; `None` is the own trust domain.
    pub trust_domain: Option<String>,
}

impl RoleBinding {
    /// The rule that says the same; `number` counts the bindings from 1.
    pub(super) fn rule(&self, number: usize) -> NativeRule {
        NativeRule {
            id: format!("role-{}-{number}", self.role.as_str()),
            line: self.line,
            effect: RuleEffect::Allow,
            principals: self.principals.clone(),
            methods: self.role.methods().iter().map(|m| (*m).to_owned()).collect(),
            not_after: None,
            limits: None,
            resources: None,
        }
    }
}
