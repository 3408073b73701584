//! Masks as lengths of runs, in the form of COCO.

use serde::Serialize;

/// A mask as COCO's tools read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunLengths {
    /// Height and width.
    pub size: [usize; 2],
    /// The lengths of runs of 0 and 1 in turn, column by column, in COCO's characters.
    pub counts: String,
}

/// Collects runs of a mask, column by column.
#[derive(Debug, Default)]
pub struct Runs {
    counts: Vec<i64>,
    /// Whether the last run is one of ones.
    is_one: bool,
}

impl Runs {
    /// Begins with no pixel.
    pub fn new() -> Runs {
        Runs { counts: vec![0], is_one: false }
    }

    /// Adds pixels of one kind.
    pub fn add(&mut self, is_one: bool, pixels: usize) {
        if pixels == 0 {
            return;
        }
        if is_one != self.is_one {
            self.counts.push(0);
            self.is_one = is_one;
        }
        if let Some(last) = self.counts.last_mut() {
            *last += pixels as i64;
        }
    }

    /// The mask of this height and width.
    pub fn finish(self, height: usize, width: usize) -> RunLengths {
        let mut text = String::new();
        for (at, count) in self.counts.iter().enumerate() {
            // As in COCO's `rleToString`: the difference to the run before the last, in groups of five bits.
            let mut rest = if at > 2 { count - self.counts[at - 2] } else { *count };
            loop {
                let bits = (rest & 0x1f) as u8;
                rest >>= 5;
                let is_last = if bits & 0x10 != 0 { rest == -1 } else { rest == 0 };
                text.push(char::from(48 + bits + if is_last { 0 } else { 0x20 }));
                if is_last {
                    break;
                }
            }
        }
        RunLengths { size: [height, width], counts: text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_written_as_coco_writes_them() {
        let encode = |counts: &[usize]| {
            let mut runs = Runs::new();
            counts.iter().enumerate().for_each(|(at, count)| runs.add(at % 2 == 1, *count));
            runs.finish(1, counts.iter().sum()).counts
        };
        // By pycocotools: counts [6, 1, 40, 4, 5, 4, 5, 4, 21] of a 9 × 10 mask.
        assert_eq!(encode(&[6, 1, 40, 4, 5, 4, 5, 4, 21]), "61X13mN000`0");
        assert_eq!(encode(&[0, 3]), "03");
    }
}
