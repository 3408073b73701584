//! `Resize` and `Upsample`: images and other tensors in another size.
//!
//! The places and weights of each axis are computed once for a run (`window`), and the axes are resized one after the other
//! (`blend`). Coordinates are computed in FP64 like in ONNX's reference evaluator, which decides where onnxruntime differs
//! from it (`align_corners` and `half_pixel_symmetric` with scales that do not give whole lengths). Lengths are computed from
//! scales in FP32, as ONNX's shape inference does.

mod blend;
mod window;

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::Built;
use super::axes::{Ints, axes_of, invalid, lengths_of};
use super::moves::{FILL, Places, along, mapped};
use window::{Coordinates, Line, Method, Nearest};

/// The attributes of `Resize` in all versions.
pub const ATTRIBUTES: &[&str] = &[
    "antialias",
    "axes",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
    "keep_aspect_ratio_policy",
    "mode",
    "nearest_mode",
];

#[derive(Debug)]
struct Resize {
    name: &'static str,
    method: Method,
    coordinates: Coordinates,
    extrapolation: f32,
    axes: Option<Vec<i64>>,
    aspect: Aspect,
    scales: Scales,
    /// The numbers of the inputs `roi` and `sizes`.
    roi: Option<usize>,
    sizes: Option<usize>,
}

/// How the given sizes are used.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Aspect {
    /// As they are.
    Stretch,
    /// As the most; all axes get the same scale.
    NotLarger,
    /// As the least; all axes get the same scale.
    NotSmaller,
}

/// Where the scales are.
#[derive(Debug, Clone)]
enum Scales {
    Attribute(Vec<f32>),
    Input(usize),
}

/// Builds a `Resize` from its node.
pub fn resize(attributes: &Attributes) -> Built {
    let version = attributes.version();
    let is_first = version < 11;
    let axes = attributes.has("axes").then(|| attributes.ints("axes")).transpose()?;
    let aspect = match attributes.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => Aspect::Stretch,
        "not_larger" => Aspect::NotLarger,
        "not_smaller" => Aspect::NotSmaller,
        other => {
            return Err(attributes.wrong(format!(
                "`keep_aspect_ratio_policy` is {other}: expected stretch, not_larger or not_smaller"
            )));
        }
    };
    let default = if is_first { "asymmetric" } else { "half_pixel" };
    Ok(Arc::new(Resize {
        name: "Resize",
        method: method(attributes, is_first)?,
        coordinates: coordinates(attributes, default)?,
        extrapolation: attributes.float("extrapolation_value", 0.0)?,
        axes: axes.map(<[i64]>::to_vec),
        aspect,
        scales: Scales::Input(if is_first { 1 } else { 2 }),
        roi: (!is_first).then_some(1),
        sizes: (!is_first).then_some(3),
    }))
}

/// Builds an `Upsample` from its node.
pub fn upsample(attributes: &Attributes) -> Built {
    let scales = if attributes.has("height_scale") || attributes.has("width_scale") {
        Scales::Attribute(vec![
            1.0,
            1.0,
            attributes.float("height_scale", 1.0)?,
            attributes.float("width_scale", 1.0)?,
        ])
    } else if attributes.has("scales") {
        Scales::Attribute(attributes.floats("scales")?.to_vec())
    } else {
        Scales::Input(1)
    };
    Ok(Arc::new(Resize {
        name: "Upsample",
        method: method(attributes, true)?,
        coordinates: Coordinates::Asymmetric,
        extrapolation: 0.0,
        axes: None,
        aspect: Aspect::Stretch,
        scales,
        roi: None,
        sizes: None,
    }))
}

fn method(attributes: &Attributes, is_first: bool) -> TractResult<Method> {
    let antialias = attributes.flag("antialias", false)?;
    let exclude_outside = attributes.flag("exclude_outside", false)?;
    match attributes.string("mode", "nearest")? {
        "nearest" if antialias => Err(attributes.wrong("`antialias` with the mode nearest has no meaning")),
        "nearest" if is_first => Ok(Method::Nearest(Nearest::Simple)),
        "nearest" => Ok(Method::Nearest(match attributes.string("nearest_mode", "round_prefer_floor")? {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => {
                return Err(attributes.wrong(format!(
                    "`nearest_mode` is {other}: expected round_prefer_floor, round_prefer_ceil, floor or ceil"
                )));
            }
        })),
        "linear" | "bilinear" => Ok(Method::Linear { antialias, exclude_outside }),
        "cubic" => {
            let a = f64::from(attributes.float("cubic_coeff_a", -0.75)?);
            Ok(Method::Cubic { a, antialias, exclude_outside })
        }
        other => Err(attributes.wrong(format!("`mode` is {other}: expected nearest, linear or cubic"))),
    }
}

fn coordinates(attributes: &Attributes, default: &str) -> TractResult<Coordinates> {
    Ok(match attributes.string("coordinate_transformation_mode", default)? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => Coordinates::CropAndResize,
        "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
        other => {
            return Err(attributes.wrong(format!(
                "`coordinate_transformation_mode` is {other}, which the standard does not have"
            )));
        }
    })
}

/// The floats of a tensor, flat.
fn floats(tensor: &Tensor) -> TractResult<Vec<f32>> {
    Ok(elements::<f32>(&*tensor.cast_to::<f32>()?)?.to_vec())
}

/// The new lengths of the resized axes, and their scales.
struct Target {
    axes: Vec<usize>,
    lengths: Vec<usize>,
    scales: Vec<f64>,
}

impl Resize {
    fn axes(&self, rank: usize) -> TractResult<Vec<usize>> {
        self.axes.as_ref().map_or_else(|| Ok((0..rank).collect()), |axes| axes_of(axes, rank))
    }

    /// The input `sizes`, if it is there and has elements.
    fn sizes(&self, is_given: impl Fn(usize) -> bool) -> Option<Ints> {
        self.sizes.filter(|at| is_given(*at)).map(|at| Ints::input("sizes", at))
    }

    /// The target for known scales or sizes.
    fn target(&self, shape: &[usize], scales: Option<&[f32]>, sizes: Option<&[i64]>) -> TractResult<Target> {
        let axes = self.axes(shape.len())?;
        let wrong = |name: &str, count: usize| {
            TractError::msg(format!(
                "`{name}` has {count} elements for {} axes: expected one for each",
                axes.len()
            ))
        };
        if let Some(sizes) = sizes {
            let sizes = lengths_of("sizes", sizes)?;
            if sizes.len() != axes.len() {
                return Err(wrong("sizes", sizes.len()));
            }
            return Ok(self.of_sizes(shape, axes, &sizes));
        }
        let scales =
            scales.ok_or_else(|| TractError::msg("`scales` and `sizes` are missing: expected one"))?;
        if scales.len() != axes.len() {
            return Err(wrong("scales", scales.len()));
        }
        if scales.iter().any(|scale| !(*scale > 0.0 && *scale < 1e9)) {
            return Err(invalid(format!("`scales` is {scales:?}: expected numbers above 0")));
        }
        let length = |(axis, scale): (&usize, &f32)| (shape[*axis] as f32 * scale).floor() as usize;
        let lengths = axes.iter().zip(scales).map(length).collect();
        Ok(Target { axes, lengths, scales: scales.iter().map(|scale| f64::from(*scale)).collect() })
    }

    fn of_sizes(&self, shape: &[usize], axes: Vec<usize>, sizes: &[usize]) -> Target {
        let scales: Vec<f64> =
            axes.iter().zip(sizes).map(|(axis, size)| *size as f64 / shape[*axis] as f64).collect();
        let common = match self.aspect {
            Aspect::Stretch => return Target { axes, lengths: sizes.to_vec(), scales },
            Aspect::NotLarger => scales.iter().copied().fold(f64::INFINITY, f64::min),
            Aspect::NotSmaller => scales.iter().copied().fold(0.0, f64::max),
        };
        let lengths = axes.iter().map(|axis| (common * shape[*axis] as f64 + 0.5) as usize).collect();
        Target { scales: vec![common; axes.len()], axes, lengths }
    }

    /// The shape of the output, with late lengths where it depends on more than is known.
    fn shape(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<TDim>> {
        let input = inputs.required(0, "X")?;
        let axes = self.axes(input.rank())?;
        let has_elements = |at: usize| inputs.optional(at).is_some_and(|kind| kind.count() != Some(0));
        let sizes = self.sizes(has_elements);
        let scales = match &self.scales {
            Scales::Attribute(scales) => Some(scales.clone()),
            Scales::Input(at) => {
                inputs.optional(*at).and_then(|kind| kind.value.as_ref()).map(|t| floats(t)).transpose()?
            }
        };
        let fixed: Option<TVec<usize>> = input.shape.iter().map(|length| length.to_usize().ok()).collect();
        let known = match &sizes {
            Some(sizes) => sizes.known(inputs)?,
            None => None,
        };
        let mut shape = input.shape.clone();
        if let Some(fixed) =
            fixed.filter(|_| if sizes.is_some() { known.is_some() } else { scales.is_some() })
        {
            let target = self.target(&fixed, scales.as_deref(), known.as_deref())?;
            for (axis, length) in target.axes.iter().zip(&target.lengths) {
                shape[*axis] = length.to_dim();
            }
            return Ok(shape);
        }
        let open = match &sizes {
            Some(sizes) if self.aspect == Aspect::Stretch => sizes.sizes(inputs)?,
            _ => None,
        };
        for (at, axis) in axes.into_iter().enumerate() {
            let length = match (&open, &scales, &sizes) {
                (Some(open), _, _) => open.get(at).cloned(),
                (None, Some(scales), None) => scales.get(at).and_then(|scale| scaled(&shape[axis], *scale)),
                _ => None,
            };
            shape[axis] = length.unwrap_or_else(|| late.length(axis));
        }
        Ok(shape)
    }

    /// The part of the input that is resized, for each axis of the input: start and end, as a share of its length.
    fn regions(&self, inputs: &Inputs<Tensor>, axes: &[usize], rank: usize) -> TractResult<Vec<(f64, f64)>> {
        let mut regions = vec![(0.0, 1.0); rank];
        if self.coordinates != Coordinates::CropAndResize {
            return Ok(regions);
        }
        let roi = self.roi.and_then(|at| inputs.optional(at));
        let roi =
            floats(roi.ok_or_else(|| TractError::msg("`roi` is missing, which tf_crop_and_resize needs"))?)?;
        if roi.len() != 2 * axes.len() || roi.iter().any(|bound| !bound.is_finite()) {
            return Err(invalid(format!(
                "`roi` is {roi:?} for {} axes: expected a start and an end for each",
                axes.len()
            )));
        }
        for (at, axis) in axes.iter().enumerate() {
            regions[*axis] = (f64::from(roi[at]), f64::from(roi[at + axes.len()]));
        }
        Ok(regions)
    }
}

/// An open length times a scale, where that is a simple expression.
fn scaled(length: &TDim, scale: f32) -> Option<TDim> {
    let (up, down) = (scale.round(), (1.0 / scale).round());
    if let Ok(length) = length.to_usize() {
        return Some(((length as f32 * scale).floor() as usize).to_dim());
    }
    if scale >= 1.0 && scale == up && up < 1e6 {
        Some(length.clone() * up as i64)
    } else if scale > 0.0 && scale < 1.0 && 1.0 / down == scale && (down as u64).is_power_of_two() {
        Some(length.clone() / down as i64)
    } else {
        None
    }
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        let is_text = matches!(input.datum_type, DatumType::String | DatumType::Bool);
        if is_text && !matches!(self.method, Method::Nearest(_)) {
            return Err(TractError::msg(format!("its input is {:?}: expected numbers", input.datum_type)));
        }
        Ok(tvec![Kind::new(input.datum_type, self.shape(inputs, late)?)])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let sizes = self.sizes(|at| inputs.optional(at).is_some_and(|tensor| tensor.len() > 0));
        let sizes = sizes.map(|sizes| sizes.required(inputs)).transpose()?;
        let scales = match &self.scales {
            Scales::Attribute(scales) => Some(scales.clone()),
            Scales::Input(at) => {
                inputs.optional(*at).filter(|scales| scales.len() > 0).map(floats).transpose()?
            }
        };
        let target = self.target(input.shape(), scales.as_deref(), sizes.as_deref())?;
        let regions = self.regions(inputs, &target.axes, input.rank())?;
        let mut shape: TVec<usize> = input.shape().into();
        target.axes.iter().zip(&target.lengths).for_each(|(axis, length)| shape[*axis] = *length);
        if shape.contains(&0) {
            return Ok(tvec![Tensor::zero_dt(input.datum_type(), &shape)?]);
        }
        if input.len() == 0 {
            return Err(invalid(format!("an input without elements cannot be resized to {shape:?}")));
        }
        let lines = self.lines(input.shape(), &target, &regions);
        Ok(tvec![match self.method {
            Method::Nearest(nearest) => self.nearest(input, &shape, &lines, nearest)?,
            _ => blend::blended(input, &shape, &lines, &self.method, f64::from(self.extrapolation))?,
        }])
    }
}

impl Resize {
    /// The axes that change, in the order of the input.
    fn lines(&self, shape: &[usize], target: &Target, regions: &[(f64, f64)]) -> Vec<(usize, Line)> {
        let mut lines: Vec<(usize, Line)> = (target.axes.iter().enumerate())
            .map(|(at, axis)| {
                let (input, output, scale) = (shape[*axis], target.lengths[at], target.scales[at]);
                (*axis, Line { input, output, scale, region: regions[*axis], coordinates: self.coordinates })
            })
            .filter(|(_, line)| !line.is_same())
            .collect();
        lines.sort_by_key(|(axis, _)| *axis);
        lines
    }

    fn nearest(
        &self,
        input: &Tensor,
        shape: &[usize],
        lines: &[(usize, Line)],
        nearest: Nearest,
    ) -> TractResult<Tensor> {
        let mut places: Vec<Places> = input.shape().iter().map(|length| Places::all(*length)).collect();
        for (axis, line) in lines {
            let place = |at: usize| line.nearest(at, nearest).unwrap_or(FILL);
            places[*axis] = Places::List((0..line.output).map(place).collect());
        }
        let fill = match input.datum_type() {
            DatumType::String | DatumType::Bool => None,
            datum_type => Some(tensor0(self.extrapolation).cast_to_dt(datum_type)?.into_owned()),
        };
        mapped(shape, input, along(input.shape(), places), fill.as_ref())
    }
}
