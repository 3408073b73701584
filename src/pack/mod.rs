//! Makes container images without Docker. An image holds a static program and a model. It is written as an archive or
//! sent to a registry. The command line of `onnxd pack` is in `cli::pack`, not here.
//!
//! Invariant: the same input gives the same bytes.
//!
//! ```text
//! elf (which machine) ─┐
//!                      ├─► layer ─► image ─► archive (docker-archive, OCI layout)
//! model::ModelFiles ───┘                └──► registry (distribution API)
//! ```

pub mod archive;
pub mod elf;
pub mod image;
pub mod layer;
pub mod reference;
pub mod registry;

pub use elf::Architecture;
pub use image::{Format, Image};
pub use layer::Layer;
pub use reference::Reference;

/// Why an image was not made or not sent.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io { path: std::path::PathBuf, source: std::io::Error },
    /// The files or arguments of the user are wrong. The text says what to change.
    #[error("{0}")]
    Input(String),
    /// The registry could not be reached, or refused a request.
    #[error(transparent)]
    Registry(#[from] registry::RegistryError),
}

impl PackError {
    fn io(path: impl Into<std::path::PathBuf>) -> impl FnOnce(std::io::Error) -> PackError {
        let path = path.into();
        move |source| PackError::Io { path, source }
    }
}
