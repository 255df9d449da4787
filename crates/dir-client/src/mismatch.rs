//! Client and server that do not agree on how callers prove themselves: which setting says what.

use crate::config::{AuthMode, Source};
use crate::discover::wants_token;
use crate::error::{ClientError, Kind};

/// The client's side of the agreement.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(crate) mode: AuthMode,
    pub(crate) source: Source,
    pub(crate) audience: Option<String>,
}

impl Agreed {
    /// The same error with a next step that names the setting, where the modes are what is wrong.
    pub(crate) fn explain(&self, error: ClientError) -> ClientError {
        let Some(advice) = self.advice(&error) else { return error };
        ClientError::new(error.kind(), error.what(), error.cause(), format!("{advice} ({})", self.said()))
    }

    fn advice(&self, error: &ClientError) -> Option<String> {
        let cause = error.cause();
        let plain = self.mode == AuthMode::Insecure;
        match error.kind() {
            Kind::Unauthenticated if wants_token(error) => {
                Some("the server takes JWT-SVIDs: set --auth-mode jwt and --jwt-audience".to_owned())
            }
            Kind::Unauthenticated if self.mode.shows_token() && cause == "invalid or expired token" => {
                let audience = self.audience.as_deref().unwrap_or_default();
                Some(format!(
                    "compare --jwt-audience, which is {audience:?}, with authn.audiences of the server, and both clocks; \
                     dirctl doctor looks at the token"
                ))
            }
            Kind::Unauthenticated if plain => Some(
                "the server wants to know who calls, and listens in plaintext: have its authn.enabled switched on, then set \
                 --auth-mode"
                    .to_owned(),
            ),
            Kind::TlsRefused if cause.contains("CertificateRequired") => {
                Some("the server asks for a certificate: set --auth-mode x509 (SPIFFE), tls or token (files)".to_owned())
            }
            Kind::Protocol if plain && cause.contains("speaks TLS") => Some(error.next_step().to_owned()),
            Kind::Protocol if !plain && cause.contains("does not answer in TLS") => {
                Some(error.next_step().to_owned())
            }
            _ => None,
        }
    }

    fn said(&self) -> String {
        match &self.source {
            Source::Default => format!("no auth mode is set, which is {}", self.mode),
            Source::Server => format!("auth mode {} was learnt from the server", self.mode),
            source => format!("auth mode {} is {source}", self.mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mode: AuthMode, source: Source, kind: Kind, cause: &str) -> String {
        let agreed = Agreed { mode, source, audience: Some("https://dir.example".to_owned()) };
        agreed.explain(ClientError::new(kind, "Push to h", cause, "")).next_step().to_owned()
    }

    #[test]
    fn the_setting_is_named_with_who_said_it() {
        let env = || Source::Env("DIRECTORY_CLIENT_AUTH_MODE");
        let missing = "failed to extract token: missing authorization header";
        for (told, words) in [
            (
                told(AuthMode::X509, env(), Kind::Unauthenticated, missing),
                "set --auth-mode jwt and --jwt-audience (auth mode x509 is from $DIRECTORY_CLIENT_AUTH_MODE)",
            ),
            (
                told(
                    AuthMode::Jwt,
                    Source::Flag("--auth-mode"),
                    Kind::Unauthenticated,
                    "invalid or expired token",
                ),
                "\"https://dir.example\", with authn.audiences",
            ),
            (
                told(
                    AuthMode::Jwt,
                    Source::Profile("prod".into()),
                    Kind::TlsRefused,
                    "the server refused: CertificateRequired",
                ),
                "--auth-mode x509 (SPIFFE), tls or token (files) (auth mode jwt is from profile prod)",
            ),
            (
                told(AuthMode::Insecure, Source::Default, Kind::Unauthenticated, "not authenticated"),
                "authn.enabled",
            ),
            (
                told(
                    AuthMode::Insecure,
                    Source::Default,
                    Kind::Protocol,
                    "the server speaks TLS, this client does not",
                ),
                "(no auth mode is set, which is insecure)",
            ),
        ] {
            assert!(told.contains(words), "{told}");
        }
        // What is no matter of modes stays as it is.
        let other = told(AuthMode::X509, env(), Kind::Unauthenticated, "identity expired");
        assert_eq!(other, ClientError::new(Kind::Unauthenticated, "", "", "").next_step());
    }
}
