//! Images in one file: `docker-archive`, which `docker load` and upload pages take, and the OCI image
//! layout as a tar archive.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::PackError;
use super::Reference;
use super::image::{Document, Format, Image};
use crate::transfer::Digest;

/// Images as they are to be found: under each name, an image or a list of all of them.
#[derive(Debug)]
pub struct Tagged {
    /// Image `n` under a name.
    pub images: Vec<(String, usize)>,
    /// All images under one name.
    pub list: Option<(String, Document)>,
}

/// Writes `path` as a whole or not at all: what is there before stays until the archive is complete.
pub fn write(path: &Path, format: Format, images: &[Image], tagged: &Tagged) -> Result<u64, PackError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = tempfile::Builder::new()
        .prefix(".onnxd-pack-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(PackError::io(folder))?;
    let file = part.as_file().try_clone().map_err(PackError::io(path))?;
    let mut archive = Archive { file: BufWriter::new(file), path, names: Vec::new(), size: 0 };
    match format {
        Format::Docker => docker(&mut archive, images, tagged)?,
        Format::Oci => oci(&mut archive, images, tagged)?,
    }
    let size = archive.finish()?;
    part.persist(path).map_err(|error| PackError::io(path)(error.error))?;
    Ok(size)
}

/// `manifest.json`, and under their digests the configurations and the layers, not compressed
/// (moby's image specification 1.2, "combined image JSON + filesystem changeset format").
fn docker(archive: &mut Archive<'_>, images: &[Image], tagged: &Tagged) -> Result<(), PackError> {
    let path = archive.path;
    let mut manifest = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let config = format!("{}.json", image.config_digest().hex());
        archive.bytes(&config, &image.config)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.diff_id.hex());
            archive.entry(&name, layer.size, |to| layer.write(to, path))?;
            layers.push(name);
        }
        let names = tagged.images.iter().filter(|(_, image)| *image == at).map(|(name, _)| name.as_str());
        manifest.push(json!({"Config": config, "RepoTags": names.collect::<Vec<_>>(), "Layers": layers}));
    }
    archive.bytes("manifest.json", Value::from(manifest).to_string().as_bytes())
}

/// `oci-layout`, `index.json` and the blobs (OCI image layout specification 1.0).
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
            archive.entry(&name, compressed.size, |to| {
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

/// A name as engines complete it that know it without a registry.
fn full_name(name: &str) -> String {
    match (name.parse::<Reference>(), name.contains('/')) {
        (Ok(_), _) => name.to_owned(),
        (Err(_), true) => format!("docker.io/{name}"),
        (Err(_), false) => format!("docker.io/library/{name}"),
    }
}

/// A tar archive that is written entry by entry; an entry that is there already is not written again.
struct Archive<'a> {
    file: BufWriter<File>,
    path: &'a Path,
    names: Vec<String>,
    size: u64,
}

/// What a tar archive is made of.
const BLOCK: u64 = 512;

impl Archive<'_> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        let path = self.path;
        self.entry(name, bytes.len() as u64, |to| to.write_all(bytes).map_err(PackError::io(path)))
    }

    /// An entry of `size` bytes, which `content` writes.
    fn entry(
        &mut self,
        name: &str,
        size: u64,
        content: impl FnOnce(&mut BufWriter<File>) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        if self.names.iter().any(|there| there == name) {
            return Ok(());
        }
        let failed = || PackError::io(self.path);
        let mut header = Header::new_ustar();
        header.set_path(name).map_err(failed())?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.file.write_all(header.as_bytes()).map_err(failed())?;
        content(&mut self.file)?;
        let padding = size.next_multiple_of(BLOCK) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut self.file).map_err(failed())?;
        self.size += BLOCK + size + padding;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The archive's bytes, all of them on the disk.
    fn finish(mut self) -> Result<u64, PackError> {
        let failed = || PackError::io(self.path);
        self.file.write_all(&[0; 2 * BLOCK as usize]).map_err(failed())?;
        let file = self.file.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.sync_all().map_err(failed())?;
        Ok(self.size + 2 * BLOCK)
    }
}
