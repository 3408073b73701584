//! Images in one tar file: a `docker-archive`, which `docker load` and upload pages accept, or an OCI image layout.
//!
//! This module decides the entries and their names. The documents and the layers come from `image` and `layer`.
//!
//! Invariants: the same images give the same bytes; a failed write leaves the old file unchanged.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, EntryType, EntryWriter, Header};

use super::PackError;
use super::Reference;
use super::image::{Document, Format, Image};
use crate::transfer::Digest;

/// The names in the archive. Each name stands for one image, or for a list of all images.
#[derive(Debug)]
pub struct Tagged {
    /// A name, and the index of its image.
    pub images: Vec<(String, usize)>,
    /// The name of the list, and the list.
    pub list: Option<(String, Document)>,
}

/// Writes the archive to `path` and returns its size in bytes. It replaces an older file only when it is complete.
///
/// Fails when a file cannot be read or written, or when a file changed while it was packed.
pub fn write(path: &Path, format: Format, images: &[Image], tagged: &Tagged) -> Result<u64, PackError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new()
        .prefix(".onnxd-pack-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(PackError::io(folder))?;
    let file = part.as_file().try_clone().map_err(PackError::io(path))?;
    let mut archive = Archive { builder: Builder::new(BufWriter::new(file)), path, names: Vec::new() };
    match format {
        Format::Docker => docker(&mut archive, images, tagged)?,
        Format::Oci => oci(&mut archive, images, tagged)?,
    }
    let size = archive.finish()?;
    part.persist(path).map_err(|error| PackError::io(path)(error.error))?;
    Ok(size)
}

/// Writes `manifest.json`, the configurations and the uncompressed layers. Digests name the configurations and layers.
/// Source: moby's image specification 1.2, "combined image JSON + filesystem changeset format".
fn docker(archive: &mut Archive<'_>, images: &[Image], tagged: &Tagged) -> Result<(), PackError> {
    let path = archive.path;
    let mut manifest = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let config = format!("{}.json", image.config_digest().hex());
        archive.bytes(&config, &image.config)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.diff_id.hex());
            archive.entry(&name, |to| layer.write(to, path))?;
            layers.push(name);
        }
        let names = tagged.images.iter().filter(|(_, image)| *image == at).map(|(name, _)| name.as_str());
        manifest.push(json!({"Config": config, "RepoTags": names.collect::<Vec<_>>(), "Layers": layers}));
    }
    archive.bytes("manifest.json", Value::from(manifest).to_string().as_bytes())
}

/// Writes `oci-layout`, `index.json` and the blobs. Source: OCI image layout specification 1.0.
fn oci(archive: &mut Archive<'_>, images: &[Image], tagged: &Tagged) -> Result<(), PackError> {
    let path = archive.path;
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    archive.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut entries: Vec<Value> = Vec::new();
    let mut enter = |document: &Document, name: &str| {
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        entries.push(json!({
            "mediaType": document.media_type, "size": document.bytes.len(), "digest": document.digest,
            "annotations": {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": full_name(name)},
        }));
    };
    for (at, image) in images.iter().enumerate() {
        let manifest = image.manifest(Format::Oci)?;
        archive.bytes(&blob(&manifest.digest), &manifest.bytes)?;
        archive.bytes(&blob(&image.config_digest()), &image.config)?;
        for layer in &image.layers {
            let compressed = layer.compressed()?;
            let name = blob(&compressed.digest);
            archive.entry(&name, |to| {
                let mut from = compressed.from(0).map_err(PackError::io(std::env::temp_dir()))?;
                io::copy(&mut from, to).map(drop).map_err(PackError::io(path))
            })?;
        }
        for (name, _) in tagged.images.iter().filter(|(_, image)| *image == at) {
            enter(&manifest, name);
        }
    }
    if let Some((name, list)) = &tagged.list {
        archive.bytes(&blob(&list.digest), &list.bytes)?;
        enter(list, name);
    }
    let index = json!({"schemaVersion": 2, "mediaType": Format::Oci.list(), "manifests": entries});
    archive.bytes("index.json", index.to_string().as_bytes())
}

/// The full name, with the registry that container engines add when a name has none.
fn full_name(name: &str) -> String {
    match (name.parse::<Reference>(), name.contains('/')) {
        (Ok(_), _) => name.to_owned(),
        (Err(_), true) => format!("docker.io/{name}"),
        (Err(_), false) => format!("docker.io/library/{name}"),
    }
}

/// A tar archive that is written entry by entry. A name that was written before is not written again.
struct Archive<'a> {
    builder: Builder<BufWriter<File>>,
    /// The final path, for errors.
    path: &'a Path,
    names: Vec<String>,
}

impl Archive<'_> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        let path = self.path;
        self.entry(name, |to| to.write_all(bytes).map_err(PackError::io(path)))
    }

    /// Adds an entry with the bytes that `content` writes.
    fn entry(
        &mut self,
        name: &str,
        content: impl FnOnce(&mut EntryWriter<'_>) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        if self.names.iter().any(|written| written == name) {
            return Ok(());
        }
        let failed = || PackError::io(self.path);
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let mut entry = self.builder.append_writer(&mut header, name).map_err(failed())?;
        content(&mut entry)?;
        entry.finish().map_err(failed())?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Writes everything to the disk. Returns the archive's size in bytes.
    fn finish(self) -> Result<u64, PackError> {
        let failed = || PackError::io(self.path);
        let buffer = self.builder.into_inner().map_err(failed())?;
        let file = buffer.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.sync_all().map_err(failed())?;
        Ok(file.metadata().map_err(failed())?.len())
    }
}
