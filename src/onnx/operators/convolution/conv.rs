//! `Conv` and `ConvTranspose`, for the forms that tract does not serve.
//!
//! Both add rows to rows: for each pair of channels and each tap, a row of the input times a weight is added to a row of the
//! result. The transposed convolution does the same with input and result exchanged. This is right for every form, and
//! needs no memory besides the result. It is slower than tract's matrix products, which serve the common forms.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, SymbolScope};

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::transposed::Transposed;
use super::window::{Axis, Window, kernel, rows};
use super::{Built, built, fast, spread};

/// One of the two operators.
#[derive(Debug)]
pub struct Conv {
    window: Window,
    group: usize,
    direction: Direction,
}

/// From which side the windows are seen.
#[derive(Debug)]
enum Direction {
    /// Each window of the input gives an element of the result.
    Forward,
    /// Each element of the input gives a window of the result.
    Transposed(Transposed),
}

/// Builds a `Conv` from its node.
pub fn conv(attributes: &Attributes) -> Built {
    let window = Window::read(attributes)?;
    built(Conv { window, group: group(attributes)?, direction: Direction::Forward })
}

/// Builds a `ConvTranspose` from its node.
pub fn transpose(attributes: &Attributes) -> Built {
    let window = Window::read(attributes)?;
    let direction = Direction::Transposed(Transposed::read(attributes)?);
    built(Conv { window, group: group(attributes)?, direction })
}

/// The attribute `group`.
pub fn group(attributes: &Attributes) -> TractResult<usize> {
    let group = attributes.int("group", 1)?;
    match usize::try_from(group) {
        Ok(group) if group > 0 => Ok(group),
        _ => Err(attributes.wrong(format!("`group` is {group}: expected 1 or more"))),
    }
}

impl Operator for Conv {
    fn name(&self) -> &'static str {
        match self.direction {
            Direction::Forward => "Conv",
            Direction::Transposed(_) => "ConvTranspose",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _late: &LateLengths) -> TractResult<TVec<Kind>> {
        let (input, weights) = (inputs.required(0, "X")?, inputs.required(1, "W")?);
        for (kind, name) in [(Some(input), "X"), (Some(weights), "W"), (inputs.optional(2), "B")] {
            let Some(kind) = kind else { continue };
            expect_float(kind, name)?;
            if kind.datum_type != input.datum_type {
                return Err(TractError::msg(format!(
                    "its input `{name}` is of type {:?}, but `X` is of type {:?}",
                    kind.datum_type, input.datum_type
                )));
            }
        }
        if input.rank() < 3 || weights.rank() != input.rank() {
            return Err(TractError::msg(format!(
                "its input has {} axes and its weights {}: expected 3 or more, and the same number",
                input.rank(),
                weights.rank()
            )));
        }
        self.channels(&input.shape, &weights.shape, inputs.optional(2).map(|bias| &bias.shape[..]))?;
        let kernel = kernel(&self.window, &weights.shape)?;
        let (channels, lengths) = match &self.direction {
            Direction::Forward => {
                (weights.shape[0].clone(), self.window.lengths(&kernel, &input.shape[2..])?)
            }
            Direction::Transposed(transposed) => (
                weights.shape[1].clone() * self.group as i64,
                transposed.lengths(&self.window, &kernel, &input.shape[2..])?,
            ),
        };
        let shape = [input.shape[0].clone(), channels].into_iter().chain(lengths);
        Ok(tvec![Kind::new(input.datum_type, shape)])
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        self.outputs(inputs, &LateLengths::new(SymbolScope::default()))?;
        match &self.direction {
            Direction::Forward => fast::prepared(&self.window, self.group, inputs),
            Direction::Transposed(transposed) if self.group == 1 && transposed.is_plain() => {
                spread::prepared(&self.window, inputs)
            }
            Direction::Transposed(_) => Ok(None),
        }
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        in_reals(inputs, |inputs| self.compute::<f32>(inputs), |inputs| self.compute::<f64>(inputs))
    }
}

impl Conv {
    /// Checks the numbers of channels, as far as they are known.
    fn channels(&self, input: &[TDim], weights: &[TDim], bias: Option<&[TDim]>) -> TractResult<()> {
        let (input, first, second) =
            (input[1].to_usize().ok(), weights[0].to_usize().ok(), weights[1].to_usize().ok());
        let (read, made) = match self.direction {
            Direction::Forward => (second.map(|second| second * self.group), first),
            Direction::Transposed(_) => (first, second.map(|second| second * self.group)),
        };
        if let (Some(input), Some(read)) = (input, read)
            && input != read
        {
            return Err(TractError::msg(format!(
                "its input has {input} channels, but its weights are for {read}"
            )));
        }
        if let Some(first) = first.filter(|first| first % self.group != 0) {
            return Err(TractError::msg(format!(
                "its weights have {first} channels, which is no multiple of `group` {}",
                self.group
            )));
        }
        if let Some(bias) = bias {
            let length = bias.iter().product::<TDim>().to_usize().ok();
            if bias.len() != 1 || (length.is_some() && made.is_some() && length != made) {
                return Err(TractError::msg(format!(
                    "its input `B` has the shape {bias:?}: expected one number for each of the {} channels",
                    made.map_or_else(|| "result's".into(), |made| made.to_string())
                )));
            }
        }
        Ok(())
    }

    fn compute<T: Real>(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let (input, weights) = (inputs.required(0, "X")?, inputs.required(1, "W")?);
        let shape =
            |tensor: &Tensor| -> TVec<TDim> { tensor.shape().iter().map(|length| length.to_dim()).collect() };
        let kernel = kernel(&self.window, &shape(weights))?;
        self.channels(&shape(input), &shape(weights), inputs.optional(2).map(shape).as_deref())?;
        let (axes, made) = match &self.direction {
            Direction::Forward => {
                let axes = self.window.axes(&kernel, &input.shape()[2..])?;
                let made: TVec<usize> = axes.iter().map(|axis| axis.output).collect();
                (axes, made)
            }
            Direction::Transposed(transposed) => {
                let axes = transposed.axes(&self.window, &kernel, &input.shape()[2..])?;
                let made = axes.iter().map(|axis| axis.input).collect();
                (axes, made)
            }
        };
        let is_forward = matches!(self.direction, Direction::Forward);
        let channels = if is_forward { weights.shape()[0] } else { weights.shape()[1] * self.group };
        let mut output = Tensor::zero::<T>(&[&[input.shape()[0], channels], &made[..]].concat())?;
        let planes = Planes {
            steps: Steps::new(&axes, is_forward),
            group: self.group,
            read: input.shape()[1],
            made: channels,
            from: input.shape()[2..].iter().product(),
            to: made.iter().product(),
        };
        let bias = inputs.optional(2).map(elements::<T>).transpose()?;
        planes.add(
            elements(input)?,
            elements(weights)?,
            bias,
            output.try_as_plain_ram_mut()?.as_slice_mut()?,
        );
        Ok(tvec![output])
    }
}

/// The sums over channels.
struct Planes {
    steps: Steps,
    group: usize,
    /// Channels of the input.
    read: usize,
    /// Channels of the result.
    made: usize,
    /// Elements of a plane of the input.
    from: usize,
    /// Elements of a plane of the result.
    to: usize,
}

impl Planes {
    /// Adds the bias and all products to a result of zeros.
    fn add<T: Real>(&self, input: &[T], weights: &[T], bias: Option<&[T]>, output: &mut [T]) {
        if self.to == 0 || self.made == 0 {
            return;
        }
        let (read, made) = (self.read / self.group, self.made / self.group);
        for (at, to) in output.chunks_exact_mut(self.to).enumerate() {
            let (batch, channel) = (at / self.made, at % self.made);
            if let Some(bias) = bias {
                to.fill(bias[channel]);
            }
            for local in 0..read {
                let from = channel / made * read + local;
                let plane = &input[(batch * self.read + from) * self.from..][..self.from];
                let filter = match self.steps.is_forward {
                    true => channel * read + local,
                    false => from * made + channel % made,
                };
                self.steps.add(plane, &weights[filter * self.steps.taps..][..self.steps.taps], to);
            }
        }
    }
}

/// How rows of an input are added to rows of a result, for a pair of planes.
struct Steps {
    is_forward: bool,
    /// The number of weights.
    taps: usize,
    /// The tap among those of the outer axes, the row with a window for each element, and the row that the windows are on.
    rows: Vec<(usize, usize, usize)>,
    /// The windows along the last axis.
    row: Axis,
    /// For each tap along the last axis, its windows and the place of the first.
    spans: Vec<(std::ops::Range<usize>, usize)>,
}

impl Steps {
    /// `axes` has the windows of the input, or those of the result when the convolution is transposed.
    fn new(axes: &[Axis], is_forward: bool) -> Steps {
        let (row, outer) = axes.split_last().expect("a plane has an axis");
        let numbered = rows(outer).into_iter().enumerate();
        let pairs = numbered
            .flat_map(|(at, sources)| sources.into_iter().map(move |(tap, source)| (tap, at, source)));
        Steps {
            is_forward,
            taps: axes.iter().map(|axis| axis.kernel).product(),
            rows: pairs.collect(),
            row: row.clone(),
            spans: (0..row.kernel).map(|tap| row.span(tap)).collect(),
        }
    }

    fn add<T: Real>(&self, from: &[T], weights: &[T], to: &mut [T]) {
        let row = &self.row;
        for (tap, window, source) in &self.rows {
            let weights = &weights[tap * row.kernel..][..row.kernel];
            for (weight, (span, first)) in weights.iter().zip(&self.spans) {
                let windows = window * row.output + span.start..window * row.output + span.end;
                let places = (source * row.input + first, row.stride);
                match self.is_forward {
                    true => gather(&mut to[windows], from, places, *weight),
                    false => scatter(to, places, &from[windows], *weight),
                }
            }
        }
    }
}

/// Adds elements of `from`, the first at the first place and then one each stride, to `to`.
fn gather<T: Real>(to: &mut [T], from: &[T], (first, stride): (usize, usize), weight: T) {
    if to.is_empty() {
        return;
    }
    let from = &from[first..];
    if stride == 1 {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += *from * weight);
    } else {
        to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to += *from * weight);
    }
}

/// Adds `from` to elements of `to`, the first at the first place and then one each stride.
fn scatter<T: Real>(to: &mut [T], (first, stride): (usize, usize), from: &[T], weight: T) {
    if from.is_empty() {
        return;
    }
    let to = &mut to[first..];
    if stride == 1 {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += *from * weight);
    } else {
        to.iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += *from * weight);
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;

    use super::super::super::entry::Domain;
    use super::super::super::trial::{Trial, int, ints, string};
    use super::*;

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|at| ((at * 31 + seed) % 17) as f32 - 8.0).collect();
        Tensor::from_shape(shape, &numbers).unwrap()
    }

    fn run(name: &str, attributes: &[AttributeProto], inputs: &[Tensor]) -> TractResult<Tensor> {
        let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
        Ok(Trial::new(Domain::Onnx, name, attributes).run(&inputs)?.remove(0))
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        elements::<f32>(tensor).unwrap().to_vec()
    }

    /// The sum of the products of two tensors of the same shape.
    fn product(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.shape(), b.shape());
        numbers(a).iter().zip(numbers(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_row_with_padding_strides_and_dilations() {
        let row = |numbers: &[f32]| Tensor::from_shape(&[1, 1, numbers.len()], numbers).unwrap();
        let (input, weights) = (row(&[1.0, 2.0, 3.0, 4.0, 5.0]), row(&[1.0, 10.0]));
        let conv = |attributes: &[AttributeProto]| {
            numbers(
                &run("Conv", attributes, &[input.clone(), weights.clone(), tensor1(&[100.0_f32])]).unwrap(),
            )
        };
        assert_eq!(conv(&[]), [121.0, 132.0, 143.0, 154.0]);
        assert_eq!(conv(&[ints("strides", &[3]), ints("pads", &[1, 0])]), [110.0, 143.0]);
        assert_eq!(conv(&[ints("dilations", &[3]), ints("pads", &[0, 2])]), [141.0, 152.0, 103.0, 104.0]);
        assert_eq!(
            conv(&[string("auto_pad", "SAME_LOWER"), ints("strides", &[2])]),
            [110.0 - 0.0, 132.0, 154.0]
        );
    }

    /// Kernel, strides, dilations and pads.
    type Form = ([i64; 2], [i64; 2], [i64; 2], [i64; 4]);

    /// Forms of both operators.
    const FORMS: [Form; 5] = [
        ([3, 3], [1, 1], [1, 1], [0, 0, 0, 0]),
        ([3, 2], [2, 3], [1, 1], [1, 0, 2, 1]),
        ([2, 3], [1, 2], [3, 2], [2, 3, 0, 1]),
        ([1, 4], [4, 1], [1, 1], [3, 3, 3, 3]),
        ([5, 1], [2, 2], [1, 3], [4, 0, 4, 0]),
    ];

    #[test]
    fn a_transposed_convolution_is_the_adjoint_of_a_convolution() {
        for (kernel, strides, dilations, pads) in FORMS {
            let attributes = [
                ints("strides", &strides),
                ints("dilations", &dilations),
                ints("pads", &pads),
                ints("kernel_shape", &kernel),
                int("group", 2),
            ];
            let input = tensor(&[2, 4, 9, 8], 3);
            let weights = tensor(&[6, 2, kernel[0] as usize, kernel[1] as usize], 5);
            let forward = run("Conv", &attributes, &[input.clone(), weights.clone()]).unwrap();
            let other = tensor(forward.shape(), 7);
            let wanted = ints(
                "output_padding",
                &[0, 1].map(|axis| {
                    let extent = (kernel[axis] - 1) * dilations[axis] + 1;
                    let padded = input.shape()[axis + 2] as i64 + pads[axis] + pads[axis + 2];
                    (padded - extent) % strides[axis]
                }),
            );
            let attributes = [&attributes[..], &[wanted]].concat();
            let back = run("ConvTranspose", &attributes, &[other.clone(), weights]).unwrap();
            assert_eq!(product(&forward, &other), product(&input, &back), "{kernel:?} {strides:?}");
        }
    }

    #[test]
    fn groups_do_not_mix() {
        // Each group has one channel: the second channel of the result is twice the second of the input.
        let input = tensor(&[1, 2, 3, 3], 1);
        let weights = Tensor::from_shape(&[2, 1, 1, 1], &[1.0_f32, 2.0]).unwrap();
        for name in ["Conv", "ConvTranspose"] {
            let output = numbers(&run(name, &[int("group", 2)], &[input.clone(), weights.clone()]).unwrap());
            let expected: Vec<f32> = numbers(&input)
                .iter()
                .enumerate()
                .map(|(at, number)| number * if at < 9 { 1.0 } else { 2.0 })
                .collect();
            assert_eq!(output, expected, "{name}");
        }
    }

    #[test]
    fn the_lengths_of_a_transposed_convolution() {
        let (input, weights) = (tensor(&[1, 1, 11], 1), tensor(&[1, 1, 3], 2));
        let length = |attributes: &[AttributeProto]| {
            run("ConvTranspose", attributes, &[input.clone(), weights.clone()])
                .map(|output| output.shape()[2])
        };
        let stride = |stride| ints("strides", &[stride]);
        assert_eq!(length(&[stride(2)]).unwrap(), 23);
        assert_eq!(length(&[stride(2), ints("output_padding", &[1]), ints("pads", &[1, 1])]).unwrap(), 22);
        assert_eq!(length(&[stride(2), string("auto_pad", "SAME_UPPER")]).unwrap(), 22);
        assert_eq!(length(&[stride(5), string("auto_pad", "SAME_UPPER")]).unwrap(), 55);
        assert_eq!(length(&[stride(2), ints("output_shape", &[24])]).unwrap(), 24);
        let error = length(&[stride(2), ints("output_shape", &[25])]).unwrap_err().to_string();
        assert!(error.contains("reach only 23"), "{error}");
        assert!(length(&[ints("pads", &[9, 9])]).unwrap_err().to_string().contains("larger than its result"));
    }

    #[test]
    fn an_explicit_output_shape_cuts_as_the_standard_says() {
        let row = |numbers: &[f32]| Tensor::from_shape(&[1, 1, numbers.len()], numbers).unwrap();
        let inputs = [row(&[1.0, 2.0]), row(&[1.0, 10.0, 100.0])];
        let cut = |auto_pad| {
            let attributes = [ints("output_shape", &[3]), string("auto_pad", auto_pad)];
            numbers(&run("ConvTranspose", &attributes, &inputs).unwrap())
        };
        assert_eq!(cut("SAME_UPPER"), [1.0, 12.0, 120.0]);
        assert_eq!(cut("NOTSET"), [12.0, 120.0, 200.0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let error = |attributes: &[AttributeProto], inputs: &[Tensor]| {
            run("Conv", attributes, inputs).unwrap_err().to_string()
        };
        let (input, weights) = (tensor(&[1, 3, 5, 5], 1), tensor(&[2, 3, 2, 2], 2));
        assert!(
            error(&[], &[tensor(&[1, 2, 5, 5], 1), weights.clone()])
                .contains("2 channels, but its weights are for 3")
        );
        assert!(
            error(&[ints("kernel_shape", &[3, 3])], &[input.clone(), weights.clone()]).contains("have 2")
        );
        assert!(error(&[ints("strides", &[1])], &[input.clone(), weights.clone()]).contains("for 1 axes"));
        assert!(error(&[], &[input.clone(), weights.clone(), tensor1(&[1.0_f32])]).contains("`B`"));
        assert!(error(&[ints("dilations", &[5, 5])], &[input.clone(), weights.clone()]).contains("length 6"));
        let both = [ints("pads", &[1, 1, 1, 1]), string("auto_pad", "VALID")];
        assert!(error(&both, &[input, weights]).contains("both `pads` and `auto_pad`"));
    }
}
