//! Gathers the numbers under the taps of a convolution, for a few places of its result.

use super::{AXES, Axis};
use crate::simd::Simd;

/// How many channels ahead numbers are asked for.
const AHEAD: usize = 4;

/// A plane of the input, whose last axis may be split by the stride: `[depth, height, stride, width ÷ stride]`. So the
/// numbers that neighbouring places have under one tap are neighbours too.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a, T> {
    numbers: &'a [T],
    /// The numbers of a plane.
    size: usize,
    /// The numbers of a row with one remainder by the stride.
    pub width: usize,
}

/// The numbers of the planes that are made for an input of this length.
pub fn split(axes: &[Axis; AXES], input: usize) -> usize {
    match &axes[AXES - 1] {
        row if row.stride == 1 || row.input == 0 => 0,
        row => (input / row.input).saturating_mul(row.input.next_multiple_of(row.stride)),
    }
}

impl<'a, T: Copy + Default> Planes<'a, T> {
    /// The planes of an input. They are made in `buffer` if the last axis has a stride.
    #[inline(always)]
    pub fn new(axes: &[Axis; AXES], input: &'a [T], buffer: &'a mut Vec<T>) -> Planes<'a, T> {
        let [depth, height, row] = axes;
        let size: usize = depth.input * height.input * row.input;
        if row.stride == 1 {
            return Planes { numbers: input, size, width: row.input };
        }
        let width = row.input.div_ceil(row.stride);
        let split = width * row.stride;
        buffer.clear();
        buffer.resize(input.len() / row.input * split, T::default());
        let lines = buffer.chunks_exact_mut(split).zip(input.chunks_exact(row.input));
        for (line, (to, from)) in lines.enumerate() {
            if !is_read(height, line % height.input) {
                continue;
            }
            for (phase, to) in
                to.chunks_exact_mut(width).enumerate().filter(|(phase, _)| is_read(row, *phase))
            {
                every(row.stride, from.get(phase..).unwrap_or_default(), to);
            }
        }
        Planes { numbers: buffer, size: depth.input * height.input * split, width }
    }
}

#[cfg(target_arch = "x86_64")]
impl<T> Planes<'_, T> {
    /// The plane of a channel.
    #[inline(always)]
    pub fn plane(&self, channel: usize) -> &[T] {
        &self.numbers[channel * self.size..][..self.size]
    }
}

/// Whether a place of the input, or one that is some strides behind it, is under a tap of a window.
fn is_read(axis: &Axis, place: usize) -> bool {
    let stride = axis.stride as isize;
    let shifted = (place + axis.before) as isize;
    (0..axis.kernel).any(|tap| (shifted - (tap * axis.dilation) as isize).rem_euclid(stride) == 0)
}

/// Copies the first number of `from`, and then one each stride.
#[inline(always)]
pub fn every<T: Copy>(stride: usize, from: &[T], to: &mut [T]) {
    // With a stride that it knows, the compiler makes code for vectors.
    if stride == 2 {
        let pairs = from.as_chunks::<2>().0;
        to.iter_mut().zip(pairs).for_each(|(to, [first, _])| *to = *first);
        if let (Some(to), Some(last)) = (to.get_mut(pairs.len()), from.get(2 * pairs.len())) {
            *to = *last;
        }
    } else {
        to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
    }
}

/// Numbers of a plane that are copied together.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The place among those of the tile.
    pub to: usize,
    /// The place in the plane.
    pub from: usize,
    pub count: usize,
}

/// For each tap, the spans of a tile. What no span covers is padding.
#[derive(Debug, Default)]
pub struct Spans {
    spans: Vec<Span>,
    /// For each tap, where its spans end, and whether they cover the tile.
    taps: Vec<(usize, bool)>,
}

impl Spans {
    /// The spans of a tap.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn of_tap(&self, tap: usize) -> &[Span] {
        let first = tap.checked_sub(1).map_or(0, |before| self.taps[before].0);
        &self.spans[first..self.taps[tap].0]
    }

    /// Finds the spans of the places from `first` to `first + count`.
    pub fn find(&mut self, axes: &[Axis; AXES], width: usize, first: usize, count: usize) {
        let [depth, height, row] = axes;
        self.spans.clear();
        self.taps.clear();
        for tap in 0..depth.kernel * height.kernel * row.kernel {
            let (tap_row, x) = (tap / row.kernel, tap % row.kernel);
            let (z, y) = (tap_row / height.kernel, tap_row % height.kernel);
            // The place of the first window's number in its row, which is `shift · stride + phase`.
            let place = (x * row.dilation) as isize - row.before as isize;
            let (shift, phase) =
                (place.div_euclid(row.stride as isize), place.rem_euclid(row.stride as isize) as usize);
            let in_phase = row.input.saturating_sub(phase).div_ceil(row.stride);
            let mut covered = 0;
            let mut at = 0;
            while at < count {
                let here = first + at;
                let (line, start) = (here / row.output, here % row.output);
                let length = (row.output - start).min(count - at);
                let slice = source(depth, z, line / height.output);
                let source = slice.zip(source(height, y, line % height.output));
                if let Some((slice, line)) = source {
                    let begin = (-shift - start as isize).clamp(0, length as isize) as usize;
                    let end = (in_phase as isize - shift - start as isize)
                        .clamp(begin as isize, length as isize) as usize;
                    if begin < end {
                        let from = ((slice * height.input + line) * row.stride + phase) * width;
                        let from = from + (start as isize + begin as isize + shift) as usize;
                        self.spans.push(Span { to: at + begin, from, count: end - begin });
                        covered += end - begin;
                    }
                }
                at += length;
            }
            self.taps.push((self.spans.len(), covered == count));
        }
    }
}

/// The place of the input under a tap for a window of an axis; `None` for padding.
pub fn source(axis: &Axis, tap: usize, window: usize) -> Option<usize> {
    (window * axis.stride + tap * axis.dilation).checked_sub(axis.before).filter(|place| *place < axis.input)
}

/// Writes a tile: for each channel and each tap, `width` numbers, of which those behind the places of the tile are 0 or
/// of no meaning. `to` has room for one more vector behind them.
///
/// # Safety
/// `spans` are those of these planes, and of no more than `width` places, which is a multiple of the lanes.
#[inline(always)]
pub unsafe fn tile<V: Simd>(
    planes: &Planes<f32>,
    channels: std::ops::Range<usize>,
    spans: &Spans,
    width: usize,
    to: &mut [f32],
) {
    let count = channels.len() * spans.taps.len() * width;
    assert!(to.len() >= count + V::LANES && planes.numbers.len() >= channels.end * planes.size);
    let mut to = to.as_mut_ptr();
    for channel in channels {
        let mut first = 0;
        // SAFETY: the plane of this channel is inside the numbers, by the assertion.
        let plane = unsafe { planes.numbers.as_ptr().add(channel * planes.size) };
        for (end, is_covered) in &spans.taps {
            // SAFETY: a span is inside a plane, and its places are below `width`. The last vector of a span may reach one
            // vector behind the numbers of this tap; these are written later, or are the room at the end.
            unsafe {
                if !is_covered {
                    for at in (0..width).step_by(V::LANES) {
                        V::splat(0.0).store(to.add(at));
                    }
                }
                for span in &spans.spans[first..*end] {
                    let (from, to) = (plane.add(span.from), to.add(span.to));
                    // Large inputs are not in the first cache, and the spans are too short for the processor to see
                    // what comes next.
                    V::prefetch(from.wrapping_add(AHEAD * planes.size));
                    let mut at = 0;
                    while at + V::LANES <= span.count {
                        V::load(from.add(at)).store(to.add(at));
                        at += V::LANES;
                    }
                    if at < span.count {
                        V::load_first(from.add(at), span.count - at).store(to.add(at));
                    }
                }
                to = to.add(width);
            }
            first = *end;
        }
    }
}
