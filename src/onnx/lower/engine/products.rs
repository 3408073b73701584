//! Products of matrices.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{AxesMapping, AxisOp};
use tract_onnx::tract_hir::ops::math;
use tract_onnx::tract_hir::ops::matmul::MatMulInference;
use tract_onnx::tract_hir::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

use super::site::{Outlets, Site};

/// The factors must have one type. tract would not notice.
fn check_types(site: &Site) -> TractResult<DatumType> {
    let types = [site.fact(site.inputs[0])?.datum_type, site.fact(site.inputs[1])?.datum_type];
    match types[0] == types[1] {
        true => Ok(types[0]),
        false => Err(site.attributes.wrong(format!("its factors are of the types {types:?}"))),
    }
}

/// Two lengths that are summed over must be equal.
fn check_summed(site: &Site, a: &TDim, b: &TDim) -> TractResult<()> {
    match (a.to_i64(), b.to_i64()) {
        (Ok(a), Ok(b)) if a != b => {
            Err(site.attributes.wrong(format!("the lengths {a} and {b} of its factors do not fit together")))
        }
        _ => Ok(()),
    }
}

/// `MatMul`: stacks of matrices, or one of them a vector.
pub fn matmul(site: &mut Site) -> Outlets {
    check_types(site)?;
    let (a, b) = (site.shape(site.inputs[0])?, site.shape(site.inputs[1])?);
    let (Some(last), Some(first)) = (a.last(), b.get(b.len().saturating_sub(2))) else {
        return Err(site.attributes.wrong("a factor is a single number"));
    };
    check_summed(site, last, first)?;
    if a.len() > 1 && b.len() > 1 {
        multi_broadcast(&[&a[..a.len() - 2], &b[..b.len() - 2]])?;
    }
    site.expand(&MatMulInference::default())
}

/// `Gemm`: `alpha` times a product, plus `beta` times a tensor that is broadcast to it.
pub fn gemm(site: &mut Site) -> Outlets {
    let datum_type = check_types(site)?;
    let flag = |name| site.attributes.flag(name, false);
    let (turns_a, turns_b) = (flag("transA")?, flag("transB")?);
    let (alpha, beta) = (site.attributes.float("alpha", 1.0)?, site.attributes.float("beta", 1.0)?);
    let (a, b) = (site.shape(site.inputs[0])?, site.shape(site.inputs[1])?);
    if a.len() != 2 || b.len() != 2 {
        return Err(site.attributes.wrong("a factor is no matrix"));
    }
    check_summed(site, &a[usize::from(!turns_a)], &b[usize::from(turns_b)])?;
    let shape = [a[usize::from(turns_a)].clone(), b[usize::from(!turns_b)].clone()];
    let axes = AxesMapping::for_numpy_matmul(2, turns_a, turns_b, false)?;
    let mut result = site.part("ab", EinSum::new(axes, datum_type), &site.inputs[..2])?;
    if alpha != 1.0 {
        result = scaled(site, "alpha_ab", alpha, result)?;
    }
    let added = site.inputs.get(2).copied().filter(|_| beta != 0.0);
    if let Some(mut added) = added {
        let fact = site.fact(added)?;
        if fact.datum_type != datum_type {
            return Err(site.attributes.wrong(format!("its input `C` is of type {:?}", fact.datum_type)));
        }
        for at in fact.rank()..2 {
            added = site.part(&format!("c_add_axis_{at}"), AxisOp::Add(0), &[added])?;
        }
        let added = scaled(site, "beta_c", beta, added)?;
        result = site.on(math::add(), &[result, added])?;
    }
    // `C` must not make the result larger.
    match site.shape(result)?[..] == shape {
        true => Ok(tvec![result]),
        false => Err(site.attributes.wrong("its input `C` does not fit to the product")),
    }
}

/// A factor times a tensor.
fn scaled(site: &mut Site, part: &str, factor: f32, tensor: OutletId) -> TractResult<OutletId> {
    let constant = tensor0(factor).broadcast_into_rank(site.fact(tensor)?.rank())?;
    let constant = site.graph.add_const(format!("{}.{part}.cst", site.name), constant)?;
    site.part(part, math::mul(), &[constant, tensor])
}

/// `Einsum` of two operands, in which each label is a letter.
pub fn einsum(site: &mut Site) -> Outlets {
    let operating_dt = check_types(site)?;
    let axes: AxesMapping = site.attributes.string("equation", "")?.parse()?;
    site.all(EinSum { axes, operating_dt, q_params: None })
}
