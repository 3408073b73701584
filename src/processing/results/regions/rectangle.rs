//! The smallest rectangle around points, turned as needed.

/// A rectangle that may be turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rectangle {
    center: [f32; 2],
    /// The direction of its width, of length 1.
    direction: [f32; 2],
    width: f32,
    height: f32,
}

impl Rectangle {
    /// The smallest rectangle around a convex polygon. One of its sides lies on a side of the polygon (Freeman and
    /// Shapira, 1975).
    pub fn around(polygon: &[[i32; 2]]) -> Rectangle {
        let points: Vec<[f32; 2]> = polygon.iter().map(|point| point.map(|number| number as f32)).collect();
        let mut best: Option<Rectangle> = None;
        for (at, from) in points.iter().enumerate() {
            let to = points[(at + 1) % points.len()];
            let (x, y) = (to[0] - from[0], to[1] - from[1]);
            let length = x.hypot(y);
            let direction = if length == 0.0 { [1.0, 0.0] } else { [x / length, y / length] };
            let next = Rectangle::along(direction, &points);
            if best.is_none_or(|best| next.area() < best.area()) {
                best = Some(next);
            }
        }
        best.unwrap_or(Rectangle { center: [0.0; 2], direction: [1.0, 0.0], width: 0.0, height: 0.0 })
    }

    fn along([x, y]: [f32; 2], points: &[[f32; 2]]) -> Rectangle {
        let (mut least, mut most) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for [px, py] in points {
            for (axis, length) in [px * x + py * y, py * x - px * y].into_iter().enumerate() {
                least[axis] = least[axis].min(length);
                most[axis] = most[axis].max(length);
            }
        }
        let [u, v] = [0, 1].map(|axis| (least[axis] + most[axis]) / 2.0);
        Rectangle {
            center: [u * x - v * y, u * y + v * x],
            direction: [x, y],
            width: most[0] - least[0],
            height: most[1] - least[1],
        }
    }

    fn area(&self) -> f32 {
        self.width * self.height
    }

    /// The length of the shorter side.
    pub fn shorter_side(&self) -> f32 {
        self.width.min(self.height)
    }

    /// Moves every side outwards by area × `ratio` ÷ perimeter. A polygon that is moved outwards with round corners has
    /// the same smallest rectangle. As in PP-OCR, the corners are cut to whole pixels before they are moved.
    pub fn unclipped(self, ratio: f32) -> Rectangle {
        let perimeter = 2.0 * (self.width + self.height);
        let distance = if perimeter > 0.0 { self.area() * ratio / perimeter } else { 0.0 };
        // A corner that is a whole number but for rounding stays where it is.
        let corners = self.corners().map(|corner| corner.map(|side| (side + 1e-3).floor() as i32));
        let cut = Rectangle::around(&hull(corners.to_vec()));
        Rectangle { width: cut.width + 2.0 * distance, height: cut.height + 2.0 * distance, ..cut }
    }

    /// The corners: left upper, right upper, right lower, left lower. As in PP-OCR, the two leftmost corners are the
    /// left ones.
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let [x, y] = self.direction;
        let corner = |right: f32, low: f32| {
            let (across, down) = (right * self.width / 2.0, low * self.height / 2.0);
            [self.center[0] + across * x - down * y, self.center[1] + across * y + down * x]
        };
        let mut corners = [corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)];
        corners.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let [mut left, mut right] = [[corners[0], corners[1]], [corners[2], corners[3]]];
        for pair in [&mut left, &mut right] {
            pair.sort_by(|a, b| a[1].total_cmp(&b[1]));
        }
        [left[0], right[0], right[1], left[1]]
    }
}

/// The smallest convex polygon around points (Andrew's monotone chain).
pub fn hull(mut points: Vec<[i32; 2]>) -> Vec<[i32; 2]> {
    points.sort_unstable();
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let chain = |points: &mut dyn Iterator<Item = &[i32; 2]>| {
        let mut chain: Vec<[i32; 2]> = Vec::new();
        for point in points {
            while let [.., a, b] = chain.as_slice()
                && turn(*a, *b, *point) <= 0
            {
                chain.pop();
            }
            chain.push(*point);
        }
        chain.pop();
        chain
    };
    let mut lower = chain(&mut points.iter());
    lower.extend(chain(&mut points.iter().rev()));
    lower
}

/// Positive when the way from `a` over `b` to `c` turns left, and 0 when it is straight.
fn turn(a: [i32; 2], b: [i32; 2], c: [i32; 2]) -> i64 {
    let [ab, ac] = [b, c].map(|point| [0, 1].map(|axis| i64::from(point[axis]) - i64::from(a[axis])));
    ab[0] * ac[1] - ab[1] * ac[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(ours: [[f32; 2]; 4], known: [[f32; 2]; 4]) {
        let pairs = ours.as_flattened().iter().zip(known.as_flattened());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3), "{ours:?} is not {known:?}");
    }

    #[test]
    fn an_upright_rectangle_keeps_its_corners_and_grows_on_every_side() {
        let hull = hull(vec![[2, 3], [12, 3], [12, 7], [2, 7], [5, 5], [7, 3]]);
        assert_eq!(hull.len(), 4);
        let rectangle = Rectangle::around(&hull);
        near(rectangle.corners(), [[2.0, 3.0], [12.0, 3.0], [12.0, 7.0], [2.0, 7.0]]);
        // 40 × 1.4 ÷ 28 = 2 pixels.
        near(rectangle.unclipped(1.4).corners(), [[0.0, 1.0], [14.0, 1.0], [14.0, 9.0], [0.0, 9.0]]);
    }

    #[test]
    fn a_turned_rectangle_is_found() {
        let rectangle = Rectangle::around(&hull(vec![[10, 0], [30, 20], [20, 30], [0, 10]]));
        assert!((rectangle.shorter_side() - 200f32.sqrt()).abs() < 1e-3);
        let corners = rectangle.corners();
        near(corners, [[10.0, 0.0], [30.0, 20.0], [20.0, 30.0], [0.0, 10.0]]);
    }

    #[test]
    fn one_pixel_and_a_row_of_pixels_have_no_area() {
        assert_eq!(Rectangle::around(&hull(vec![[4, 4]])).shorter_side(), 0.0);
        assert_eq!(Rectangle::around(&hull(vec![[4, 4], [9, 4], [6, 4]])).shorter_side(), 0.0);
    }
}
