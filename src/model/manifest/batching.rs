//! How requests are gathered into batches.

use serde::Deserialize;

use super::checks::within;

/// Rows of a request.
const MOST_ROWS: usize = 1 << 16;
/// One hour, in microseconds.
const MOST_DELAY: u64 = 3_600_000_000;

/// Triton's `dynamic_batching`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicBatching {
    /// The batch sizes in rows, used without measuring. `[1]` turns batches off. Default: the server measures the
    /// powers of two up to `max_batch_size`, and uses those that make a row cheaper.
    pub preferred_batch_size: Option<Vec<usize>>,
    /// How long a request can wait for others to fill its batch, in microseconds. Default: 0.
    pub max_queue_delay_microseconds: u64,
}

impl DynamicBatching {
    /// Checks the section together with `max_batch_size`, which is 0 when `model.json` does not have it.
    pub(super) fn validate(&self, max_batch_size: usize) -> Result<(), String> {
        within("max_batch_size", Some(max_batch_size), 0, MOST_ROWS)?;
        let delay = self.max_queue_delay_microseconds;
        within("dynamic_batching.max_queue_delay_microseconds", Some(delay), 0, MOST_DELAY)?;
        let preferred = self.preferred_batch_size.as_deref().unwrap_or_default();
        if let Some(wrong) = preferred.iter().find(|rows| **rows == 0 || **rows > max_batch_size.max(1)) {
            return Err(format!(
                "dynamic_batching.preferred_batch_size holds {wrong}: a batch has 1 to max_batch_size \
                 ({max_batch_size}) rows"
            ));
        }
        if max_batch_size == 0 && (!preferred.is_empty() || delay > 0) {
            return Err(
                "dynamic_batching needs `max_batch_size`, which says that rows are independent".into()
            );
        }
        Ok(())
    }
}
