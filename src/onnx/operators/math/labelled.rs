//! Tensors whose axes have labels, for `Einsum`.

use tract_onnx::prelude::*;

use super::super::numbers::Number;
use super::equation::Label;
use super::product::add_product;

/// The lengths of labels.
pub struct Lengths(pub Vec<(Label, usize)>);

impl Lengths {
    /// The length of a label; 1 for one that is not there.
    pub fn length(&self, label: Label) -> usize {
        self.0.iter().find(|(known, _)| *known == label).map_or(1, |(_, length)| *length)
    }

    /// The number of elements of axes with these labels.
    fn volume(&self, labels: &[Label]) -> usize {
        labels.iter().map(|label| self.length(*label)).product()
    }
}

/// A tensor whose axes have labels. No label is there twice.
#[derive(Debug)]
pub struct Labelled<T> {
    labels: Vec<Label>,
    lengths: Vec<usize>,
    elements: Vec<T>,
}

impl<T: Number> Labelled<T> {
    /// One element.
    pub fn single(element: T) -> Labelled<T> {
        Labelled { labels: Vec::new(), lengths: Vec::new(), elements: vec![element] }
    }

    /// An operand. Of labels that are repeated it takes the diagonal. An axis of length 1 whose label is longer elsewhere is
    /// left out, because all its elements are the same.
    pub fn of(elements: &[T], shape: &[usize], term: &[Label], lengths: &Lengths) -> Labelled<T> {
        let (mut labels, mut loops): (Vec<Label>, Vec<(usize, usize)>) = (Vec::new(), Vec::new());
        let mut volume = 1;
        for (label, length) in term.iter().zip(shape).rev() {
            if *length == lengths.length(*label) {
                match labels.iter().position(|known| known == label) {
                    Some(at) => loops[at].1 += volume,
                    None => {
                        labels.push(*label);
                        loops.push((*length, volume));
                    }
                }
            }
            volume *= length;
        }
        labels.reverse();
        loops.reverse();
        let elements = if labels.len() == term.len() { elements.to_vec() } else { gather(elements, &loops) };
        Labelled { labels, lengths: loops.into_iter().map(|(length, _)| length).collect(), elements }
    }

    /// The elements in the order of these labels. A label that this tensor does not have is repeated.
    pub fn gathered(&self, labels: &[Label], lengths: &Lengths) -> Vec<T> {
        if self.labels == labels {
            return self.elements.clone();
        }
        let stride = |label: &Label| {
            let at = self.labels.iter().position(|known| known == label);
            at.map_or(0, |at| self.lengths[at + 1..].iter().product())
        };
        let loops: Vec<(usize, usize)> =
            labels.iter().map(|label| (lengths.length(*label), stride(label))).collect();
        gather(&self.elements, &loops)
    }

    fn own_lengths(&self) -> Lengths {
        Lengths(self.labels.iter().copied().zip(self.lengths.iter().copied()).collect())
    }

    /// Sums the labels that are not kept.
    pub fn reduced(self, is_kept: impl Fn(&Label) -> bool) -> Labelled<T> {
        let (kept, summed): (Vec<Label>, Vec<Label>) =
            self.labels.iter().copied().partition(|label| is_kept(label));
        if summed.is_empty() {
            return self;
        }
        let lengths = self.own_lengths();
        let (count, depth) = (lengths.volume(&kept), lengths.volume(&summed));
        let ordered = self.gathered(&[&kept[..], &summed].concat(), &lengths);
        let mut elements = vec![T::ZERO; count];
        add_product(&ordered, &vec![T::ONE; depth], &mut elements, depth, 1);
        Labelled {
            lengths: kept.iter().map(|label| lengths.length(*label)).collect(),
            labels: kept,
            elements,
        }
    }

    /// The product with another operand. Labels that are not needed are summed.
    ///
    /// Errors: the product has more than `most` elements.
    pub fn times(
        self,
        other: Labelled<T>,
        is_needed: impl Fn(&Label) -> bool,
        most: usize,
    ) -> TractResult<Labelled<T>> {
        let of_both: Vec<Label> =
            self.labels.iter().copied().filter(|label| other.labels.contains(label)).collect();
        let is_kept = |label: &Label| is_needed(label) || of_both.contains(label);
        let (left, right) = (self.reduced(is_kept), other.reduced(is_kept));
        let lengths = Lengths([left.own_lengths().0, right.own_lengths().0].concat());
        let (stack, summed): (Vec<Label>, Vec<Label>) =
            of_both.iter().copied().partition(|label| is_needed(label));
        let only = |labels: &[Label]| -> Vec<Label> {
            labels.iter().copied().filter(|label| !of_both.contains(label)).collect()
        };
        let (rows, columns) = (only(&left.labels), only(&right.labels));
        let (m, k, n) = (lengths.volume(&rows), lengths.volume(&summed), lengths.volume(&columns));
        let a = left.gathered(&[&stack[..], &rows, &summed].concat(), &lengths);
        let b = right.gathered(&[&stack[..], &summed, &columns].concat(), &lengths);
        let labels = [&stack[..], &rows, &columns].concat();
        let volume =
            labels.iter().try_fold(1_usize, |volume, label| volume.checked_mul(lengths.length(*label)));
        let Some(volume) = volume.filter(|volume| *volume <= most) else {
            return Err(TractError::msg(format!(
                "the product of some of its operands has more than {most} elements: write it as several nodes"
            )));
        };
        let mut elements = vec![T::ZERO; volume];
        if m * k * n != 0 {
            let factors = a.chunks_exact(m * k).zip(b.chunks_exact(k * n));
            for (to, (a, b)) in elements.chunks_exact_mut(m * n).zip(factors) {
                add_product(a, b, to, k, n);
            }
        }
        Ok(Labelled {
            lengths: labels.iter().map(|label| lengths.length(*label)).collect(),
            labels,
            elements,
        })
    }
}

/// The elements in the order of nested loops with these lengths and strides. The last loop is the innermost one.
fn gather<T: Copy>(elements: &[T], loops: &[(usize, usize)]) -> Vec<T> {
    let count: usize = loops.iter().map(|(length, _)| length).product();
    let mut gathered = Vec::with_capacity(count);
    if count == 0 {
        return gathered;
    }
    let Some((&(length, stride), outer)) = loops.split_last() else { return elements[..1].to_vec() };
    let mut at = vec![0; outer.len()];
    let mut begin = 0;
    loop {
        gathered.extend((0..length).map(|step| elements[begin + step * stride]));
        let mut axis = outer.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return gathered };
            axis = next;
            at[axis] += 1;
            begin += outer[axis].1;
            if at[axis] < outer[axis].0 {
                break;
            }
            begin -= at[axis] * outer[axis].1;
            at[axis] = 0;
        }
    }
}
