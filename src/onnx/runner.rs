//! Runs a session in one thread. It joins the rows of several items, runs them with the plans that cost least for
//! their number, and gives each item its part of the outputs.
//!
//! What belongs here: joining, running and splitting. What does not: choosing which requests run together (`engine`),
//! and making plans (`planner`).
//!
//! Invariant: an item gets only results of its own rows.

use std::sync::Arc;

use super::failed;
use super::family::{Batches, Family};
use super::layout::{Layout, Place};
use super::plan::PlanState;
use crate::error::RequestError;
use crate::memory::Share;
use crate::model::{Input, Tensor};

/// The tensors of one request, or the results of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// The tensors, in the signature's order.
    pub tensors: Vec<Tensor>,
    /// The states of the item's sequence, in the order of their declaration.
    pub states: Vec<Tensor>,
}

impl Item {
    /// Returns the bytes of memory of all tensors and states.
    pub fn memory(&self) -> usize {
        self.tensors.iter().chain(&self.states).map(Tensor::memory).sum()
    }
}

/// The state of a session's plans in one thread. It is not shared between threads, and is dropped after an error.
#[derive(Debug)]
pub struct Runner {
    layout: Arc<Layout>,
    families: Vec<FamilyState>,
}

#[derive(Debug)]
struct FamilyState {
    family: Arc<Family>,
    /// The plans that `plans` belongs to. The family may have received new plans since then.
    batches: Arc<Batches>,
    /// One state for each plan, in the order of the schedule. The first belongs to the family's plan for a single
    /// row.
    plans: Vec<PlanState>,
}

impl FamilyState {
    fn new(family: &Arc<Family>) -> FamilyState {
        let batches = family.batches();
        let plans = std::iter::once(&family.single).chain(&batches.plans).map(PlanState::new).collect();
        FamilyState { family: family.clone(), batches, plans }
    }

    /// Makes new states if the family has new plans.
    fn follow(&mut self) {
        let batches = self.family.batches();
        if !Arc::ptr_eq(&batches, &self.batches) {
            *self = FamilyState::new(&self.family);
        }
    }
}

impl Runner {
    /// Makes a runner with new states for all plans.
    pub(super) fn new(layout: Arc<Layout>, families: &[Arc<Family>]) -> Runner {
        Runner { layout, families: families.iter().map(FamilyState::new).collect() }
    }

    /// Runs a single item. `family` is the number that [`Session::family_of`](super::Session::family_of) returned.
    /// The memory of the run is taken from the budget of `memory`, and the memory of the result stays on `memory`.
    ///
    /// Errors: the run failed, or the budget is used up. After [`Code::InferenceFailed`](crate::error::Code) or a
    /// panic, this runner must not be used again.
    pub fn run(&mut self, family: usize, item: &Item, memory: &mut Share) -> Result<Item, RequestError> {
        let mut results = self.run_together(family, std::slice::from_ref(item), memory)?;
        results.pop().ok_or_else(|| failed("the engine returned no outputs".into()))
    }

    /// Runs several items of one family. It returns one result for each item, in the same order.
    ///
    /// Errors: as in [`Runner::run`]; then no item has a result.
    pub fn run_together(
        &mut self,
        family: usize,
        items: &[Item],
        memory: &mut Share,
    ) -> Result<Vec<Item>, RequestError> {
        let layout = self.layout.clone();
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let state = &mut self.families[family];
        state.follow();
        let rows: Vec<usize> = items.iter().map(|item| layout.rows(&item.tensors)).collect();
        let total: usize = rows.iter().sum();
        if total == 1 || layout.input_axes.iter().all(Option::is_none) {
            return items
                .iter()
                .map(|item| Ok(layout.item(state.plans[0].run(&layout.graph_inputs(item), memory)?)))
                .collect();
        }
        // Memory for two copies of the rows: all of them joined, and the piece that is running.
        let bytes: usize = items.iter().map(Item::memory).sum();
        let copies = memory.take_beside(bytes.saturating_mul(2))?;
        let joined = layout.join(items).map_err(failed)?;
        let outputs = state.run_rows(&layout, &joined, total, memory)?;
        drop((joined, copies));
        let bytes = outputs.iter().map(Tensor::memory).sum();
        let _whole = memory.take_beside(bytes)?;
        let mut begin = 0;
        let parts = rows.iter().map(|rows| {
            let range = begin..begin + rows;
            begin = range.end;
            let part = outputs.iter().zip(&layout.output_axes);
            layout.item(part.map(|(output, axis)| output.slice(*axis, range.clone())).collect())
        });
        Ok(parts.collect())
    }
}

impl FamilyState {
    /// Runs `total` rows piece by piece. It returns the graph's outputs for all rows.
    fn run_rows(
        &mut self,
        layout: &Layout,
        inputs: &[Tensor],
        total: usize,
        memory: &mut Share,
    ) -> Result<Vec<Tensor>, RequestError> {
        let mut pieces: Vec<Vec<Tensor>> = Vec::new();
        let mut begin = 0;
        while begin < total {
            let (plan, taken) = self.batches.schedule.begin(total - begin);
            let capacity = if plan == 0 { 1 } else { self.batches.rows(plan) };
            let outputs = if taken == total && taken == capacity {
                self.plans[plan].run(&inputs.iter().collect::<Vec<_>>(), memory)?
            } else {
                let piece = layout.piece(inputs, begin, taken, capacity).map_err(failed)?;
                self.plans[plan].run(&piece.iter().collect::<Vec<_>>(), memory)?
            };
            let outputs = outputs.into_iter().zip(&layout.output_axes);
            pieces.push(
                outputs
                    .map(
                        |(output, axis)| {
                            if taken < capacity { output.slice(*axis, 0..taken) } else { output }
                        },
                    )
                    .collect(),
            );
            begin += taken;
        }
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        let bytes = pieces.iter().flatten().map(Tensor::memory).sum();
        let _pieces = memory.take_beside(bytes)?;
        let outputs = layout.output_axes.iter().enumerate().map(|(output, axis)| {
            let parts: Vec<&Tensor> = pieces.iter().map(|piece| &piece[output]).collect();
            Tensor::concat(*axis, &parts)
        });
        outputs.collect::<Result<_, _>>().map_err(failed)
    }
}

impl Layout {
    /// Returns the number of rows of tensors in the signature's order.
    pub(super) fn rows(&self, tensors: &[Tensor]) -> usize {
        self.rows_of(|at, axis| tensors[at].shape().get(axis).copied())
    }

    /// Returns the number of rows of a request's inputs. Each file and each text is one row.
    pub(super) fn rows_of_inputs(&self, inputs: &[Input]) -> usize {
        self.rows_of(|at, axis| inputs[at].known_shape().get(axis).copied())
    }

    /// Returns the number of rows. `length` gives the length of an input along an axis, or `None`; the first known
    /// length of a batch axis is the result.
    fn rows_of(&self, length: impl Fn(usize, usize) -> Option<usize>) -> usize {
        let axes = self.inputs.iter().zip(&self.input_axes);
        let mut rows = axes.filter_map(|(place, axis)| match (place, axis) {
            (Place::Tensor(at), Some(axis)) => length(*at, *axis),
            _ => None,
        });
        rows.next().unwrap_or(1)
    }

    /// Returns the tensors and states of an item in the order of the graph's inputs.
    fn graph_inputs<'i>(&self, item: &'i Item) -> Vec<&'i Tensor> {
        let place = |place: &Place| match place {
            Place::Tensor(at) => &item.tensors[*at],
            Place::State(at) => &item.states[*at],
        };
        self.inputs.iter().map(place).collect()
    }

    /// Splits the graph's outputs into tensors of the signature and states.
    fn item(&self, outputs: Vec<Tensor>) -> Item {
        let mut item = Item::default();
        let mut states: Vec<(usize, Tensor)> = Vec::new();
        for (output, place) in outputs.into_iter().zip(&self.outputs) {
            match place {
                Place::Tensor(_) => item.tensors.push(output),
                Place::State(at) => states.push((*at, output)),
            }
        }
        states.sort_by_key(|(at, _)| *at);
        item.states = states.into_iter().map(|(_, state)| state).collect();
        item
    }

    /// Joins the rows of all items, and returns the graph's inputs. For an input without rows, one value is used for
    /// all items.
    pub(super) fn join(&self, items: &[Item]) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<Vec<&Tensor>> = items.iter().map(|item| self.graph_inputs(item)).collect();
        let joined = self.input_axes.iter().enumerate().map(|(at, axis)| match axis {
            Some(axis) if items.len() > 1 => {
                Tensor::concat(*axis, &inputs.iter().map(|inputs| inputs[at]).collect::<Vec<_>>())
            }
            _ => Ok(inputs[0][at].clone()),
        });
        joined.collect()
    }

    /// Returns `taken` rows from `begin` on. The last row is repeated until there are `capacity` rows.
    fn piece(
        &self,
        inputs: &[Tensor],
        begin: usize,
        taken: usize,
        capacity: usize,
    ) -> Result<Vec<Tensor>, String> {
        let end = begin + taken;
        let pieces = inputs.iter().zip(&self.input_axes).map(|(input, axis)| {
            let Some(axis) = axis else { return Ok(input.clone()) };
            let piece = input.slice(*axis, begin..end);
            if taken == capacity {
                return Ok(piece);
            }
            let last = input.slice(*axis, end - 1..end);
            let mut parts = vec![&piece];
            parts.resize(1 + capacity - taken, &last);
            Tensor::concat(*axis, &parts)
        });
        pieces.collect()
    }
}
