//! Sends images to a registry. Source: OCI distribution specification 1.1, the same as Docker's registry API v2.
//! How an image is built is in `image` and `layer`, not here.
//!
//! Invariant: blobs are sent first, then manifests, then tags. A push that fails leaves no tag that points to an
//! incomplete image.

mod client;
mod credentials;
mod patience;
mod upload;

pub use client::{Access, Client};
pub use credentials::{Credentials, swr_password};

use super::image::{Document, Format};
use super::{Image, PackError, Reference};
use crate::transfer::Progress;

/// Why a push failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry answered, but not with success.
    #[error("{registry}: {message}")]
    Refused { registry: String, message: String },
    /// There was no answer. Another attempt may succeed.
    #[error("{registry} was not reached: {message}")]
    Unreachable { registry: String, message: String },
    /// The stored credentials or the certificate authorities cannot be read.
    #[error("{0}")]
    Credentials(String),
}

/// A manifest (of an image or a list) and the name under which it was sent.
#[derive(Debug)]
pub struct Pushed {
    pub reference: Reference,
    pub manifest: Document,
}

/// Sends each image under its own tag. The tags are written after all images are complete.
pub fn push(
    client: &mut Client,
    images: &[(Reference, &Image)],
    format: Format,
    progress: &Progress,
) -> Result<Vec<Pushed>, PackError> {
    let mut manifests = Vec::new();
    for (reference, image) in images {
        manifests
            .push(Pushed { reference: reference.clone(), manifest: send(client, image, format, progress)? });
    }
    for pushed in &manifests {
        put_manifest(client, &pushed.reference.tag, &pushed.manifest, progress)?;
    }
    Ok(manifests)
}

/// Sends all images under one tag. The tag points to `list`.
pub fn push_list(
    client: &mut Client,
    reference: &Reference,
    list: Document,
    images: &[Image],
    format: Format,
    progress: &Progress,
) -> Result<Pushed, PackError> {
    for image in images {
        let manifest = send(client, image, format, progress)?;
        put_manifest(client, &manifest.digest.to_string(), &manifest, progress)?;
    }
    put_manifest(client, &reference.tag, &list, progress)?;
    Ok(Pushed { reference: reference.clone(), manifest: list })
}

fn put_manifest(
    client: &mut Client,
    name: &str,
    manifest: &Document,
    progress: &Progress,
) -> Result<(), PackError> {
    let what = format!("the manifest of `{name}`");
    patience::patiently(&what, progress, || client.put_manifest(name, manifest))
}

/// Sends the layers and the configuration, and returns the manifest, which is not sent yet.
fn send(
    client: &mut Client,
    image: &Image,
    format: Format,
    progress: &Progress,
) -> Result<Document, PackError> {
    for (at, layer) in image.layers.iter().enumerate() {
        let compressed = layer.compressed()?;
        let what = format!("{} layer {} of {}", image.architecture, at + 1, image.layers.len());
        upload::blob(client, &compressed.digest, upload::Source::Layer(compressed), &what, progress)?;
    }
    let what = format!("{} configuration", image.architecture);
    upload::blob(client, &image.config_digest(), upload::Source::Bytes(&image.config), &what, progress)?;
    image.manifest(format)
}
