//! Where an element of the output lies on an axis of the input, and with which weights the elements around it count.

/// How elements of the input become one of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// One of them.
    Nearest(Nearest),
    /// The two around it, or all below a triangle when `antialias` is true and the output is smaller.
    Linear { antialias: bool, exclude_outside: bool },
    /// The four around it by a cubic with the coefficient `a`, or more with `antialias`.
    Cubic { a: f64, antialias: bool, exclude_outside: bool },
}

/// Which element is the nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// The rule before opset 11: ceil when the output is smaller, else floor.
    Simple,
}

/// How a place in the output becomes one in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// A part of the input; outside of the input is the extrapolation value.
    CropAndResize,
    /// Only in opset 11.
    HalfPixelForNearest,
}

/// An axis that is resized.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The length in the input, above 0.
    pub input: usize,
    /// The length in the output.
    pub output: usize,
    pub scale: f64,
    /// The part of the input, for [`Coordinates::CropAndResize`].
    pub region: (f64, f64),
    pub coordinates: Coordinates,
}

impl Line {
    /// True when the axis stays as it is.
    pub fn is_same(&self) -> bool {
        (self.scale - 1.0).abs() <= 1e-9 && self.input == self.output && self.region == (0.0, 1.0)
    }

    /// The place in the input. `None` outside of the input, where the extrapolation value counts.
    fn place(&self, at: usize) -> Option<f64> {
        let (at, last) = (at as f64, self.input as f64 - 1.0);
        let width = self.scale * self.input as f64;
        let half_pixel = (at + 0.5) / self.scale - 0.5;
        Some(match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelForNearest => half_pixel + 0.5,
            Coordinates::PytorchHalfPixel if width == 1.0 => -0.5,
            Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = self.output as f64 / width;
                self.input as f64 / 2.0 * (1.0 - adjustment) + (at + 0.5) / self.scale - 0.5
            }
            Coordinates::AlignCorners if width == 1.0 => 0.0,
            Coordinates::AlignCorners => at * last / (width - 1.0),
            Coordinates::Asymmetric => at / self.scale,
            Coordinates::CropAndResize => {
                let (start, end) = self.region;
                let inside = match width == 1.0 {
                    true => (end - start) * last / 2.0,
                    false => at * (end - start) * last / (width - 1.0),
                };
                let place = inside + start * last;
                return (0.0..=last).contains(&place).then_some(place);
            }
        })
    }

    /// The nearest element of the input. `None` for the extrapolation value.
    pub fn nearest(&self, at: usize, nearest: Nearest) -> Option<usize> {
        let place = self.place(at)?;
        let rounded = match nearest {
            Nearest::RoundPreferFloor if place - place.floor() <= 0.5 => place.floor(),
            Nearest::RoundPreferCeil if place - place.floor() < 0.5 => place.floor(),
            Nearest::Floor => place.floor(),
            Nearest::Simple if self.scale >= 1.0 => place.floor(),
            _ => place.ceil(),
        };
        // A float below 0 becomes 0.
        Some((rounded as usize).min(self.input - 1))
    }
}

/// The elements of the input that count for each element of the output.
#[derive(Debug)]
pub struct Windows {
    /// How many elements count.
    pub width: usize,
    /// For each element of the output, the places of `width` elements.
    pub places: Vec<usize>,
    /// Their weights.
    pub weights: Vec<f64>,
    /// The elements of the output that get the extrapolation value.
    pub outside: Vec<usize>,
}

impl Windows {
    /// Computes the windows of an axis. The method is not [`Method::Nearest`].
    pub fn of(line: &Line, method: &Method) -> Windows {
        let mut windows = Windows { width: 0, places: Vec::new(), weights: Vec::new(), outside: Vec::new() };
        for at in 0..line.output {
            let place = line.place(at).unwrap_or_else(|| {
                windows.outside.push(at);
                0.0
            });
            windows.push(line, method, place);
        }
        windows
    }

    fn push(&mut self, line: &Line, method: &Method, place: f64) {
        let floor = place.floor();
        // The element to the left is preferred: the share of the right one is above 0.
        let is_whole = place == floor;
        let share = if is_whole { 1.0 } else { place - floor };
        let mut weights = weights(method, share, line.scale);
        self.width = weights.len();
        let half = self.width as i64 / 2;
        let first = floor as i64 - half + i64::from(!is_whole);
        let is_outside = |at: usize| !(0..line.input as i64).contains(&(first + at as i64));
        let (Method::Linear { exclude_outside, .. } | Method::Cubic { exclude_outside, .. }) = method else {
            return;
        };
        if *exclude_outside {
            (0..weights.len()).filter(|at| is_outside(*at)).for_each(|at| weights[at] = 0.0);
            divide_by_sum(&mut weights);
        }
        let places = (0..self.width as i64).map(|at| (first + at).clamp(0, line.input as i64 - 1) as usize);
        self.places.extend(places);
        self.weights.extend(weights);
    }
}

fn divide_by_sum(weights: &mut [f64]) {
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
}

/// The weights of the elements around a place. `share` is its distance from the element to the left.
fn weights(method: &Method, share: f64, scale: f64) -> Vec<f64> {
    match *method {
        Method::Nearest(_) => Vec::new(),
        Method::Linear { antialias: false, .. } => vec![1.0 - share, share],
        Method::Linear { antialias: true, .. } => {
            wide(1.0, share, scale, |distance| (1.0 - distance).clamp(0.0, 1.0))
        }
        Method::Cubic { a, antialias: false, .. } => {
            [share + 1.0, share, 1.0 - share, 2.0 - share].map(|distance| cubic(a, distance)).to_vec()
        }
        Method::Cubic { a, antialias: true, .. } => wide(2.0, share, scale, |distance| cubic(a, distance)),
    }
}

/// The weights of a kernel that is stretched when the output is smaller. `radius` is its half width at scale 1.
fn wide(radius: f64, share: f64, scale: f64, kernel: impl Fn(f64) -> f64) -> Vec<f64> {
    let scale = scale.min(1.0);
    let first = (-radius / scale).floor() as i64 + 1;
    let weight = |at: i64| kernel((scale * (at as f64 - share)).abs());
    let mut weights: Vec<f64> = (first..2 - first).map(weight).collect();
    divide_by_sum(&mut weights);
    weights
}

/// The cubic convolution kernel.
fn cubic(a: f64, distance: f64) -> f64 {
    let x = distance;
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
