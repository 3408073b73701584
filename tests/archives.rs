//! Models in archives, some of them harmful.

use std::io::Write;

use crate::fetch::{Case, content, digits};
use crate::support::files::{Act, Files};
use crate::support::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// Written as it is said, whatever it says: the crate's own functions refuse what is to be refused here.
fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o6777);
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o6777);
        // Long names too.
        tar.append_data(&mut header, path, *content).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

/// A case whose server has this archive.
fn case(test: &str, archive: &[u8], more: Value) -> (Case, Files) {
    let server = Files::start(archive, vec![]);
    let mut manifest = json!({"url": server.url("/m.tar.gz"), "sha256": digits(archive)});
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (Case::new(&format!("archive-{test}"), manifest), server)
}

fn affine() -> Vec<u8> {
    std::fs::read(test_model("affine/model.onnx")).unwrap()
}

#[test]
fn an_archive_of_a_model_folder_is_served_by_its_own_manifest_from_the_cache_the_next_time() {
    let manifest = json!({"name": "inner", "version": "7", "file": "deep/affine.onnx",
        "outputs": [{"name": "y", "labels": "labels.txt", "classification": 1}]});
    let archive = archive(&[
        ("top/model.json", manifest.to_string().as_bytes()),
        ("top/deep/affine.onnx", &affine()),
        ("top/labels.txt", b"left\nright\n"),
        ("__junk/readme", b"nothing"),
    ]);
    let (case, server) = case("own", &archive, json!({"name": "outer"}));
    for _ in 0..2 {
        let flags = ["--allow-http", "--cache", case.cache.to_str().unwrap()];
        let program = Program::serve(&case.folder, &flags);
        let body = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]});
        let reply = program.post("/v2/models/outer/infer", "", body.to_string().as_bytes()).json();
        assert_eq!(reply["model_version"], "7", "{reply}");
        let best = reply["outputs"][0]["data"][0].as_str().unwrap();
        assert!(best.ends_with(":left") || best.ends_with(":right"), "{reply}");
    }
    assert_eq!(server.asked().len(), 1);
    // No mode of the archive's is taken over.
    let kept = case.whole().join("files/top/model.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(kept).unwrap().permissions());
    assert_eq!(mode & 0o7111, 0, "{mode:o}");
    assert!(case.part().is_none());
}

#[test]
fn an_archive_without_a_manifest_is_described_by_the_outer_one() {
    let long = format!("{}/model.onnx", "long".repeat(40));
    let archive = archive(&[("./labels.txt", b"a\nb\n"), (&long, &affine())]);
    let outputs = json!([{"name": "y", "labels": "labels.txt"}]);
    let (case, _server) = case("outer", &archive, json!({"file": long, "outputs": outputs}));
    let files = case.fetch().unwrap();
    assert_eq!(std::fs::read(&files.onnx).unwrap(), affine());
    assert_eq!(files.onnx, case.whole().join("files").join(long));
    assert!(files.parts(&[]).unwrap().iter().all(|(path, _)| path.as_os_str() == "model.json"));
}

#[test]
fn a_cut_archive_goes_on_and_a_rotten_one_is_fetched_again() {
    let content = content();
    let archive = archive(&[("model.onnx", &content), ("data/weights", b"w")]);
    let server = Files::start(&archive, vec![Act::Cut(1000)]);
    let case = Case::of("archive-cut", &server.url("/m.tgz"), &archive);
    let weights = case.whole().join("files/data/weights");
    case.brings(&content);
    assert_eq!(server.ranges(), [None, Some("bytes=1000-".into())]);
    for rot in [&|| std::fs::write(&weights, b"v").unwrap(), &|| std::fs::remove_file(&weights).unwrap()]
        as [&dyn Fn(); 2]
    {
        rot();
        case.brings(&content);
        assert_eq!(std::fs::read(&weights).unwrap(), b"w");
    }
    std::fs::write(case.whole().join("files/model.json"), "{}").unwrap();
    case.brings(&content);
    assert_eq!(server.asked().len(), 5);
    let sums =
        std::process::Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(case.whole()).output();
    assert!(sums.unwrap().status.success(), "the record is not what sha256sum reads");
}

#[test]
fn an_archive_that_reaches_out_of_its_folder_or_links_is_refused_and_nothing_of_it_stays() {
    let file = EntryType::Regular;
    for (at, (kind, path, link, said)) in [
        (file, "../out.onnx", "", "`../out.onnx` would lie outside its folder"),
        (file, "a/../../out.onnx", "", "would lie outside its folder"),
        (file, "/out.onnx", "", "would lie outside its folder"),
        (EntryType::Directory, "../out", "", "would lie outside its folder"),
        (EntryType::Symlink, "link", "/etc", "neither a file nor a folder"),
        (EntryType::Link, "link", "model.onnx", "neither a file nor a folder"),
        (EntryType::Fifo, "pipe", "", "neither a file nor a folder"),
        (EntryType::Char, "device", "", "neither a file nor a folder"),
        (EntryType::Block, "device", "", "neither a file nor a folder"),
        (file, "model.onnx", "", "holds `model.onnx` twice"),
        (file, "two\nlines", "", "is no line of text"),
        (file, "model.onnx/below", "", "cannot be kept"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut tar = Builder::new(Vec::new());
        entry(&mut tar, file, "model.onnx", "", &affine());
        entry(&mut tar, kind, path, link, b"");
        let (case, _server) = case(&format!("harm{at}"), &gzip(&tar.into_inner().unwrap()), json!({}));
        case.fails(said);
        assert!(!case.whole().with_extension("new").exists(), "{path} is half unpacked");
        let around = std::fs::read_dir(&case.cache).unwrap().count();
        assert_eq!(around, 2, "expected the archive and its lock alone beside {path}");
    }
}

#[test]
fn an_archive_that_grows_too_large_or_has_too_many_files_is_refused_before_it_is_unpacked_whole() {
    let zeros = archive(&[("model.onnx", &vec![0; 10 << 20])]);
    assert!(zeros.len() < 100_000, "it is no bomb");
    let (mut bomb, _server) = case("bomb", &zeros, json!({}));
    bomb.fetching.max_unpacked_bytes = 1 << 20;
    bomb.fails("raise --max-unpacked-bytes");
    // The archive is kept: with more room it need not be fetched again.
    bomb.fetching.max_unpacked_bytes = 1 << 30;
    bomb.brings(&vec![0; 10 << 20]);

    let many = archive(&[("a", b""), ("b", b""), ("model.onnx", b"m")]);
    let (mut many, _server) = case("many", &many, json!({}));
    many.fetching.max_entries = 2;
    many.fails("more than 2 files and folders");

    // A name is read to memory, so a long one is refused by itself.
    let mut tar = Builder::new(Vec::new());
    entry(&mut tar, EntryType::GNULongName, "././@LongLink", "", &vec![b'a'; 10 << 20]);
    entry(&mut tar, EntryType::Regular, "model.onnx", "", b"m");
    case("name", &gzip(&tar.into_inner().unwrap()), json!({})).0.fails("a head of more than a megabyte");
}

#[test]
fn an_archive_that_is_broken_or_holds_no_model_says_so() {
    let whole = archive(&[("model.onnx", &content())]);
    let nothing = gzip(&Builder::new(Vec::new()).into_inner().unwrap());
    for (at, (archive, said)) in [
        (whole[..whole.len() / 2].to_vec(), "the archive is broken"),
        (gzip(&content()), "the archive is broken"),
        (nothing, "the archive holds no file"),
        (archive(&[("other.onnx", b"m")]), "holds 0 folders with a model.json or `model.onnx`"),
        (archive(&[("a/model.onnx", b"m"), ("b/model.onnx", b"m")]), "holds 2 folders"),
        (archive(&[("model.json", b"{}")]), "the archive holds no `model.onnx`"),
        (archive(&[("model.json", br#"{"nam":"a"}"#), ("model.onnx", b"m")]), "did you mean `name`?"),
    ]
    .into_iter()
    .enumerate()
    {
        let (case, _server) = case(&format!("broken{at}"), &archive, json!({}));
        let error = case.fetch().unwrap_err();
        assert!(error.contains(said), "expected `{said}` in: {error}");
    }
}

#[test]
fn two_manifests_do_not_contradict_each_other_and_none_reaches_out_of_the_archive() {
    let with = |inner: &str| archive(&[("model.json", inner.as_bytes()), ("model.onnx", b"m")]);
    let inner_url = format!(r#"{{"url": "https://example.org/m.onnx", "sha256": "{}"}}"#, "0".repeat(64));
    for (at, (archive, outer, said)) in [
        (with("{}"), json!({"max_batch_size": 4}), "`name`, `version`, `url` and `sha256` only"),
        (with(&inner_url), json!({}), "has a `url` of its own"),
        (with(r#"{"file": "../model.onnx"}"#), json!({}), "`../model.onnx` is not in the archive's folder"),
        (
            with(r#"{"outputs": [{"name": "y", "labels": "/etc/passwd"}]}"#),
            json!({}),
            "`/etc/passwd` is not in the archive's folder",
        ),
        (b"a plain file".to_vec(), json!({"file": "model.onnx"}), "leave `file` out"),
    ]
    .into_iter()
    .enumerate()
    {
        let (case, _server) = case(&format!("manifests{at}"), &archive, outer);
        let error = case.fetch().unwrap_err();
        assert!(error.contains(said), "expected `{said}` in: {error}");
    }
}
