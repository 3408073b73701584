//! Convolutions.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::AxisOp;
use tract_onnx::tract_hir::ops::cnn::{Conv, PaddingSpec, PoolSpec};
use tract_onnx::tract_hir::ops::nn::DataFormat;
use tract_onnx::tract_hir::tract_core::ops::cnn::{Deconv, KernelFormat};

use super::site::{Outlets, Site};

/// Positive integers of an attribute. `None` when it is absent.
fn numbers(site: &Site, name: &str) -> TractResult<Option<TVec<usize>>> {
    if !site.attributes.has(name) {
        return Ok(None);
    }
    let number = |number: &i64| {
        usize::try_from(*number).map_err(|_| site.attributes.wrong(format!("`{name}` has {number}")))
    };
    site.attributes.ints(name)?.iter().map(number).collect::<TractResult<_>>().map(Some)
}

/// The padding of `rank` axes.
fn padding(site: &Site, rank: usize) -> TractResult<PaddingSpec> {
    if let Some(pads) = numbers(site, "pads")? {
        if pads.len() != 2 * rank {
            return Err(site.attributes.wrong(format!("`pads` has {} numbers for {rank} axes", pads.len())));
        }
        let (before, after) = pads.split_at(rank);
        return Ok(PaddingSpec::Explicit(before.into(), after.into()));
    }
    match site.attributes.string("auto_pad", "NOTSET")? {
        "" | "NOTSET" => Ok(PaddingSpec::Explicit(tvec![0; rank], tvec![0; rank])),
        "VALID" => Ok(PaddingSpec::Valid),
        "SAME_UPPER" => Ok(PaddingSpec::SameUpper),
        "SAME_LOWER" => Ok(PaddingSpec::SameLower),
        other => Err(site.attributes.wrong(format!("`auto_pad` is `{other}`"))),
    }
}

/// What is the same for both operators.
struct Parts {
    padding: PaddingSpec,
    strides: Option<TVec<usize>>,
    dilations: Option<TVec<usize>>,
    groups: usize,
    /// The shape of the filter.
    filter: TVec<usize>,
}

impl Parts {
    fn read(site: &Site) -> TractResult<Parts> {
        let (input, filter) = (site.fact(site.inputs[0])?, site.fact(site.inputs[1])?);
        if input.datum_type != filter.datum_type || input.rank() != filter.rank() || filter.rank() < 3 {
            return Err(site.attributes.wrong("its filter does not fit to its input"));
        }
        let filter: TVec<usize> = match filter.shape.as_concrete() {
            Some(filter) => filter.into(),
            None => return Err(TractError::msg("the shape of its filter is not known")),
        };
        if numbers(site, "kernel_shape")?.is_some_and(|kernel| kernel[..] != filter[2..]) {
            return Err(site.attributes.wrong("`kernel_shape` is not the shape of the filter"));
        }
        let groups = site.attributes.int("group", 1)?;
        let groups = usize::try_from(groups).ok().filter(|groups| *groups > 0);
        Ok(Parts {
            padding: padding(site, filter.len() - 2)?,
            strides: numbers(site, "strides")?,
            dilations: numbers(site, "dilations")?,
            groups: groups.ok_or_else(|| site.attributes.wrong("`group` must be above 0"))?,
            filter,
        })
    }

    /// A bias must have one number for each output channel.
    fn check_bias(site: &Site, channels: usize) -> TractResult<()> {
        let Some(bias) = site.inputs.get(2) else { return Ok(()) };
        match site.shape(*bias)?[..] == [TDim::from(channels)] {
            true => Ok(()),
            false => Err(site.attributes.wrong("its bias has not one number for each channel")),
        }
    }
}

/// `Conv`.
pub fn conv(site: &mut Site) -> Outlets {
    let parts = Parts::read(site)?;
    Parts::check_bias(site, parts.filter[0])?;
    site.expand(&Conv {
        padding: parts.padding,
        strides: parts.strides,
        dilations: parts.dilations,
        group: Some(parts.groups),
        bias_input: (site.inputs.len() == 3).then_some(2),
        ..Conv::default()
    })
}

/// `ConvTranspose`. The standard's filter has the input channels first, all groups after each other; tract's has the
/// output channels first.
pub fn transpose(site: &mut Site) -> Outlets {
    let Parts { padding, strides, dilations, groups, filter } = Parts::read(site)?;
    let channels = filter[1] * groups;
    Parts::check_bias(site, channels)?;
    if site.shape(site.inputs[0])?[1] != TDim::from(filter[0]) || filter[0] % groups != 0 {
        return Err(site.attributes.wrong("its input has other channels than its filter"));
    }
    let name = site.name;
    let split = format!("{name}.filter_split");
    let kernel = AxisOp::wire_split_axis(site.graph, split, site.inputs[1], 0, groups)?;
    let kernel = site.part("filter_turned", AxisOp::Move(1, 2), &kernel)?;
    let kernel = AxisOp::wire_collapse_axis(site.graph, format!("{name}.filter_joined"), kernel, 0)?[0];
    let datum_type = site.fact(site.inputs[0])?.datum_type;
    let bias = match site.inputs.get(2) {
        Some(bias) => *bias,
        None => site.graph.add_const(format!("{name}.bias"), Tensor::zero_scalar_dt(datum_type)?)?,
    };
    let kernel_shape: TVec<usize> = match site.fact(kernel)?.shape.as_concrete() {
        Some(shape) => shape.into(),
        None => return Err(TractError::msg("the shape of its filter is not known")),
    };
    let pool_spec = PoolSpec::new(
        DataFormat::NCHW,
        kernel_shape[2..].into(),
        padding,
        dilations,
        strides,
        KernelFormat::OIHW.input_channels(&kernel_shape, groups).into_owned(),
        KernelFormat::OIHW.output_channels(&kernel_shape, groups).into_owned(),
    );
    let adjustments = numbers(site, "output_padding")?.unwrap_or_else(|| tvec![0; filter.len() - 2]);
    let op = Deconv::new(pool_spec, KernelFormat::OIHW, adjustments, groups);
    Ok(tvec![site.on(op, &[site.inputs[0], kernel, bias])?])
}
