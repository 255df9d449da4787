//! What the files of the auth modes tls and token hold, for diagnosis.

use crate::config::{AuthMode, ClientConfig};
use crate::error::ClientError;
use crate::tls;
use dir_identity::{Seen, inspect};
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;

/// What the files of a client hold.
#[derive(Debug, Clone)]
pub struct FileFacts {
    /// The client's certificates, leaf first; none where the mode shows none.
    pub chain: Vec<Seen>,
    /// Authorities by which servers are judged; none where those of the machine count.
    pub authorities: Vec<Seen>,
    /// The file with the private key, where there is one.
    pub key: Option<PathBuf>,
}

fn seen(list: &[CertificateDer<'_>]) -> Vec<Seen> {
    list.iter().filter_map(|der| inspect(der)).collect()
}

impl ClientConfig {
    /// Reads the files of the auth mode; `None` where it has none.
    pub fn file_facts(&self) -> Result<Option<FileFacts>, ClientError> {
        match self.auth_mode {
            AuthMode::Tls => {
                let read = |file: &Option<PathBuf>| match file {
                    Some(path) => tls::certificates(path),
                    None => Ok(Vec::new()),
                };
                let (chain, authorities) = (seen(&read(&self.tls.cert)?), seen(&read(&self.tls.ca)?));
                Ok(Some(FileFacts { chain, authorities, key: self.tls.key.clone() }))
            }
            AuthMode::Token => {
                let parts = tls::token_parts(self.spiffe_token.as_deref())?;
                let (chain, authorities) = (seen(&parts.chain), seen(&parts.roots));
                Ok(Some(FileFacts { chain, authorities, key: self.spiffe_token.clone() }))
            }
            AuthMode::JwtTls => match &self.tls.ca {
                Some(path) => {
                    let authorities = seen(&tls::certificates(path)?);
                    Ok(Some(FileFacts { chain: Vec::new(), authorities, key: None }))
                }
                None => Ok(None),
            },
            AuthMode::Insecure | AuthMode::X509 | AuthMode::Jwt => Ok(None),
        }
    }
}
