//! The documents of an image: its configuration, its manifest, and the list of several manifests. Building layers
//! belongs to `layer`, writing a file to `archive`, sending to `registry`.
//!
//! Sources: Docker's image manifest version 2, schema 2, and OCI image specification 1.0. Both have the same documents
//! with different media types.
//!
//! Invariant: the same arguments give the same bytes, and so the same digests.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::PackError;
use super::elf::Architecture;
use super::layer::Layer;
use crate::transfer::Digest;

/// The specification whose media types the documents name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Docker's image manifest, version 2, schema 2: every registry and engine accepts it
    Docker,
    /// The image specification of the Open Container Initiative
    Oci,
}

impl Format {
    /// The media type of the manifest of one image.
    pub fn manifest(self) -> &'static str {
        match self {
            Format::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            Format::Oci => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    /// The media type of a list of manifests (OCI: image index).
    pub fn list(self) -> &'static str {
        match self {
            Format::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
            Format::Oci => "application/vnd.oci.image.index.v1+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Format::Docker => "application/vnd.docker.container.image.v1+json",
            Format::Oci => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Format::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Format::Oci => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// An image for one architecture.
#[derive(Debug)]
pub struct Image {
    /// The architecture of the program in the first layer.
    pub architecture: Architecture,
    /// From the lowest to the highest: the program, then the model. Images for several architectures share the layer of
    /// the model.
    pub layers: Vec<Arc<Layer>>,
    /// The configuration, a JSON text.
    pub config: Vec<u8>,
}

/// A JSON document that a registry or an image layout stores under its digest.
#[derive(Debug, Clone)]
pub struct Document {
    pub media_type: &'static str,
    /// The JSON text.
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: Digest,
}

/// The reference to a document or a layer in another document. `size` is in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'static str,
    size: u64,
    digest: &'a Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Debug, Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'static str>,
}

impl Platform {
    fn of(architecture: Architecture) -> Platform {
        Platform { architecture: architecture.name(), os: "linux", variant: architecture.variant() }
    }
}

impl Document {
    fn new(media_type: &'static str, content: &impl Serialize) -> Document {
        let bytes = serde_json::to_vec(content).expect("text keys and plain values");
        Document { media_type, digest: Digest::of(&bytes), bytes }
    }

    fn descriptor(&self, platform: Option<Platform>) -> Descriptor<'_> {
        Descriptor {
            media_type: self.media_type,
            size: self.bytes.len() as u64,
            digest: &self.digest,
            platform,
        }
    }
}

impl Image {
    /// An image that runs `/onnxd` with `arguments`. It has the settings of Dockerfile.scratch; a change here needs the
    /// same change there. `labels` replace the default labels with the same key. `created` is in seconds since 1970.
    pub fn new(
        architecture: Architecture,
        layers: Vec<Arc<Layer>>,
        arguments: &[String],
        labels: &[(String, String)],
        created: u64,
    ) -> Image {
        let seconds = |count: u64| count * 1_000_000_000;
        let created =
            jiff::Timestamp::from_second(created.try_into().unwrap_or(0)).unwrap_or_default().to_string();
        let history: Vec<Value> =
            layers.iter().map(|_| json!({"created": created, "created_by": "onnxd pack"})).collect();
        let mut all: serde_json::Map<String, Value> = [
            ("org.opencontainers.image.title", "onnxd"),
            ("org.opencontainers.image.description", env!("CARGO_PKG_DESCRIPTION")),
            ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
            ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION")),
        ]
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .into_iter()
        .collect();
        all.extend(labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))));
        let mut config = json!({
            "architecture": architecture.name(),
            "os": "linux",
            "created": created,
            "config": {
                // ModelArts runs custom engines as this user.
                "User": "1000:100",
                "ExposedPorts": {"8080/tcp": {}},
                "Env": ["PATH=/"],
                "Entrypoint": ["/onnxd"],
                "Cmd": arguments,
                "WorkingDir": "/",
                "Healthcheck": {
                    "Test": ["CMD", "/onnxd", "healthcheck"],
                    "Interval": seconds(5), "Timeout": seconds(3), "StartPeriod": seconds(12), "Retries": 12,
                },
                "Labels": all,
            },
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
            "history": history,
        });
        if let Some(variant) = architecture.variant() {
            config["variant"] = variant.into();
        }
        Image { architecture, layers, config: config.to_string().into_bytes() }
    }

    /// The digest of the configuration, which is also the image ID of Docker.
    pub fn config_digest(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// The manifest. Compresses the layers, unless that was done before.
    ///
    /// Fails when a file of a layer cannot be read or has changed, or when the temporary folder cannot be written.
    pub fn manifest(&self, format: Format) -> Result<Document, PackError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Manifest<'a> {
            schema_version: u8,
            media_type: &'static str,
            config: Descriptor<'a>,
            layers: Vec<Descriptor<'a>>,
        }
        let config = Document {
            media_type: format.config(),
            digest: self.config_digest(),
            bytes: self.config.clone(),
        };
        let layers = self.layers.iter().map(|layer| {
            let compressed = layer.compressed()?;
            Ok(Descriptor {
                media_type: format.layer(),
                size: compressed.size,
                digest: &compressed.digest,
                platform: None,
            })
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: format.manifest(),
            config: config.descriptor(None),
            layers: layers.collect::<Result<_, PackError>>()?,
        };
        Ok(Document::new(format.manifest(), &manifest))
    }
}

/// A list of the manifests of several architectures. A container engine takes the one of its own architecture.
pub fn list(images: &[(Architecture, Document)], format: Format) -> Document {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        schema_version: u8,
        media_type: &'static str,
        manifests: Vec<Descriptor<'a>>,
    }
    let manifests = images
        .iter()
        .map(|(architecture, manifest)| manifest.descriptor(Some(Platform::of(*architecture))))
        .collect();
    Document::new(format.list(), &List { schema_version: 2, media_type: format.list(), manifests })
}
