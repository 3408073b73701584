//! Outlines of the places where a field of numbers is positive (marching squares, with linear interpolation).

/// Numbers at the centres of pixels, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub width: usize,
    pub values: Vec<f32>,
}

/// No edge follows.
const NONE: u32 = u32::MAX;

impl Field {
    fn height(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// The number at a column and a row, each counted from 1. Around the field are numbers of the opposite sign, so that
    /// an outline that reaches the border follows the border.
    fn padded(&self, x: usize, y: usize) -> f32 {
        let inside = |at: usize, length: usize| at.clamp(1, length);
        let (column, row) = (inside(x, self.width), inside(y, self.height()));
        let value = self.values[(row - 1) * self.width + column - 1];
        if (column, row) == (x, y) { value } else { -value.abs() }
    }

    /// The outlines, without those of holes. A point counts in pixels: the centre of the first pixel is at 0.5, 0.5.
    pub fn outlines(&self) -> Vec<Vec<[f32; 2]>> {
        if self.values.is_empty() {
            return Vec::new();
        }
        // An edge joins two neighbouring numbers: to the right (even), or down (odd).
        let columns = self.width + 2;
        let edge =
            |x: usize, y: usize, is_down: bool| (((y * columns + x) << 1) + usize::from(is_down)) as u32;
        let mut next = vec![NONE; (columns * (self.height() + 2)) << 1];
        for y in 0..=self.height() {
            for x in 0..=self.width {
                let [a, b, c, d] =
                    [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)].map(|(x, y)| self.padded(x, y));
                let [top, right] = [edge(x, y, false), edge(x + 1, y, true)];
                let [bottom, left] = [edge(x, y + 1, false), edge(x, y, true)];
                let is_joined = a + b + c + d > 0.0;
                // The positive side is on the right of the way from one edge to the next.
                let ways: &[(u32, u32)] = match [a, b, c, d].map(|number| number > 0.0) {
                    [false, false, false, false] | [true, true, true, true] => &[],
                    [true, false, false, false] => &[(top, left)],
                    [false, true, false, false] => &[(right, top)],
                    [false, false, true, false] => &[(bottom, right)],
                    [false, false, false, true] => &[(left, bottom)],
                    [true, true, false, false] => &[(right, left)],
                    [false, true, true, false] => &[(bottom, top)],
                    [false, false, true, true] => &[(left, right)],
                    [true, false, false, true] => &[(top, bottom)],
                    [false, true, true, true] => &[(left, top)],
                    [true, false, true, true] => &[(top, right)],
                    [true, true, false, true] => &[(right, bottom)],
                    [true, true, true, false] => &[(bottom, left)],
                    [true, false, true, false] if is_joined => &[(top, right), (bottom, left)],
                    [true, false, true, false] => &[(top, left), (bottom, right)],
                    [false, true, false, true] if is_joined => &[(right, bottom), (left, top)],
                    [false, true, false, true] => &[(right, top), (left, bottom)],
                };
                ways.iter().for_each(|(from, to)| next[*from as usize] = *to);
            }
        }
        let mut outlines = Vec::new();
        for first in 0..next.len() {
            let mut outline = Vec::new();
            let mut at = first;
            while next[at] != NONE {
                outline.push(self.crossing(at, columns));
                at = std::mem::replace(&mut next[at], NONE) as usize;
            }
            if area(&outline) > 0.0 {
                outlines.push(outline);
            }
        }
        outlines
    }

    /// The place on an edge where the numbers change their sign.
    fn crossing(&self, edge: usize, columns: usize) -> [f32; 2] {
        let (x, y) = ((edge >> 1) % columns, (edge >> 1) / columns);
        let is_down = edge & 1 == 1;
        let from = self.padded(x, y);
        let to = if is_down { self.padded(x, y + 1) } else { self.padded(x + 1, y) };
        let part = if from == to { 0.5 } else { from / (from - to) };
        let [x, y] = [x, y].map(|at| at as f32 - 0.5);
        if is_down { [x, y + part] } else { [x + part, y] }
    }
}

/// The area of a polygon: positive when its points go round clockwise as one sees an image, as those of outlines do.
pub fn area(polygon: &[[f32; 2]]) -> f32 {
    let next = polygon.iter().cycle().skip(1);
    let sum: f64 = polygon
        .iter()
        .zip(next)
        .map(|(a, b)| f64::from(a[0]) * f64::from(b[1]) - f64::from(a[1]) * f64::from(b[0]))
        .sum();
    (sum / 2.0) as f32
}

/// The part of a polygon that lies in a rectangle (Sutherland and Hodgman, 1974).
pub fn clipped(mut polygon: Vec<[f32; 2]>, [left, top, right, bottom]: [f32; 4]) -> Vec<[f32; 2]> {
    for (axis, limit, sign) in [(0, left, 1.0), (1, top, 1.0), (0, right, -1.0), (1, bottom, -1.0)] {
        let depth = |point: &[f32; 2]| (point[axis] - limit) * sign;
        let mut kept = Vec::with_capacity(polygon.len());
        for (at, to) in polygon.iter().enumerate() {
            let from = &polygon[(at + polygon.len() - 1) % polygon.len()];
            let (before, now) = (depth(from), depth(to));
            if (before < 0.0) != (now < 0.0) {
                let part = before / (before - now);
                let mut point = [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * part);
                point[axis] = limit;
                kept.push(point);
            }
            if now >= 0.0 {
                kept.push(*to);
            }
        }
        polygon = kept;
    }
    polygon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(rows: &[&str]) -> Field {
        let values =
            rows.iter().flat_map(|row| row.chars().map(|level| if level == '#' { 1.0 } else { -1.0 }));
        Field { width: rows[0].len(), values: values.collect() }
    }

    #[test]
    fn an_outline_lies_half_way_between_the_pixels_inside_and_outside() {
        let outlines = field(&["....", ".##.", ".##.", "...."]).outlines();
        assert_eq!(outlines.len(), 1);
        // A square of 2 × 2 whose four corners are cut off by half a pixel.
        assert_eq!((outlines[0].len(), area(&outlines[0])), (8, 3.5));
        assert!(outlines[0].iter().all(|[x, y]| (1.0..=3.0).contains(x) && (1.0..=3.0).contains(y)));
    }

    #[test]
    fn an_outline_that_reaches_the_border_follows_the_border() {
        let outlines = field(&["##", "##"]).outlines();
        assert_eq!(outlines.len(), 1);
        assert!(outlines[0].iter().flatten().all(|side| (0.0..=2.0).contains(side)), "{outlines:?}");
        assert_eq!(area(&outlines[0]), 3.5);
    }

    #[test]
    fn pieces_have_outlines_of_their_own_and_holes_have_none() {
        assert_eq!(field(&["#..#", "....", "#..#"]).outlines().len(), 4);
        assert_eq!(field(&["###", "#.#", "###"]).outlines().len(), 1);
        assert_eq!(field(&["...", "...", "..."]).outlines().len(), 0);
        assert_eq!(field(&["#.", ".#"]).outlines().len(), 2, "pixels that touch at a corner");
    }

    #[test]
    fn a_polygon_is_cut_at_a_rectangle() {
        let square = vec![[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]];
        let cut = clipped(square.clone(), [1.0, -1.0, 3.0, 2.0]);
        assert_eq!(area(&cut), 4.0);
        assert!(clipped(square, [5.0, 5.0, 6.0, 6.0]).is_empty());
    }
}
