//! The workers and threads that run a model.

use serde::Deserialize;

use super::checks::within;

/// Workers of a model: more than the cores of any machine that this server is made for.
const MOST_WORKERS: usize = 1024;
/// Threads of one run.
const MOST_THREADS: usize = 256;

/// Triton's `instance_group`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceGroup {
    /// The workers of this model. Each runs one request (or batch) at a time, with a state of its own. Default: the
    /// number of the machine's cores.
    pub count: Option<usize>,
}

pub(super) fn check(group: &InstanceGroup, intra_op_threads: Option<usize>) -> Result<(), String> {
    if group.count == Some(0) {
        return Err("instance_group.count is 0: a model needs at least one worker".into());
    }
    within("instance_group.count", group.count, 1, MOST_WORKERS)?;
    within("intra_op_threads", intra_op_threads, 0, MOST_THREADS)
}
