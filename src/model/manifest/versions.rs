//! Which versions of a model are served.

use serde::Deserialize;

use super::checks::within;

/// The most versions that `latest` can ask for.
const MOST_VERSIONS: usize = 1 << 16;
/// The highest version number.
const MOST_VERSION: u64 = i64::MAX as u64;

/// Triton's `version_policy`, with another default: all versions are served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum VersionPolicy {
    /// Every version that has a folder.
    All {},
    /// The versions with the highest numbers.
    Latest {
        /// How many versions.
        num_versions: usize,
    },
    /// The versions that are named here.
    Specific {
        /// Version numbers, which are the names of the folders.
        versions: Vec<u64>,
    },
}

impl Default for VersionPolicy {
    fn default() -> Self {
        VersionPolicy::All {}
    }
}

impl VersionPolicy {
    pub(super) fn validate(&self) -> Result<(), String> {
        let nothing = || Err("version_policy lets no version be served: expected at least one".into());
        match self {
            VersionPolicy::All {} => Ok(()),
            VersionPolicy::Latest { num_versions: 0 } => nothing(),
            VersionPolicy::Latest { num_versions } => {
                within("version_policy.latest.num_versions", Some(*num_versions), 1, MOST_VERSIONS)
            }
            VersionPolicy::Specific { versions } if versions.is_empty() => nothing(),
            VersionPolicy::Specific { versions } => {
                let highest = versions.iter().max().copied();
                within("version_policy.specific.versions", highest, 0, MOST_VERSION)
            }
        }
    }
}
