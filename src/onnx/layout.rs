//! Describes the inputs and outputs of a graph: which are in the signature, which are states, and along which axis
//! their rows lie.
//!
//! What belongs here: positions, axes and shapes. What does not: tensors with content (`runner`), and plans (`plan`).
//! Invariant: each list has one entry for each input, or for each output, in the graph's order.

use super::plan::Plan;
use super::{LoadError, Options, StateOption};
use crate::model::{self, Dim, TensorMetadata};

/// The layout of the graph's inputs and outputs, and the axes of their rows.
#[derive(Debug)]
pub(super) struct Layout {
    /// The place of each of the graph's inputs.
    pub inputs: Vec<Place>,
    /// The axis of the rows of each input. It is `None` for an input that is the same for all rows. All are `None` if
    /// rows are not separate.
    pub input_axes: Vec<Option<usize>>,
    /// The place of each of the graph's outputs.
    pub outputs: Vec<Place>,
    /// The axis of the rows of each output.
    pub output_axes: Vec<usize>,
    /// Whether rows of different requests may be run together.
    pub joins: bool,
}

/// The place of an input or output: its index in the signature, or its index among the states.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Tensor(usize),
    State(usize),
}

/// Returns the place of each of the graph's inputs.
///
/// Errors: a declared state is not an input of the graph.
pub(super) fn input_places(
    inputs: &[TensorMetadata],
    states: &[StateOption],
) -> Result<Vec<Place>, LoadError> {
    places(inputs, states.iter().map(|state| state.input.as_str()), "an input")
}

/// Returns the place of each of the graph's outputs.
///
/// Errors: a declared state is not an output of the graph.
pub(super) fn output_places(
    outputs: &[TensorMetadata],
    states: &[StateOption],
) -> Result<Vec<Place>, LoadError> {
    places(outputs, states.iter().map(|state| state.output.as_str()), "an output")
}

/// Returns the place of each tensor in `known`. `kind` is "an input" or "an output", for the error.
pub(super) fn places<'s>(
    known: &[TensorMetadata],
    states: impl Iterator<Item = &'s str> + Clone,
    kind: &str,
) -> Result<Vec<Place>, LoadError> {
    if let Some(unknown) = states.clone().find(|name| known.iter().all(|tensor| tensor.name != *name)) {
        let names = model::signature::quoted(known.iter().map(|tensor| tensor.name.as_str()));
        return Err(sequence_error(format!("`{unknown}` is not {kind} of the model, which has {names}")));
    }
    let mut next = 0;
    let places = known.iter().map(|tensor| match states.clone().position(|name| name == tensor.name) {
        Some(state) => Place::State(state),
        None => {
            next += 1;
            Place::Tensor(next - 1)
        }
    });
    Ok(places.collect())
}

/// Makes a load error about `sequence.states`.
pub(super) fn sequence_error(cause: String) -> LoadError {
    let advice = "each of sequence.states names an input and the output that becomes its next value";
    LoadError { what: "sequence.states", cause, advice: Some(advice.into()) }
}

/// Checks that the output of each state has the datatype and shape that its input takes, and that this shape is
/// fixed.
pub(super) fn check_states(
    inputs: &[TensorMetadata],
    outputs: &[TensorMetadata],
    options: &Options,
) -> Result<(), LoadError> {
    let find =
        |known: &[TensorMetadata], name: &str| known.iter().find(|tensor| tensor.name == name).cloned();
    for state in &options.states {
        let (Some(input), Some(output)) = (find(inputs, &state.input), find(outputs, &state.output)) else {
            continue;
        };
        if input.shape.iter().any(|dim| dim.fixed().is_none()) {
            return Err(sequence_error(format!(
                "state `{}` has the shape {:?}: fix it with `inputs[].shape`",
                input.name,
                input.shape_i64()
            )));
        }
        if input.datatype != output.datatype || !input.admits(&output.shape_with_open(0)) {
            return Err(sequence_error(format!(
                "output `{}` is {} {:?}, but input `{}` is {} {:?}",
                output.name,
                output.datatype,
                output.shape_i64(),
                input.name,
                input.datatype,
                input.shape_i64()
            )));
        }
    }
    Ok(())
}

/// Returns the tensors that are in the signature, without the states.
pub(super) fn of_signature(tensors: &[TensorMetadata], places: &[Place]) -> Vec<TensorMetadata> {
    let pairs = tensors.iter().zip(places).filter(|(_, place)| matches!(place, Place::Tensor(_)));
    pairs.map(|(tensor, _)| tensor.clone()).collect()
}

/// Returns the graph's inputs as the signature shows them. A dimension is fixed if its length is the same in all
/// plans. The batch axis stays open if rows are separate, because many rows are run in pieces.
pub(super) fn declared(
    inputs: &[TensorMetadata],
    plans: &[Plan],
    rows_apart: Option<&[Option<usize>]>,
) -> Vec<TensorMetadata> {
    let mut declared = inputs.to_vec();
    for (at, input) in declared.iter_mut().enumerate() {
        for (axis, dim) in input.shape.iter_mut().enumerate() {
            if rows_apart.is_some_and(|axes| axes[at] == Some(axis)) {
                continue;
            }
            let mut lengths = plans.iter().map(|plan| plan.inputs[at].shape[axis].fixed());
            if let Some(Some(first)) = lengths.next()
                && lengths.all(|length| length == Some(first))
            {
                *dim = Dim::Fixed(first);
            }
        }
    }
    declared
}

/// Makes a dimension of an output open if its length is not the same in all plans.
pub(super) fn open_where_unlike(
    outputs: &mut [TensorMetadata],
    plans: &[Plan],
    names: &[String],
    places: &[Place],
) -> Result<(), LoadError> {
    for plan in plans {
        for (output, other) in outputs.iter_mut().zip(of_signature(&plan.outputs(names)?, places)) {
            for (dim, other) in output.shape.iter_mut().zip(other.shape) {
                if dim.fixed().is_some() && *dim != other {
                    *dim = Dim::Open(None);
                }
            }
        }
    }
    Ok(())
}

/// Returns the shapes of the inputs as declared, or once for each set of declared `shapes`.
pub(super) fn variants(inputs: &[TensorMetadata], options: &Options) -> Vec<Vec<TensorMetadata>> {
    if options.variants.is_empty() {
        return vec![inputs.to_vec()];
    }
    let narrowed = options.variants.iter().map(|shapes| {
        let mut inputs = inputs.to_vec();
        for (name, shape) in shapes {
            if let Some(input) = inputs.iter_mut().find(|input| input.name == *name) {
                input.shape = shape.clone();
            }
        }
        inputs
    });
    narrowed.collect()
}

/// Returns the inputs with `rows` as the length of their batch axes. If a batch axis has a symbol, that symbol
/// becomes `rows` in all dimensions.
pub(super) fn with_rows(
    inputs: &[TensorMetadata],
    axes: &[Option<usize>],
    rows: usize,
) -> Vec<TensorMetadata> {
    let symbols: Vec<String> = inputs
        .iter()
        .zip(axes)
        .filter_map(|(input, axis)| match axis.and_then(|axis| input.shape.get(axis)) {
            Some(Dim::Open(Some(symbol))) => Some(symbol.clone()),
            _ => None,
        })
        .collect();
    let mut made = inputs.to_vec();
    for (input, batch_axis) in made.iter_mut().zip(axes) {
        for (axis, dim) in input.shape.iter_mut().enumerate() {
            let is_batch = match dim {
                Dim::Open(Some(symbol)) => *batch_axis == Some(axis) || symbols.contains(symbol),
                Dim::Open(None) => *batch_axis == Some(axis),
                // Here a plan for one row is changed to a plan for several rows.
                Dim::Fixed(length) => *length == 1 && rows > 1 && *batch_axis == Some(axis),
            };
            if is_batch {
                *dim = Dim::Fixed(rows);
            }
        }
    }
    made
}

/// Returns the axis of the rows of each input. For an input of the signature it is the first axis, if that is open.
/// For a state it is the declared axis.
///
/// Errors: the declared axis does not exist, or `max_batch_size` does not fit the inputs.
pub(super) fn batch_axes(
    inputs: &[TensorMetadata],
    places: &[Place],
    options: &Options,
) -> Result<Vec<Option<usize>>, LoadError> {
    let axis = |(input, place): (&TensorMetadata, &Place)| match place {
        Place::Tensor(_) => Ok(matches!(input.shape.first(), Some(Dim::Open(_))).then_some(0)),
        Place::State(at) => match options.states[*at].batch_axis {
            Some(axis) if axis >= input.shape.len() => Err(sequence_error(format!(
                "batch_axis is {axis}, but state `{}` has {} dimensions",
                input.name,
                input.shape.len()
            ))),
            axis => Ok(axis),
        },
    };
    let axes: Vec<Option<usize>> = inputs.iter().zip(places).map(axis).collect::<Result<_, LoadError>>()?;
    if options.max_batch_size.is_some() {
        check_batch_axis(inputs, places, &axes, options)?;
    }
    Ok(axes)
}

/// Checks that `max_batch_size` fits the inputs: at least one first dimension is open, and the batch symbol is not
/// used for another dimension.
pub(super) fn check_batch_axis(
    inputs: &[TensorMetadata],
    places: &[Place],
    axes: &[Option<usize>],
    options: &Options,
) -> Result<(), LoadError> {
    let wrong = |cause: String, advice: &str| LoadError {
        what: "max_batch_size",
        cause,
        advice: Some(advice.into()),
    };
    let has_rows =
        |(place, axis): (&Place, &Option<usize>)| matches!(place, Place::Tensor(_)) && axis.is_some();
    if !places.iter().zip(axes).any(has_rows) {
        return Err(wrong(
            "no input leaves its first dimension open".into(),
            "leave it out, or give that dimension as -1",
        ));
    }
    let single = with_rows(inputs, axes, 1);
    let elsewhere = inputs.iter().zip(&single).zip(places).find(|((open, single), place)| {
        matches!(place, Place::Tensor(_)) && open.shape.get(1..) != single.shape.get(1..)
    });
    if let (Some(((input, _), _)), true) = (elsewhere, options.max_batch_size != Some(1)) {
        return Err(wrong(
            format!("the batch axis of input `{}` is not its first", input.name),
            "rows cannot be told apart there: set max_batch_size to 1",
        ));
    }
    Ok(())
}

/// Returns an output of the plan for a single row as the signature shows it: its first axis becomes the batch axis.
///
/// Errors: the first dimension is not 1, so the output has no batch axis.
pub(super) fn with_batch_axis(mut output: TensorMetadata) -> Result<TensorMetadata, LoadError> {
    match output.shape.first_mut() {
        Some(first) if first.fixed() == Some(1) => {
            *first = Dim::Open(None);
            Ok(output)
        }
        _ => Err(LoadError {
            what: "max_batch_size",
            cause: format!(
                "output `{}` is {:?} for one row: it has no batch axis",
                output.name,
                output.shape_i64()
            ),
            advice: Some("leave max_batch_size out".into()),
        }),
    }
}
