//! A typed graph that tract has optimised and that can run: that of a plan, or that of a body inside it.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{IntoRunnable, TypedSimplePlan};

use super::fuse;
use super::guard::Guard;
use super::late;
use super::operators::own::Own;

/// A graph that can run: that of a plan, or that of a body inside it.
#[derive(Debug)]
pub(super) struct Optimised {
    /// The graph and the order of its operators.
    pub runnable: Arc<TypedSimplePlan>,
    /// The checks before each run.
    pub guard: Guard,
    /// The bytes of the graph's own constants, without those of its bodies.
    pub weight_bytes: usize,
}

impl Optimised {
    /// Optimises a typed graph. No tensor of a run may have more than `max_tensor_bytes`.
    pub fn of(mut typed: TypedModel, max_tensor_bytes: usize) -> TractResult<Optimised> {
        fuse::fuse(&mut typed)?;
        let typed = typed.into_decluttered()?;
        let guard = Guard::of(&typed, max_tensor_bytes)?;
        let known = late::known_symbols(&typed)?;
        let constants =
            typed.nodes().iter().flat_map(|node| &node.outputs).filter_map(|o| o.fact.konst.as_ref());
        let constants: usize = constants.map(|tensor| tensor.len() * tensor.datum_type().size_of()).sum();
        let own = typed.nodes().iter().filter_map(|node| node.op_as::<Own>());
        let weight_bytes = constants + own.map(Own::weight_bytes).sum::<usize>();
        let mut typed = typed.into_optimized()?;
        late::watch(&mut typed, &known, max_tensor_bytes)?;
        let runnable = typed.into_runnable()?;
        let guard = guard.with_footprint(&runnable)?;
        Ok(Optimised { runnable, guard, weight_bytes })
    }
}
