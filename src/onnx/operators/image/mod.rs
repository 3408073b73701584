//! Operators on images and boxes: sampling at points, pooling of regions, and the choice of boxes.
//!
//! All are ours. They follow the ONNX standard, and onnxruntime where the standard leaves something open. `ImageDecoder` is
//! refused: decoding belongs to the server's own processing of images.

mod affine;
mod align;
mod region;
mod sample;
mod suppression;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::attributes::Attributes;
use super::entry::Entry;
use super::operator::Operator;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("AffineGrid", &["align_corners"]).own(affine::grid),
    Entry::onnx("GridSample", &["align_corners", "mode", "padding_mode"]).own(sample::sample),
    Entry::onnx("MaxRoiPool", &["pooled_shape", "spatial_scale"]).own(region::pool),
    Entry::onnx("NonMaxSuppression", &["center_point_box"]).own(suppression::suppression),
    Entry::onnx(
        "RoiAlign",
        &[
            "coordinate_transformation_mode",
            "mode",
            "output_height",
            "output_width",
            "sampling_ratio",
            "spatial_scale",
        ],
    )
    .own(align::align),
    Entry::onnx("ImageDecoder", &["pixel_format"]).own(decoder),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}

/// `ImageDecoder` is not served.
fn decoder(attributes: &Attributes) -> Built {
    Err(attributes.wrong(
        "the model must not decode images: remove the node, make its output an input of the model, and send the decoded \
         pixels or let the server decode the image",
    ))
}
