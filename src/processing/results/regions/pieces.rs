//! Connected pixels of a map: pixels above a threshold that touch each other at a side or a corner.

/// The outermost pixels of each piece: for each row of the map that it touches, its first and its last pixel. A point is
/// the column and the row of a pixel. Pieces come in the order of their first pixels, row by row. `mask` has the pixels
/// that count.
pub fn pieces(mask: Vec<bool>, width: usize) -> Pieces {
    Pieces { rest: mask, width, next: 0, open: Vec::new() }
}

/// The pixels above a threshold, row by row. With `dilation`, also those whose neighbour on the left, above or between
/// these is above it.
pub fn mask(map: &[f32], width: usize, threshold: f32, dilation: bool) -> Vec<bool> {
    let mut mask: Vec<bool> = map.iter().map(|value| *value > threshold).collect();
    if dilation {
        // From the end, so that no pixel counts because of one that was added.
        for at in (0..mask.len()).rev() {
            let (x, y) = (at % width, at / width);
            mask[at] |= x > 0 && mask[at - 1];
            mask[at] |= y > 0 && (mask[at - width] || x > 0 && mask[at - width - 1]);
        }
    }
    mask
}

/// Finds one piece after the other.
pub struct Pieces {
    /// Pixels that count and do not belong to a piece that was found.
    rest: Vec<bool>,
    width: usize,
    next: usize,
    /// Pixels of the present piece whose neighbours are still to be looked at.
    open: Vec<usize>,
}

impl Iterator for Pieces {
    type Item = Vec<[i32; 2]>;

    fn next(&mut self) -> Option<Vec<[i32; 2]>> {
        while self.next < self.rest.len() {
            let first = self.next;
            self.next += 1;
            if self.take(first) {
                return Some(self.piece(first));
            }
        }
        None
    }
}

impl Pieces {
    /// Whether a pixel counts and belongs to no piece yet. From then on it belongs to one.
    fn take(&mut self, at: usize) -> bool {
        std::mem::take(&mut self.rest[at])
    }

    fn piece(&mut self, first: usize) -> Vec<[i32; 2]> {
        let (width, height) = (self.width, self.rest.len() / self.width);
        let top = first / width;
        // The first and last column in each row from `top` on. The first pixel is in the highest row.
        let mut ends: Vec<[usize; 2]> = Vec::new();
        self.open.push(first);
        while let Some(at) = self.open.pop() {
            let (x, y) = (at % width, at / width);
            if ends.len() <= y - top {
                ends.resize(y - top + 1, [usize::MAX, 0]);
            }
            let [left, right] = &mut ends[y - top];
            (*left, *right) = ((*left).min(x), (*right).max(x));
            for y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    if self.take(y * width + x) {
                        self.open.push(y * width + x);
                    }
                }
            }
        }
        let rows = ends.iter().enumerate();
        rows.flat_map(|(row, ends)| ends.map(|x| [x as i32, (top + row) as i32])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_touch_at_a_corner_are_one_piece() {
        let map = [
            1.0,
            0.0,
            0.0,
            0.0,
            1.0, //
            0.0,
            1.0,
            0.0,
            0.0,
            1.0, //
            0.0,
            0.0,
            1.0,
            0.0,
            f32::NAN,
        ];
        let found: Vec<_> = pieces(mask(&map, 5, 0.5, false), 5).collect();
        assert_eq!(found[0], [[0, 0], [0, 0], [1, 1], [1, 1], [2, 2], [2, 2]]);
        assert_eq!(found[1], [[4, 0], [4, 0], [4, 1], [4, 1]]);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_piece_that_ends_below_its_other_parts_has_all_its_rows() {
        let map = [
            0.0, 0.0, 1.0, //
            1.0, 0.0, 1.0, //
            1.0, 1.0, 1.0,
        ];
        let found: Vec<_> = pieces(mask(&map, 3, 0.5, false), 3).collect();
        assert_eq!(found, [[[2, 0], [2, 0], [0, 1], [2, 1], [0, 2], [2, 2]]]);
    }

    #[test]
    fn a_dilation_adds_one_pixel_to_the_right_and_below() {
        let map = [
            1.0, 0.0, 0.0, //
            0.0, 0.0, 0.0, //
            0.0, 0.0, 0.0,
        ];
        let known = [true, true, false, true, true, false, false, false, false];
        assert_eq!(mask(&map, 3, 0.5, true), known);
    }
}
