//! Which of the graph's inputs and outputs are the signature's and which are states, and along which axes rows lie.

use super::plan::Plan;
use super::{LoadError, Options, StateOption};
use crate::model::{self, Dim, TensorMetadata};

/// Where the graph's inputs come from and its outputs go, and along which axes their rows lie.
#[derive(Debug)]
pub(super) struct Layout {
    pub inputs: Vec<Place>,
    /// `None` for an input that is the same for all rows; all `None` when rows are not told apart.
    pub input_axes: Vec<Option<usize>>,
    pub outputs: Vec<Place>,
    pub output_axes: Vec<usize>,
    /// Rows of different requests may be run together.
    pub joins: bool,
}

/// In the signature, or among the states.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Tensor(usize),
    State(usize),
}

/// The graph's inputs, in the signature or among the states.
pub(super) fn input_places(
    inputs: &[TensorMetadata],
    states: &[StateOption],
) -> Result<Vec<Place>, LoadError> {
    places(inputs, states.iter().map(|state| state.input.as_str()), "an input")
}

pub(super) fn output_places(
    outputs: &[TensorMetadata],
    states: &[StateOption],
) -> Result<Vec<Place>, LoadError> {
    places(outputs, states.iter().map(|state| state.output.as_str()), "an output")
}

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

pub(super) fn sequence_error(cause: String) -> LoadError {
    let advice = "each of sequence.states names an input and the output that becomes its next value";
    LoadError { what: "sequence.states", cause, advice: Some(advice.into()) }
}

/// A state's output must be what its input takes.
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

pub(super) fn of_signature(tensors: &[TensorMetadata], places: &[Place]) -> Vec<TensorMetadata> {
    let pairs = tensors.iter().zip(places).filter(|(_, place)| matches!(place, Place::Tensor(_)));
    pairs.map(|(tensor, _)| tensor.clone()).collect()
}

/// The graph's inputs as its plans take them: a length is told where it is the same in all plans. Rows are open where they
/// are told apart, for they are run in pieces.
pub(super) fn declared(
    inputs: &[TensorMetadata],
    plans: &[Plan],
    rows_apart: Option<&Vec<Option<usize>>>,
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

/// Plans of several shapes make outputs of several: what is not the same in all of them is open.
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

/// The inputs' shapes, as declared or for each of the declared `shapes`.
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

/// The inputs with `rows` along their batch axes. A symbol that stands there is that number wherever it stands.
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
                // A plan for one row, made into one for more.
                Dim::Fixed(length) => *length == 1 && rows > 1 && *batch_axis == Some(axis),
            };
            if is_batch {
                *dim = Dim::Fixed(rows);
            }
        }
    }
    made
}

/// Along which axes rows lie: the first of an input that leaves it open, the declared one of a state.
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

/// An output of the single-row plan as the signature shows it: rows along the first axis.
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
