//! `onnxd pack`: makes an image from models and a static onnxd, and writes it to a file or sends it to a registry. This
//! file has the flags, their checks and the order of the steps; how images are built and sent is in [`crate::pack`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser};

use super::logging;
use crate::config::{FetchFlags, Limits, LogFlags, LogFormat, ServeFlags};
use crate::fetch::Fetcher;
use crate::inference;
use crate::model::ModelFiles;
use crate::onnx::external::data_files;
use crate::pack::archive::{self, Tagged};
use crate::pack::image::{self, Document};
use crate::pack::layer::Files;
use crate::pack::registry::{self, Access, Client, Credentials};
use crate::pack::{Architecture, Format, Image, Layer, PackError, Reference, elf, reference};
use crate::transfer::Progress;
use crate::transfer::progress::Lines;

#[derive(Debug, Args)]
pub struct PackFlags {
    /// An .onnx file, a folder with model.json or model.onnx, or a folder of such folders
    model: PathBuf,

    /// Write the images to this file, a tar archive
    #[arg(short, long, value_name = "FILE", required_unless_present = "push")]
    output: Option<PathBuf>,

    /// Send the images to a registry
    #[arg(long, value_name = "HOST/ORGANISATION/NAME:TAG")]
    push: Option<Reference>,

    /// Media types of the image, and layout of the file
    #[arg(long, value_enum, default_value_t = Format::Docker)]
    format: Format,

    /// An image for each of these [default: those of --binary, or this machine's]
    #[arg(long, value_enum, value_delimiter = ',')]
    arch: Vec<Architecture>,

    /// The static onnxd for an architecture [default for this machine's: the one that is running]
    #[arg(long, value_name = "ARCH=FILE", value_parser = binary)]
    binary: Vec<(Architecture, PathBuf)>,

    /// The image's name in the file [default: that of --push, or the model's name and version]
    #[arg(long, value_name = "NAME:TAG")]
    tag: Option<String>,

    /// Use one tag (a manifest list) for all architectures, instead of NAME:TAG-amd64 and NAME:TAG-arm64
    #[arg(long)]
    list: bool,

    /// Add a label to the image
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,

    /// Times in the image, in seconds since 1970; the same input makes the same image
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=253_402_300_799))]
    created: u64,

    #[command(flatten)]
    registry: RegistryFlags,

    #[command(flatten)]
    fetch: FetchFlags,

    /// Flags of `onnxd serve` inside the image
    #[arg(last = true, value_name = "FLAGS")]
    arguments: Vec<String>,
}

/// How a registry is reached, and as whom.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Registry (without a user, the login of `docker login` or `podman login` is used)"
)]
struct RegistryFlags {
    /// The user who pushes
    #[arg(long, env = "ONNXD_REGISTRY_USERNAME", requires = "registry_password")]
    registry_username: Option<String>,

    /// The user's password; better in the environment, where no list of processes shows it
    #[arg(long, env = "ONNXD_REGISTRY_PASSWORD", hide_env_values = true, requires = "registry_username")]
    registry_password: Option<String>,

    /// SWR's access key (AK), for registries called swr.…; user and password are computed from AK and SK
    #[arg(long, env = "ONNXD_SWR_AK", requires = "swr_sk")]
    swr_ak: Option<String>,

    /// SWR's secret key (SK); better in the environment
    #[arg(long, env = "ONNXD_SWR_SK", hide_env_values = true, requires = "swr_ak")]
    swr_sk: Option<String>,

    /// The project of the AK; AK and SK are then used for any registry [default: the region in the host's name]
    #[arg(long, env = "ONNXD_SWR_PROJECT", requires = "swr_ak")]
    swr_project: Option<String>,

    /// A PEM file with the authorities to trust for the registry's certificate, instead of the public ones
    #[arg(long, env = "ONNXD_REGISTRY_CA", value_name = "FILE")]
    registry_ca: Option<PathBuf>,

    /// Use HTTP without TLS for the registry
    #[arg(long)]
    plain_http: bool,

    /// Send layers in requests of this many bytes: for proxies with a limit, and unstable connections
    /// [default: whole; in pieces after an interruption]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    chunk_bytes: Option<u64>,
}

/// Makes the images, and writes or pushes them. Prints what was made to standard output, and an error to standard
/// error.
pub fn run(flags: &PackFlags) -> ExitCode {
    let log = LogFlags { log: "warn".into(), log_format: LogFormat::Text };
    if let Err(error) = logging::start(&log, Limits::default().max_log_bytes) {
        eprintln!("onnxd: {error}");
        return ExitCode::FAILURE;
    }
    match pack(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onnxd pack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pack(flags: &PackFlags) -> Result<(), PackError> {
    if let Some(path) = flags.output.as_ref().filter(|path| path.exists() && !path.is_file()) {
        return Err(PackError::Input(format!(
            "{}: is not a regular file, so it cannot be replaced: name another --output",
            path.display()
        )));
    }
    let binaries = binaries(flags)?;
    let arguments = arguments(flags)?;
    // The login comes first, so that wrong credentials fail before models are loaded and compressed.
    let mut client = flags.push.as_ref().map(|to| client(to, &flags.registry)).transpose()?;
    let models = models(flags)?;
    let (name, tag) = name(flags, &models)?;
    let images = images(flags, &models, &binaries, &arguments)?;
    let progress = Progress::new();
    let architectures: Vec<&str> = images.iter().map(|image| image.architecture.name()).collect();
    println!("image    {name}:{tag} for linux/{}", architectures.join(", linux/"));
    for model in models.iter().filter(|model| model.manifest.url.is_some()) {
        println!(
            "fetches  {} when it starts, into a folder that must be named: -e ONNXD_CACHE=…",
            model.name
        );
    }
    println!("layers   /onnxd {}, /model {}", sizes(&images), megabytes(images[0].layers[1].size));
    if let Some(path) = &flags.output {
        let tagged = tagged(flags, &images, &format!("{name}:{tag}"))?;
        let size = archive::write(path, flags.format, &images, &tagged)?;
        println!("wrote    {}, {}", path.display(), megabytes(size));
    }
    if let (Some(client), Some(to)) = (&mut client, &flags.push) {
        for pushed in push(flags, client, to, &images, &progress)? {
            println!("pushed   {} {}", pushed.reference, pushed.manifest.digest);
        }
    }
    Ok(())
}

fn sizes(images: &[Image]) -> String {
    let sizes: Vec<String> = images.iter().map(|image| megabytes(image.layers[0].size)).collect();
    sizes.join(" and ")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// The program file of each requested architecture. Fails when one is missing, has another architecture, or is not
/// static.
fn binaries(flags: &PackFlags) -> Result<Vec<(Architecture, PathBuf)>, PackError> {
    let mut wanted = flags.arch.clone();
    if wanted.is_empty() {
        wanted.extend(flags.binary.iter().map(|(architecture, _)| *architecture));
    }
    if wanted.is_empty() {
        wanted.extend(Architecture::own());
    }
    wanted.sort();
    wanted.dedup();
    let mut binaries = Vec::new();
    for architecture in wanted {
        let named =
            flags.binary.iter().find(|(named, _)| *named == architecture).map(|(_, path)| path.clone());
        let path = match named {
            Some(path) => path,
            None if Architecture::own() == Some(architecture) => std::env::current_exe()
                .map_err(|source| PackError::Io { path: "this program".into(), source })?,
            None => {
                return Err(PackError::Input(format!(
                    "there is no onnxd for {architecture} here: name one by --binary {architecture}=FILE"
                )));
            }
        };
        let found = elf::static_program(&path)?;
        if found != architecture {
            return Err(PackError::Input(format!(
                "{}: a program for {found}, where one for {architecture} was expected",
                path.display()
            )));
        }
        binaries.push((architecture, path));
    }
    if let Some((unused, _)) =
        flags.binary.iter().find(|(named, _)| !binaries.iter().any(|(a, _)| a == named))
    {
        return Err(PackError::Input(format!(
            "--binary {unused}=… is given, but --arch does not ask for {unused}"
        )));
    }
    if flags.list && flags.format == Format::Docker && flags.output.is_some() {
        return Err(PackError::Input(
            "a docker archive holds no list: leave --list out, or add --format oci".into(),
        ));
    }
    Ok(binaries)
}

// Parses the flags for the image, to check them. Not a `///` comment, because clap would show it as help.
#[derive(Debug, Parser)]
#[command(name = "onnxd serve", no_binary_name = true)]
struct Serve {
    #[command(flatten)]
    flags: ServeFlags,
}

/// The command that the image runs. Its flags are checked here, so that `pack` fails instead of the container.
fn arguments(flags: &PackFlags) -> Result<Vec<String>, PackError> {
    let serve: Vec<String> = std::iter::once("/model".to_owned()).chain(flags.arguments.clone()).collect();
    let wrong = |error: String| PackError::Input(format!("after `--`: {error}"));
    let parsed = Serve::try_parse_from(&serve).map_err(|error| wrong(error.to_string()))?;
    parsed.flags.limits.checked().map_err(wrong)?;
    parsed.flags.fetch.fetching().map_err(wrong)?;
    Ok(std::iter::once("serve".to_owned()).chain(serve).collect())
}

/// The models. Each is loaded once, so that only models that can be served are packed.
fn models(flags: &PackFlags) -> Result<Vec<ModelFiles>, PackError> {
    let fetching = flags.fetch.fetching().map_err(PackError::Input)?;
    let models = Fetcher::new(fetching, Lines::StandardError).models(&flags.model.clone().into());
    let models = models.map_err(|error| PackError::Input(error.to_string()))?;
    for files in &models {
        let limits = Limits::default();
        let loaded = match files.manifest.ensemble_scheduling {
            Some(_) => inference::chain::trial::load(files, &models, &limits).map(|_| ()),
            None => inference::load(files.clone(), &limits).map(|_| ()),
        };
        loaded.map_err(|error| {
            PackError::Input(format!("{error}\n`onnxd check {}` tells more", flags.model.display()))
        })?;
    }
    Ok(models)
}

/// The image's name and tag: those of `--tag`, else of `--push`, else of the model.
fn name(flags: &PackFlags, models: &[ModelFiles]) -> Result<(String, String), PackError> {
    let own = match models {
        [model] => format!("{}:{}", model.name.to_lowercase(), model.version),
        _ => "onnxd:latest".into(),
    };
    let said = match (&flags.tag, &flags.push) {
        (Some(tag), _) => tag.clone(),
        (None, Some(push)) => push.to_string(),
        (None, None) => own,
    };
    // A name with a registry is parsed as a whole, because the registry may have a port, which also follows a `:`.
    match said.parse::<Reference>() {
        Ok(whole) => Ok((format!("{}/{}", whole.registry, whole.repository), whole.tag)),
        Err(_) => reference::name(&said).map_err(|error| PackError::Input(format!("--tag: {error}"))),
    }
}

/// An image for each architecture: a layer with its program, and a layer with the models, which all of them share.
fn images(
    flags: &PackFlags,
    models: &[ModelFiles],
    binaries: &[(Architecture, PathBuf)],
    arguments: &[String],
) -> Result<Vec<Image>, PackError> {
    let (mut files, mut packed) = (Files::default(), BTreeSet::new());
    for model in models {
        for (path, source) in parts(model)? {
            let path = Path::new("model").join(&model.name).join(path);
            // Versions of a model may share its manifest and its labels.
            if packed.insert(path.clone()) {
                files.add(path, source);
            }
        }
    }
    let model = Arc::new(Layer::new(files, flags.created)?);
    binaries
        .iter()
        .map(|(architecture, path)| {
            let mut files = Files::default();
            files.add_program("onnxd", path);
            let layers = vec![Arc::new(Layer::new(files, flags.created)?), model.clone()];
            Ok(Image::new(*architecture, layers, arguments, &flags.label, flags.created))
        })
        .collect()
}

/// The files that serving a model reads, by their paths below its folder.
fn parts(model: &ModelFiles) -> Result<Vec<(PathBuf, PathBuf)>, PackError> {
    let is_elsewhere = model.manifest.url.is_some() || model.manifest.ensemble_scheduling.is_some();
    if is_elsewhere && model.manifest_file.is_none() {
        return Err(PackError::Input(
            "there is nothing to pack: put the URL as `url` into a model.json, with its `sha256`, and pack that".into(),
        ));
    }
    let data = if is_elsewhere { Ok(Vec::new()) } else { data_files(&model.onnx) };
    let data = data.map_err(|error| PackError::Input(error.to_string()))?;
    let parts = model.parts(&data).map_err(|error| PackError::Input(error.to_string()))?;
    parts.iter().try_for_each(|(_, source)| check_inside(model, source))?;
    Ok(parts)
}

/// Refuses a link to a file outside the model's folder, because the image could then publish a private file by mistake.
/// Links within the folder are allowed: Kubernetes mounts ConfigMaps with such links.
fn check_inside(model: &ModelFiles, part: &Path) -> Result<(), PackError> {
    let resolve =
        |path: &Path| path.canonicalize().map_err(|source| PackError::Io { path: path.into(), source });
    let manifest_folder = model.manifest_file.as_deref().map(|file| file.parent().unwrap_or(Path::new("")));
    let target = resolve(part)?;
    for folder in std::iter::once(model.folder.as_path()).chain(manifest_folder) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        // A model with a `url` has no folder before it is fetched.
        if folder.exists() && target.starts_with(resolve(folder)?) {
            return Ok(());
        }
    }
    Err(PackError::Input(format!(
        "{} is a link to {}, which is not below the model's folder: copy the file itself there",
        part.display(),
        target.display()
    )))
}

fn tagged(flags: &PackFlags, images: &[Image], name: &str) -> Result<Tagged, PackError> {
    if flags.list {
        return Ok(Tagged { images: Vec::new(), list: Some((name.to_owned(), list(images, flags.format)?)) });
    }
    let names = images.iter().enumerate().map(|(at, image)| (of_architecture(name, image, images.len()), at));
    Ok(Tagged { images: names.collect(), list: None })
}

/// The name of an image. It ends in the architecture when there are several images.
fn of_architecture(name: &str, image: &Image, images: usize) -> String {
    if images == 1 { name.to_owned() } else { format!("{name}-{}", image.architecture) }
}

fn list(images: &[Image], format: Format) -> Result<Document, PackError> {
    let manifests: Result<Vec<_>, PackError> =
        images.iter().map(|image| Ok((image.architecture, image.manifest(format)?))).collect();
    Ok(image::list(&manifests?, format))
}

fn client(to: &Reference, flags: &RegistryFlags) -> Result<Client, PackError> {
    let credentials = match (&flags.registry_username, &flags.registry_password, &flags.swr_ak, &flags.swr_sk)
    {
        (Some(username), Some(password), ..) => {
            Some(Credentials::Password { username: username.clone(), password: password.clone() })
        }
        (_, _, Some(access_key), Some(secret_key)) => {
            let project = flags.swr_project.as_deref().or_else(|| region(&to.registry));
            match project {
                Some(project) => Some(Credentials::swr(project, access_key, secret_key)),
                // The keys in the environment are for SWR, and this is another registry.
                None => Credentials::kept(&to.registry, &to.repository)?,
            }
        }
        _ => Credentials::kept(&to.registry, &to.repository)?,
    };
    let access = Access {
        plain_http: flags.plain_http,
        ca_file: flags.registry_ca.clone(),
        credentials,
        chunk: flags.chunk_bytes,
    };
    let mut client = Client::new(to, access)?;
    client.login()?;
    Ok(client)
}

/// The region in `swr.<region>.myhuaweicloud.com`.
fn region(registry: &str) -> Option<&str> {
    registry.strip_prefix("swr.")?.split('.').next()
}

fn push(
    flags: &PackFlags,
    client: &mut Client,
    to: &Reference,
    images: &[Image],
    progress: &Progress,
) -> Result<Vec<registry::Pushed>, PackError> {
    if flags.list {
        let list = list(images, flags.format)?;
        return Ok(vec![registry::push_list(client, to, list, images, flags.format, progress)?]);
    }
    let tagged: Vec<(Reference, &Image)> = images
        .iter()
        .map(|image| (to.with_tag(of_architecture(&to.tag, image, images.len())), image))
        .collect();
    registry::push(client, &tagged, flags.format, progress)
}

fn binary(text: &str) -> Result<(Architecture, PathBuf), String> {
    let expected = || format!("expected ARCH=FILE, for example arm64=dist/onnxd-arm64, but `{text}` came");
    let (architecture, path) = text.split_once('=').ok_or_else(expected)?;
    let architecture = clap::ValueEnum::from_str(architecture, false).map_err(|_| expected())?;
    Ok((architecture, path.into()))
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("expected KEY=VALUE, but `{text}` came")),
    }
}
