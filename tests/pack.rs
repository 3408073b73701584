//! Images without Docker. The program in them is only the first part of a static binary, because `pack` reads no more.
//! tests/image/run tests a complete image with a real registry and a real container engine.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::registry::{Fault, Login, Registry, sha256};
use crate::support::*;

/// An ELF program with one loadable segment, for a machine (62 is amd64, 183 arm64); then bytes that do not compress.
fn program(test: &str, machine: u16, interpreter: bool) -> PathBuf {
    let mut bytes = vec![0u8; 64 + 56];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
    bytes[64..68].copy_from_slice(&(if interpreter { 3u32 } else { 1 }).to_le_bytes());
    let mut state = 1u64;
    bytes.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(100_000),
    );
    let path = folder(&format!("{test}-program-{machine}-{interpreter}")).join("onnxd");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// `--binary` of a static program.
fn binary(test: &str, architecture: &str) -> String {
    let machine = if architecture == "arm64" { 183 } else { 62 };
    format!("{architecture}={}", program(test, machine, false).display())
}

fn pack(arguments: &[&str]) -> Command {
    let mut command = onnxd();
    command.arg("pack").args(arguments);
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", said(&output));
    said(&output)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A tar archive's files, and of each what it says of itself: `mode uid:gid time`.
fn untar(bytes: &[u8]) -> HashMap<String, (Vec<u8>, String)> {
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let mut files = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let about = format!(
            "{:o} {}:{} {}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap()
        );
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(files.insert(path.clone(), (content, about)).is_none(), "{path} is there twice");
    }
    files
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[cfg(feature = "text")]
#[test]
fn a_tokenizer_is_shipped_with_its_model() {
    let out = folder("pack-tokenizer").join("image.tar");
    let binary = binary("pack-tokenizer", "amd64");
    done(&mut pack(&["tests/models/embed", "--binary", &binary, "-o", out.to_str().unwrap()]));
    let files = untar(&std::fs::read(&out).unwrap());
    let layer = parse(&files["manifest.json"].0)[0]["Layers"][1].as_str().unwrap().to_owned();
    let model = untar(&files[&layer].0);
    assert!(model.contains_key("model/embed/tokenizer.json"), "{:?}", model.keys());
}

#[test]
fn a_chain_is_packed_with_its_models_and_the_labels_that_its_result_names() {
    let repository = folder("pack-chain");
    for (model, manifest) in [
        ("affine", json!({"public": false})),
        (
            "chain",
            json!({"ensemble_scheduling": {"step": [
                       {"model_name": "affine", "input_map": {"x": "numbers"}, "output_map": {"y": "two"}}]},
                   "result": {"kind": "events", "labels": "labels.txt", "hop_ms": 10}}),
        ),
    ] {
        std::fs::create_dir_all(repository.join(model)).unwrap();
        std::fs::write(repository.join(model).join("model.json"), manifest.to_string()).unwrap();
    }
    std::fs::copy(test_model("affine").join("model.onnx"), repository.join("affine/model.onnx")).unwrap();
    std::fs::write(repository.join("chain/labels.txt"), "a\nb\n").unwrap();
    let out = folder("pack-chain-out").join("image.tar");
    let binary = binary("pack-chain", "amd64");
    let flags = [repository.to_str().unwrap(), "--binary", &binary, "-o", out.to_str().unwrap()];
    done(&mut pack(&flags));
    let files = untar(&std::fs::read(&out).unwrap());
    let layer = parse(&files["manifest.json"].0)[0]["Layers"][1].as_str().unwrap().to_owned();
    let model = untar(&files[&layer].0);
    for file in ["affine/model.onnx", "affine/model.json", "chain/model.json", "chain/labels.txt"] {
        assert!(model.contains_key(&format!("model/{file}")), "{file}: {:?}", model.keys());
    }
    assert!(!model.contains_key("model/chain/model.onnx"));
}

#[test]
fn a_docker_archive_holds_the_program_and_the_model_and_says_how_to_run_them() {
    let out = folder("pack-docker").join("image.tar");
    let binary = binary("pack-docker", "amd64");
    let flags = ["model/digits", "--binary", &binary, "--label", "team=a", "-o", out.to_str().unwrap()];
    let said = done(pack(&flags).args(["--", "--max-connections", "7"]));
    assert!(said.contains("digits:1 for linux/amd64"), "{said}");
    let files = untar(&std::fs::read(&out).unwrap());
    let manifest = parse(&files["manifest.json"].0);
    let image = &manifest[0];
    assert_eq!(image["RepoTags"], json!(["digits:1"]));
    let config = &files[image["Config"].as_str().unwrap()].0;
    assert_eq!(image["Config"], format!("{}.json", &sha256(config)[7..]));
    let config = parse(config);
    let mut layers = image["Layers"].as_array().unwrap().iter().map(|name| &files[name.as_str().unwrap()].0);
    let (first, second) = (layers.next().unwrap(), layers.next().unwrap());
    assert_eq!(config["rootfs"]["diff_ids"], json!([sha256(first), sha256(second)]));
    assert_eq!((&config["architecture"], &config["os"]), (&json!("amd64"), &json!("linux")));
    let run = &config["config"];
    assert_eq!(run["User"], "1000:100");
    assert_eq!(run["ExposedPorts"], json!({"8080/tcp": {}}));
    assert_eq!(run["Entrypoint"], json!(["/onnxd"]));
    assert_eq!(run["Cmd"], json!(["serve", "/model", "--max-connections", "7"]));
    assert_eq!(run["Healthcheck"]["Test"], json!(["CMD", "/onnxd", "healthcheck"]));
    assert_eq!(run["Labels"]["team"], "a");
    assert_eq!(run["Labels"]["org.opencontainers.image.title"], "onnxd");
    let first = untar(first);
    assert_eq!(first["onnxd"].1, "755 0:0 0");
    assert_eq!(first["onnxd"].0, std::fs::read(binary.split_once('=').unwrap().1).unwrap());
    let second = untar(second);
    let mut names: Vec<&str> = second.keys().map(String::as_str).collect();
    names.sort_unstable();
    // What nothing names (the training's report) stays out.
    let expected = [
        "model",
        "model/digits",
        "model/digits/labels.txt",
        "model/digits/model.json",
        "model/digits/model.onnx",
    ];
    assert_eq!(names, expected);
    assert_eq!(second["model/digits/model.onnx"].1, "644 0:0 0");
    assert_eq!(second["model/digits"].1, "755 0:0 0");
    assert_eq!(
        second["model/digits/model.onnx"].0,
        std::fs::read(root().join("model/digits/model.onnx")).unwrap()
    );
}

#[test]
fn the_same_input_makes_the_same_image_wherever_and_whenever() {
    let names = ["pack-same-a", "pack-same-b"];
    let [first, second] = names.map(|name| {
        let model = with_manifest("affine", name, r#"{"name":"affine"}"#);
        let out = folder(&format!("{name}-out")).join("image.tar");
        ["docker", "oci"].map(|format| {
            let binary = binary(name, "amd64");
            let flags = ["--binary", &binary, "--format", format, "-o", out.to_str().unwrap()];
            done(pack(&[model.to_str().unwrap()]).args(flags));
            std::fs::read(&out).unwrap()
        })
    });
    assert!(first == second);
    let out = folder("pack-same-later").join("image.tar");
    let binary = binary("pack-same-later", "amd64");
    let flags = ["tests/models/affine", "--binary", &binary, "-o", out.to_str().unwrap()];
    done(pack(&flags).env("SOURCE_DATE_EPOCH", "86400"));
    let files = untar(&std::fs::read(out).unwrap());
    let config = parse(&files[parse(&files["manifest.json"].0)[0]["Config"].as_str().unwrap()].0);
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
}

/// Follows a descriptor of an OCI layout; size and digest are what it says.
fn blob<'a>(files: &'a HashMap<String, (Vec<u8>, String)>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let content = &files[&format!("blobs/sha256/{}", &digest[7..])].0;
    assert_eq!(sha256(content), digest);
    assert_eq!(descriptor["size"], content.len());
    content
}

/// Everything that a manifest names is there, and its layers are what its configuration says.
fn check_manifest(files: &HashMap<String, (Vec<u8>, String)>, manifest: &Value, architecture: &str) {
    let config = parse(blob(files, &manifest["config"]));
    assert_eq!(config["architecture"], architecture);
    let layers: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| {
            let mut tar = Vec::new();
            GzDecoder::new(blob(files, layer)).read_to_end(&mut tar).unwrap();
            sha256(&tar)
        })
        .collect();
    assert_eq!(config["rootfs"]["diff_ids"], json!(layers));
}

#[test]
fn two_architectures_are_two_tags_or_one_list_as_asked() {
    let out = folder("pack-two").join("image.tar");
    let out = out.to_str().unwrap();
    let (amd64, arm64) = (binary("pack-two", "amd64"), binary("pack-two", "arm64"));
    let flags =
        ["tests/models/affine", "--binary", &amd64, "--binary", &arm64, "-o", out, "--tag", "r.io/x:v"];
    done(&mut pack(&flags));
    let files = untar(&std::fs::read(out).unwrap());
    let manifest = parse(&files["manifest.json"].0);
    assert_eq!(manifest[0]["RepoTags"], json!(["r.io/x:v-amd64"]));
    assert_eq!(manifest[1]["RepoTags"], json!(["r.io/x:v-arm64"]));
    assert_eq!(manifest[0]["Layers"][1], manifest[1]["Layers"][1], "the model is in it once");
    done(pack(&flags).args(["--format", "oci"]));
    let files = untar(&std::fs::read(out).unwrap());
    let index = parse(&files["index.json"].0);
    for (entry, architecture) in index["manifests"].as_array().unwrap().iter().zip(["amd64", "arm64"]) {
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], format!("v-{architecture}"));
        check_manifest(&files, &parse(blob(&files, entry)), architecture);
    }
    done(pack(&flags).args(["--format", "oci", "--list"]));
    let files = untar(&std::fs::read(out).unwrap());
    let index = parse(&files["index.json"].0);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "r.io/x:v");
    let list = parse(blob(&files, &index["manifests"][0]));
    for (entry, architecture) in list["manifests"].as_array().unwrap().iter().zip(["amd64", "arm64"]) {
        assert_eq!(entry["platform"]["architecture"], architecture);
        check_manifest(&files, &parse(blob(&files, entry)), architecture);
    }
}

#[test]
fn what_could_not_run_is_refused_with_the_way_out() {
    let out = folder("pack-refused").join("image.tar");
    let out = ["-o", out.to_str().unwrap()];
    let amd64 = binary("pack-refused", "amd64");
    let swapped = format!("arm64={}", program("pack-refused", 62, false).display());
    let dynamic = format!("amd64={}", program("pack-refused", 62, true).display());
    let affine = "tests/models/affine";
    for (arguments, part) in [
        (vec![affine, "--binary", &dynamic], "this program needs a dynamic linker"),
        (vec![affine, "--binary", &swapped], "a program for amd64, where one for arm64 was expected"),
        (vec![affine, "--binary", "amd64=README.md"], "not an ELF program"),
        (vec![affine, "--binary", "amd64=none"], "none: No such file"),
        (vec![affine, "--binary", "amd64"], "expected ARCH=FILE"),
        (vec![affine, "--arch", "arm"], "there is no onnxd for arm here: name one by --binary arm=FILE"),
        (vec![affine, "--arch", "amd64", "--binary", &amd64, "--binary", &swapped], "does not ask for arm64"),
        (vec![affine, "--binary", &amd64, "--list"], "a docker archive holds no list"),
        (vec![affine, "--binary", &amd64, "--tag", "Affine:1"], "--tag: `Affine` is no repository name"),
        (vec![affine, "--binary", &amd64, "--tag", "../x:1"], "--tag: `../x` is no repository name"),
        (vec![affine, "--binary", &amd64, "--label", "x"], "expected KEY=VALUE"),
        (vec!["tests/models/unsupported", "--binary", &amd64], "`ImageDecoder` (node `decode`)"),
        (vec!["tests/data", "--binary", &amd64], "holds no model"),
        (vec![affine, "--binary", &amd64, "--", "--max-connection", "7"], "'--max-connections'"),
        (vec![affine, "--binary", &amd64, "--", "--max-in-flight", "0"], "--max-in-flight is 0"),
    ] {
        let at = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
        let mut all = arguments.clone();
        all.splice(at..at, out);
        let said = refused(&mut pack(&all));
        assert!(said.contains(part), "{arguments:?}: expected {part} in {said}");
        assert!(!Path::new(out[1]).exists());
    }
    // The program of these tests is as cargo builds it, with glibc.
    if cfg!(target_env = "gnu") {
        assert!(refused(&mut pack(&[affine, out[0], out[1]])).contains("build a static one by"));
    }
    assert!(refused(&mut pack(&[affine])).contains("--output"));
    let said = refused(&mut pack(&[affine, "--binary", &amd64, "-o", "/dev/null"]));
    assert!(said.contains("/dev/null: is not a regular file"), "{said}");
}

#[test]
fn a_models_large_tensors_in_other_files_go_with_it_and_files_outside_its_folder_do_not() {
    let out = folder("pack-outside").join("image.tar");
    let out = out.to_str().unwrap();
    let binary = binary("pack-outside", "amd64");
    for (model, folder) in
        [("tests/models/outside", "outside"), ("tests/models/outside/model.onnx", "outside")]
    {
        done(&mut pack(&[model, "--binary", &binary, "-o", out]));
        let files = untar(&std::fs::read(out).unwrap());
        let layer = parse(&files["manifest.json"].0)[0]["Layers"][1].as_str().unwrap().to_owned();
        let layer = untar(&files[&layer].0);
        assert_eq!(layer[&format!("model/{folder}/weights/w.bin")].0.len(), 32);
        // What was packed is what a server can load.
        let unpacked = crate::support::folder("pack-outside-unpacked");
        tar::Archive::new(Cursor::new(
            &files[parse(&files["manifest.json"].0)[0]["Layers"][1].as_str().unwrap()].0,
        ))
        .unpack(&unpacked)
        .unwrap();
        let program = Program::serve(&unpacked.join("model"), &[]);
        assert_eq!(
            check_cases(&mut program.connect("/?framing=v2"), &test_model("outside").join("cases"), 1e-5),
            1
        );
    }
    let manifest = r#"{"outputs":[{"name":"y","labels":"../labels.txt"}]}"#;
    let model = with_manifest("affine", "pack-outside-labels", manifest);
    std::fs::write(model.join("../labels.txt"), "a\nb\n").unwrap();
    let said = refused(&mut pack(&[model.to_str().unwrap(), "--binary", &binary, "-o", out]));
    assert!(said.contains("`../labels.txt` is not below the model's folder"), "{said}");
}

#[test]
fn a_link_ships_no_file_from_outside_the_models_folder_and_one_that_stays_inside_is_followed() {
    let out = folder("pack-link").join("image.tar");
    let binary = binary("pack-link", "amd64");
    let pack_it =
        |model: &Path| pack(&[model.to_str().unwrap(), "--binary", &binary, "-o", out.to_str().unwrap()]);
    let manifest = r#"{"outputs":[{"name":"y","labels":"labels.txt"}]}"#;
    let model = with_manifest("affine", "pack-link-model", manifest);
    let secret = folder("pack-link-outside").join("secret.txt");
    std::fs::write(&secret, "a\nb\n").unwrap();
    std::os::unix::fs::symlink(&secret, model.join("labels.txt")).unwrap();
    let said = refused(&mut pack_it(&model));
    assert!(said.contains("labels.txt is a link to") && said.contains("copy the file itself"), "{said}");
    assert!(!out.exists());
    // As Kubernetes mounts a ConfigMap.
    std::fs::remove_file(model.join("labels.txt")).unwrap();
    std::fs::create_dir(model.join("..data")).unwrap();
    std::fs::copy(&secret, model.join("..data/labels.txt")).unwrap();
    std::os::unix::fs::symlink("..data/labels.txt", model.join("labels.txt")).unwrap();
    done(&mut pack_it(&model));
    let affine = test_model("affine").join("model.onnx");
    std::fs::remove_file(model.join("model.onnx")).unwrap();
    std::os::unix::fs::symlink(affine, model.join("model.onnx")).unwrap();
    assert!(refused(&mut pack_it(&model)).contains("model.onnx is a link to"));
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_one_and_no_half() {
    let folder = folder("pack-full");
    let out = folder.join("image.tar");
    std::fs::write(&out, "old").unwrap();
    let binary = binary("pack-full", "amd64");
    // A file may have 40 KiB from here on; the image has more.
    let said = refused(
        Command::new("sh")
            .args([
                "-c",
                r#"trap '' XFSZ; ulimit -f 80; exec "$@""#,
                "sh",
                env!("CARGO_BIN_EXE_onnxd"),
                "pack",
            ])
            .args(["tests/models/affine", "--binary", &binary, "-o", out.to_str().unwrap()])
            .current_dir(root()),
    );
    assert!(said.contains("image.tar: File too large"), "{said}");
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

/// A push of the model `affine` for amd64.
fn push(test: &str, registry: &Registry) -> Command {
    let to = format!("{}/a/b:v", registry.address);
    let mut command =
        pack(&["tests/models/affine", "--binary", &binary(test, "amd64"), "--push", &to, "--plain-http"]);
    command.args(["--chunk-bytes", "30000"]);
    command
}

fn as_user<'a>(command: &'a mut Command, login: &str) -> &'a mut Command {
    let (user, password) = login.split_once(':').unwrap();
    command.env("ONNXD_REGISTRY_USERNAME", user).env("ONNXD_REGISTRY_PASSWORD", password)
}

/// The registry has a whole image under its tag.
fn check_pushed(registry: &Registry) {
    let state = registry.state();
    let (media_type, manifest) = &state.manifests["v"];
    assert_eq!(media_type, "application/vnd.docker.distribution.manifest.v2+json");
    let manifest = parse(manifest);
    assert_eq!(manifest["mediaType"], *media_type);
    for descriptor in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        assert_eq!(descriptor["size"], state.blobs[descriptor["digest"].as_str().unwrap()].len());
    }
}

#[test]
fn a_push_sends_what_the_registry_has_not_in_pieces_and_the_tag_last() {
    let registry = Registry::start(Login::Nothing);
    let said = done(&mut push("push-plain", &registry));
    assert!(said.contains(&format!("pushed   {}/a/b:v sha256:", registry.address)), "{said}");
    check_pushed(&registry);
    assert_eq!(registry.count("PATCH"), 3, "100 KB in pieces of 30");
    assert_eq!(registry.state().requests.last().unwrap().0, "PUT /v2/a/b/manifests/v");
    let said = done(&mut push("push-plain", &registry));
    assert!(said.contains("amd64 layer 1 of 2: is there already"), "{said}");
    assert_eq!(registry.count("PATCH"), 3);
}

#[test]
fn a_push_logs_in_as_the_registry_asks_and_again_when_a_token_runs_out() {
    let registry = Registry::start(Login::Basic("me:secret"));
    done(as_user(&mut push("push-basic", &registry), "me:secret"));
    check_pushed(&registry);
    // Ten requests and more: a token of three runs out in the midst of the pieces.
    let registry = Registry::start(Login::Token("me:secret", 3));
    done(as_user(&mut push("push-token", &registry), "me:secret"));
    check_pushed(&registry);
    assert!(registry.count("GET /token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush") >= 3);
    // From docker's file.
    let home = folder("push-token-home");
    let registry = Registry::start(Login::Token("me:secret", 1000));
    let auths = json!({"auths": {registry.address.to_string(): {"auth": base64(b"me:secret")}}});
    std::fs::write(home.join("config.json"), auths.to_string()).unwrap();
    done(push("push-token", &registry).env("DOCKER_CONFIG", &home));
    check_pushed(&registry);
    // From a program that keeps secrets.
    let helper = home.join("docker-credential-test");
    std::fs::write(&helper, "#!/bin/sh\necho '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n").unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(home.join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let registry = Registry::start(Login::Basic("me:secret"));
    done(
        push("push-token", &registry)
            .env("DOCKER_CONFIG", &home)
            .env("PATH", format!("{}:/bin:/usr/bin", home.display())),
    );
    check_pushed(&registry);
}

#[test]
fn the_swr_login_is_computed_from_the_keys() {
    // HMAC-SHA256 of "what do ya want for nothing?" keyed with "Jefe": RFC 4231, test case 2.
    let registry = Registry::start(Login::Basic(
        "cn-north-4@what do ya want for nothing?:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ));
    let mut command = push("push-swr", &registry);
    command.env("ONNXD_SWR_AK", "what do ya want for nothing?").env("ONNXD_SWR_SK", "Jefe");
    let said = refused(&mut command);
    assert!(said.contains("nobody is logged in"), "keys of SWR are for SWR: {said}");
    done(command.args(["--swr-project", "cn-north-4"]));
    check_pushed(&registry);
}

#[test]
fn a_cut_upload_is_taken_up_where_the_registry_lost_it() {
    let registry = Registry::start(Login::Nothing);
    registry.fails(Fault::Cut("PATCH /v2/a/b/blobs/uploads/0", 20_000));
    registry.fails(Fault::Cut("PUT /v2/a/b/blobs/uploads/", 50));
    registry.fails(Fault::Answer("PATCH", 503, "busy"));
    let said = done(&mut push("push-cut", &registry));
    assert!(said.contains("going on in 250 ms"), "{said}");
    check_pushed(&registry);
    assert!(registry.count("GET /v2/a/b/blobs/uploads/0") >= 2);
}

#[test]
fn a_layer_goes_whole_unless_told_otherwise_and_in_pieces_after_a_cut() {
    let to = |registry: &Registry| format!("{}/a/b:v", registry.address);
    let flags = |binary: &str, to: &str| {
        let mut command = pack(&["tests/models/affine", "--binary", binary, "--push", to]);
        command.arg("--plain-http");
        command
    };
    let registry = Registry::start(Login::Nothing);
    let binary = binary("push-whole", "amd64");
    done(&mut flags(&binary, &to(&registry)));
    assert_eq!(
        (registry.count("PATCH"), registry.count("PUT")),
        (0, 4),
        "two layers, what describes them, the tag"
    );
    let registry = Registry::start(Login::Nothing);
    registry.fails(Fault::Cut("PUT /v2/a/b/blobs/uploads/0", 20_000));
    done(&mut flags(&binary, &to(&registry)));
    check_pushed(&registry);
    assert_eq!((registry.count("GET /v2/a/b/blobs/uploads/0"), registry.count("POST")), (1, 3));
    // A large one asks before it sends, so that a refusal is heard: a megabyte and more would not fit a buffer.
    let path = binary.split_once('=').unwrap().1;
    let small = std::fs::read(path).unwrap();
    std::fs::write(path, small.repeat(100)).unwrap();
    let registry = Registry::start(Login::Nothing);
    registry.fails(Fault::Answer("PUT /v2/a/b/blobs/uploads/0", 413, ""));
    let said = refused(flags(&binary, &to(&registry)).args(["--created", "1"]));
    assert!(said.contains("413") && said.contains("--chunk-bytes"), "{said}");
}

#[test]
fn a_push_that_fails_says_why_and_leaves_no_tag() {
    let spoken = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    for (fault, parts) in [
        (
            Fault::Answer("POST", 403, spoken),
            vec!["403", "without the right to push to `a/b`", "DENIED requested access"],
        ),
        (Fault::Answer("POST", 404, ""), vec!["404", "an organisation that exists"]),
        (Fault::Answer("PATCH", 413, "<html>too large</html>"), vec!["413", "--chunk-bytes"]),
        (
            Fault::Answer("PUT /v2/a/b/manifests", 400, "bad manifest"),
            vec!["the manifest of `v`", "It said: bad manifest."],
        ),
        (Fault::Answer("POST", 307, ""), vec!["307", "elsewhere"]),
    ] {
        let registry = Registry::start(Login::Nothing);
        registry.fails(fault);
        let said = refused(&mut push("push-fails", &registry));
        for part in parts {
            assert!(said.contains(part), "expected {part} in {said}");
        }
        assert!(registry.state().manifests.is_empty());
    }
    for login in [Login::Basic("me:secret"), Login::Token("me:secret", 100)] {
        let registry = Registry::start(login);
        for (user, part) in [(Some("me:s3cr3t-zq"), "logged in as me"), (None, "nobody is logged in")] {
            let mut command = push("push-fails", &registry);
            user.map(|user| as_user(&mut command, user));
            let said = refused(&mut command);
            assert!(said.contains("401") && said.contains(part) && said.contains("docker login"), "{said}");
            let encoded = base64(b"me:s3cr3t-zq");
            assert!(!said.contains("s3cr3t-zq") && !said.contains(&encoded), "no password is shown: {said}");
        }
        assert_eq!(registry.count("POST"), 0, "a wrong login is found before anything is sent");
    }
    // A disk that is full is full each time.
    let registry = Registry::start(Login::Nothing);
    for _ in 0..20 {
        registry.fails(Fault::Answer(
            "PATCH",
            500,
            r#"{"errors":[{"code":"UNKNOWN","message":"no space left"}]}"#,
        ));
    }
    let said = refused(&mut push("push-fails", &registry));
    assert!(said.contains("is its disk full?") && said.contains("no space left"), "{said}");
    assert_eq!(registry.count("PATCH"), 7, "six attempts after the first");
    assert_eq!(registry.count("DELETE"), 1, "what was begun is given up");
    assert!(registry.state().manifests.is_empty());
}

#[test]
fn a_registry_that_is_not_there_or_speaks_otherwise_is_told_from_a_wrong_login() {
    let registry = Registry::start(Login::Nothing);
    let address = registry.address;
    let binary = binary("push-tls", "amd64");
    let to = format!("{address}/a/b:v");
    let flags = ["tests/models/affine", "--binary", &binary, "--push", &to];
    let said = refused(&mut pack(&flags));
    assert!(said.contains("was not reached") && said.contains("--plain-http"), "{said}");
    let none = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let to = format!("{none}/a/b:v");
    let said = refused(&mut pack(&["tests/models/affine", "--binary", &binary, "--push", &to]));
    assert!(said.contains("was not reached: ") && said.contains("refused"), "{said}");
    let said = refused(&mut pack(&["tests/models/affine", "--binary", &binary, "--push", "a/b:v"]));
    assert!(said.contains("is no registry's host name"), "{said}");
    // Our own server is no registry, and has a certificate that no public authority signed.
    let tls = "tests/data/tls";
    let program = Program::serve(
        &test_model("affine"),
        &["--tls-cert", &format!("{tls}/chain.crt"), "--tls-key", &format!("{tls}/ec-pkcs8.key")],
    );
    let to = format!("localhost:{}/a/b:v", program.address.port());
    let flags = ["tests/models/affine", "--binary", &binary, "--push", &to];
    let said = refused(&mut pack(&flags));
    assert!(said.contains("--registry-ca FILE"), "{said}");
    let said = refused(pack(&flags).args(["--registry-ca", &format!("{tls}/authority.crt")]));
    assert!(said.contains("HTTP 404") && said.contains("on a host that is a registry"), "{said}");
    let said = refused(pack(&flags).args(["--registry-ca", "README.md"]));
    assert!(said.contains("README.md: holds no certificate"), "{said}");
}

#[test]
fn secrets_go_to_the_registry_and_to_nobody_that_it_names() {
    let other = Registry::start(Login::Nothing);
    let registry = Registry::start(Login::Basic("me:secret"));
    for other in [other, Registry::start(Login::Token("me:secret", 10))] {
        registry.state().elsewhere = format!("http://{}", other.address);
        // The other knows of no upload, or asks for a password itself: it learns of none.
        let said = refused(as_user(&mut push("push-elsewhere", &registry), "me:secret"));
        assert!(said.contains("404") || said.contains("401"), "{said}");
        let state = other.state();
        assert!(!state.requests.is_empty());
        assert!(state.requests.iter().all(|(_, authorization)| authorization.is_none()));
    }
}

#[test]
fn a_registry_that_keeps_something_else_than_what_was_sent_fails_the_push() {
    for answer in ["PUT /v2/a/b/manifests/v", "PUT /v2/a/b/blobs/uploads/", "HEAD /v2/a/b/blobs/"] {
        let registry = Registry::start(Login::Nothing);
        if answer.starts_with("HEAD") {
            done(&mut push("push-other", &registry));
        }
        registry.fails(Fault::Keeps(answer, "something else"));
        let said = refused(&mut push("push-other", &registry));
        let other = sha256(b"something else");
        assert!(said.contains(&format!("but the registry says that it keeps {other}")), "{answer}: {said}");
        assert!(!said.contains("pushed"), "{answer}: {said}");
    }
}

#[test]
fn the_files_of_a_version_with_its_own_manifest_are_packed_where_serving_reads_them() {
    let model = folder("pack-own-manifest").join("embed");
    let version = model.join("1");
    std::fs::create_dir_all(&version).unwrap();
    let parts = ["model.json", "model.onnx", "tokenizer.json"];
    for part in parts {
        std::fs::copy(test_model("embed").join(part), version.join(part)).unwrap();
    }
    let found = onnxd::model::repository::find(&model).unwrap();
    let mut packed: Vec<PathBuf> =
        found[0].as_ref().unwrap().parts(&[]).unwrap().into_iter().map(|(path, _)| path).collect();
    packed.sort();
    assert_eq!(packed, parts.map(|part| Path::new("1").join(part)));
}

#[test]
fn what_a_registry_says_cannot_control_the_terminal() {
    let registry = Registry::start(Login::Nothing);
    let body = r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J\u009b1m\nonnxd: pushed"}]}"#;
    registry.fails(Fault::Answer("GET /v2/", 403, body));
    let said = refused(&mut push("push-escape", &registry));
    assert!(said.contains(r"DENIED no\u{1b}[2J\u{9b}1m\nonnxd: pushed"), "{said}");
    registry.fails(Fault::Answer("GET /v2/", 403, "plain \u{1b}[2J"));
    let said = refused(&mut push("push-escape", &registry));
    assert!(said.contains(r"plain \u{1b}[2J") && !said.contains('\u{1b}'), "{said}");
}
