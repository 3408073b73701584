//! The list of shapes that a model is used with, where they are few.

use std::collections::BTreeMap;

use super::checks::check_shape;

/// Entries of `shapes`; each costs the time and the memory of a plan.
const MOST_SHAPES: usize = 256;

/// Shapes by the name of their input. -1 stands for the number of rows.
pub type InputShapes = BTreeMap<String, Vec<i64>>;

pub(super) fn check(shapes: &[InputShapes]) -> Result<(), String> {
    if shapes.len() > MOST_SHAPES {
        return Err(format!(
            "shapes has {} entries: expected at most {MOST_SHAPES}, because each entry has a plan",
            shapes.len()
        ));
    }
    for (input, shape) in shapes.iter().flatten() {
        let field = format!("shapes[`{input}`]");
        check_shape(&field, shape, "a dimension is at least 1, or -1 for the number of rows")?;
    }
    Ok(())
}
