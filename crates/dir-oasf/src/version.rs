//! `schema_version`: three dot-separated parts, and which types it stands for.

/// The types that a record is decoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// OASF 0.7.
    V0_7,
    /// OASF 0.8.
    V0_8,
    /// OASF 1.x.
    V1,
}

/// A supported `schema_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The types it stands for.
    pub schema: Schema,
    /// Whether a module may carry an `artifact` in place of `data`: OASF 1.1 and later.
    pub artifacts: bool,
}

/// Why a `schema_version` is not supported. The texts reach clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Starts with `v`.
    #[error(
        "invalid version format: {0} (OASF versions must not have 'v' prefix, expected format: major.minor.patch)"
    )]
    Prefix(String),
    /// Not three parts.
    #[error("invalid version format: {0} (expected exactly 3 parts: major.minor.patch)")]
    Parts(String),
    /// Well-formed, and none of ours.
    #[error("unsupported OASF version: {version} (major version {major} not supported)")]
    Unsupported {
        /// The whole text.
        version: String,
        /// Its first part.
        major: String,
    },
}

impl Version {
    /// Reads a `schema_version`.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        if text.starts_with(['v', 'V']) {
            return Err(VersionError::Prefix(text.to_owned()));
        }
        let mut parts = text.split('.');
        let (Some(major), Some(minor), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VersionError::Parts(text.to_owned()));
        };
        let (schema, artifacts) = match (major, minor) {
            ("0", "7") => (Schema::V0_7, false),
            ("0", "8") => (Schema::V0_8, false),
            ("1", minor) => (Schema::V1, minor != "0"),
            _ => {
                return Err(VersionError::Unsupported { version: text.to_owned(), major: major.to_owned() });
            }
        };
        Ok(Self { schema, artifacts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_for_types() {
        let of = |text| Version::parse(text).unwrap();
        assert_eq!(of("0.7.0"), Version { schema: Schema::V0_7, artifacts: false });
        assert_eq!(of("0.8.5"), Version { schema: Schema::V0_8, artifacts: false });
        assert_eq!(of("1.0.0-rc1"), Version { schema: Schema::V1, artifacts: false });
        assert_eq!(of("1.1.0"), Version { schema: Schema::V1, artifacts: true });
    }

    #[test]
    fn other_versions_are_refused_with_their_text() {
        let text = |version| Version::parse(version).unwrap_err().to_string();
        for (version, major) in [("0.6.0", 0), ("0.9.0", 0), ("2.0.0", 2)] {
            let expected =
                format!("unsupported OASF version: {version} (major version {major} not supported)");
            assert_eq!(text(version), expected);
        }
        assert_eq!(
            text("v1.0.0"),
            "invalid version format: v1.0.0 (OASF versions must not have 'v' prefix, expected format: \
             major.minor.patch)"
        );
        assert!(text("V1").contains("'v' prefix"));
        for version in ["", "1", "1.0", "1.0.0-rc.1", "1.0.0.0"] {
            let expected =
                format!("invalid version format: {version} (expected exactly 3 parts: major.minor.patch)");
            assert_eq!(text(version), expected);
        }
    }
}
