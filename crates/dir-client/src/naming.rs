//! Names: which records a name stands for.

use crate::client::Client;
use crate::error::{ClientError, Kind};
use dir_core::Cid;
use dir_proto::agntcy::dir::naming::v1::{ResolveRequest, ResolveResponse};

/// Requests and answers of both packages are the same message; servers up to v1.7 of the API know the older one alone,
/// servers of v1.8 perhaps only the newer.
const RESOLVE: [&str; 2] =
    ["/agntcy.dir.identity.v1.IdentityService/Resolve", "/agntcy.dir.naming.v1.NamingService/Resolve"];

/// A record of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name, as stored.
    pub name: String,
    /// The version, as stored.
    pub version: String,
    /// The record.
    pub cid: Cid,
}

impl Client {
    /// The records of a name, last entered into the index first; with a version, those of that version. Never empty:
    /// a name without records is [`Kind::NotFound`].
    pub async fn resolve(&self, name: &str, version: Option<&str>) -> Result<Vec<Named>, ClientError> {
        let request = ResolveRequest { name: name.to_owned(), version: version.map(str::to_owned) };
        let mut path = RESOLVE[0];
        let answer: ResolveResponse = match self.unary(path, &request).await {
            Err(error) if error.kind() == Kind::VersionSkew => {
                path = RESOLVE[1];
                self.unary(path, &request).await?
            }
            answered => answered?,
        };
        let named = answer.records.into_iter().map(|found| {
            let cid = found.cid.parse().map_err(|e| self.garbled(path, &format!("{:?}: {e}", found.cid)))?;
            Ok(Named { name: found.name, version: found.version, cid })
        });
        named.collect()
    }
}
