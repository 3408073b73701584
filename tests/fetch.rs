//! Models from elsewhere: over real sockets, from a server that fails as the test tells it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::files::{Act, Files};
use crate::support::registry::sha256;
use crate::support::*;
use onnxd::config::Fetching;
use onnxd::fetch::Fetcher;
use onnxd::model::ModelFiles;
use onnxd::transfer::progress::Lines;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tungstenite::Message;

/// Bytes that stand for a model: fetching does not look into it.
pub fn content() -> Vec<u8> {
    (0..300_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect()
}

pub fn digits(content: &[u8]) -> String {
    sha256(content)["sha256:".len()..].to_owned()
}

/// A model's folder with a manifest alone, and a cache beside it.
pub struct Case {
    pub folder: PathBuf,
    pub cache: PathBuf,
    pub fetching: Fetching,
}

impl Case {
    pub fn new(test: &str, manifest: serde_json::Value) -> Case {
        let folder = folder(&format!("fetch-{test}"));
        let cache = folder.join("cache");
        std::fs::create_dir(folder.join("m")).unwrap();
        std::fs::write(folder.join("m/model.json"), manifest.to_string()).unwrap();
        let fetching = Fetching {
            cache: Some(cache.clone()),
            allow_http: true,
            first_wait: Duration::from_millis(1),
            attempts: 3,
            ..Fetching::default()
        };
        Case { folder: folder.join("m"), cache, fetching }
    }

    /// A manifest that says what is right.
    pub fn of(test: &str, url: &str, content: &[u8]) -> Case {
        Case::new(test, json!({"url": url, "sha256": digits(content)}))
    }

    pub fn fetch(&self) -> Result<ModelFiles, String> {
        let fetcher = Fetcher::new(self.fetching.clone(), Lines::StandardError);
        let models = fetcher.models(&self.folder.clone().into()).map_err(|error| error.to_string())?;
        Ok(models.into_iter().next().unwrap())
    }

    /// Fetches, and expects what the manifest means.
    pub fn brings(&self, content: &[u8]) {
        let files = self.fetch().unwrap();
        assert!(std::fs::read(files.onnx).unwrap() == content, "another content came");
        assert!(self.part().is_none(), "a part is left");
    }

    /// Fetches, and expects an error with this in it.
    pub fn fails(&self, said: &str) -> String {
        let error = self.fetch().unwrap_err();
        assert!(error.contains(said), "expected `{said}` in: {error}");
        assert!(!self.whole().exists(), "something that is not right is in the cache");
        error
    }

    fn manifest(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.folder.join("model.json")).unwrap()).unwrap()
    }

    pub fn whole(&self) -> PathBuf {
        self.cache.join(self.manifest()["sha256"].as_str().unwrap())
    }

    /// What is kept of a download.
    pub fn part(&self) -> Option<Vec<u8>> {
        std::fs::read(self.whole().with_extension("part")).ok()
    }
}

fn range(from: usize) -> Option<String> {
    Some(format!("bytes={from}-"))
}

#[test]
fn a_model_is_fetched_before_it_is_served_and_found_in_the_cache_the_next_time() {
    let model = std::fs::read(test_model("affine/model.onnx")).unwrap();
    let server = Files::start(&model, vec![]);
    let case = Case::of("served", &server.url("/affine.onnx?signature=hush"), &model);
    let cache = case.cache.to_str().unwrap();
    let secret = ["--fetch-authorization", "Bearer hush"];
    let flags = [&["--allow-http", "--cache", cache, "--log", "trace"][..], &secret].concat();
    for _ in 0..2 {
        let mut program = Program::serve(&case.folder, &flags);
        let request = json!({"instances": [[1.0, 2.0, 3.0]]}).to_string();
        let reply = ask_json(&mut program.connect("/"), Message::text(request));
        assert!(reply["predictions"].is_array(), "{reply}");
        program.signal(Signal::TERM);
        program.wait_for("stopped");
        let said = program.seen.join("\n");
        assert!(!said.contains("hush"), "a secret is in the log: {said}");
    }
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].path, "/affine.onnx?signature=hush");
}

#[test]
fn a_model_may_be_named_by_its_url_and_digest() {
    let model = std::fs::read(test_model("affine/model.onnx")).unwrap();
    let server = Files::start(&model, vec![]);
    let cache = folder("fetch-argument");
    let check = |arguments: &[&str]| {
        let mut command = onnxd();
        command.args(["check", "--allow-http", "--cache", cache.to_str().unwrap()]).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    };
    let (code, said) = check(&[&server.url("/a/affine.onnx"), "--sha256", &digits(&model)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("model    affine (version 1)") && said.contains("fetched and checked"), "{said}");
    for (arguments, part) in [
        (&[server.url("/a.onnx").as_str()][..], "needs --sha256 HEX (ONNXD_SHA256)"),
        (&[server.url("/a.onnx").as_str(), "--sha256", "ab"], "expected 64 hexadecimal digits"),
        (&[server.url("/a%20b.onnx").as_str(), "--sha256", &digits(&model)], "use letters, digits"),
        (&["tests/models/affine", "--sha256", &digits(&model)], "is for a model that is named by its URL"),
    ] {
        let (code, said) = check(arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was_cut() {
    let content = content();
    let server = Files::start(&content, vec![Act::Cut(100_000), Act::Cut(50_000), Act::Cut(0), Act::Whole]);
    Case::of("cut", &server.url("/m.onnx"), &content).brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000), range(150_000), range(150_000)]);
}

#[test]
fn a_download_goes_on_from_what_an_earlier_start_kept() {
    let content = content();
    let server = Files::start(&content, vec![Act::Cut(100_000)]);
    let mut case = Case::of("resumed", &server.url("/m.onnx"), &content);
    case.fetching.attempts = 1;
    case.fails("are kept for the next start");
    assert_eq!(case.part().unwrap(), &content[..100_000]);
    case.brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000)]);
}

#[test]
fn what_was_whole_when_an_earlier_start_ended_is_not_asked_for() {
    let content = content();
    let server = Files::start(&content, vec![]);
    let case = Case::of("finished", &server.url("/m.onnx"), &content);
    std::fs::create_dir_all(&case.cache).unwrap();
    std::fs::write(case.whole().with_extension("part"), &content).unwrap();
    case.brings(&content);
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_server_that_knows_no_ranges_or_has_less_than_is_here_is_asked_from_the_beginning() {
    let content = content();
    let server = Files::start(&content, vec![Act::Cut(100_000), Act::NoRanges]);
    Case::of("no-ranges", &server.url("/m.onnx"), &content).brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000)]);

    let another = Act::Answer(206, "content-range: bytes 5-9/10\r\n".into());
    let server = Files::start(&content, vec![Act::Cut(100_000), another]);
    Case::of("another-range", &server.url("/m.onnx"), &content).brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000), None]);

    let server = Files::start(&content, vec![]);
    let case = Case::of("too-much", &server.url("/m.onnx"), &content);
    std::fs::create_dir_all(&case.cache).unwrap();
    std::fs::write(case.whole().with_extension("part"), [&content[..], b"more"].concat()).unwrap();
    case.brings(&content);
    assert_eq!(server.ranges(), [range(300_004), None]);
}

#[test]
fn pieces_that_do_not_fit_are_fetched_once_more_from_the_beginning() {
    let content = content();
    let server = Files::start(&content, vec![Act::Spoilt(100_000)]);
    Case::of("corrupted", &server.url("/m.onnx"), &content).brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000), None]);
}

#[test]
fn a_wrong_digest_is_final_says_what_came_and_leaves_nothing() {
    let (content, other) = (content(), b"another version".to_vec());
    let server = Files::start(&other, vec![]);
    let case = Case::of("wrong", &server.url("/m.onnx"), &content);
    let error = case.fails(&format!("but {} came (15 bytes)", digits(&other)));
    assert!(error.contains(&format!("expected {}", digits(&content))), "{error}");
    assert_eq!((server.asked().len(), case.part()), (1, None));

    // In pieces it is tried once more, and no more.
    let server = Files::start(&other, vec![Act::Cut(5), Act::Whole, Act::Cut(5)]);
    let case = Case::of("wrong-twice", &server.url("/m.onnx"), &content);
    case.fails("is not what sha256 says");
    assert_eq!(server.ranges(), [None, range(5), None, range(5)]);
}

#[test]
fn without_a_length_a_cut_shows_by_the_digest_and_is_tried_once_more() {
    let content = content();
    let server = Files::start(&content, vec![Act::Unsaid]);
    Case::of("unsaid", &server.url("/m.onnx"), &content).brings(&content);
    let server = Files::start(&content[1..], vec![Act::Unsaid, Act::Unsaid]);
    Case::of("unsaid-wrong", &server.url("/m.onnx"), &content).fails("is not what sha256 says");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn what_is_too_large_is_refused_by_its_length_or_while_it_comes_and_leaves_nothing() {
    let content = content();
    for (at, act) in [Act::Says(1 << 40), Act::Endless, Act::Unsaid].into_iter().enumerate() {
        let server = Files::start(&content, vec![act]);
        let mut case = Case::of(&format!("large{at}"), &server.url("/m.onnx"), &content);
        case.fetching.max_download_bytes = 100_000;
        case.fails("raise --max-download-bytes");
        assert_eq!((server.asked().len(), case.part()), (1, None));
    }
    let path = folder("fetch-large-source").join("m.onnx");
    std::fs::write(&path, &content).unwrap();
    let mut case = Case::of("large-file", &format!("file://{}", path.display()), &content);
    case.fetching.max_download_bytes = 100_000;
    case.fails("has 300000 bytes, but 100000 is the most");
}

#[test]
fn a_slow_download_may_take_as_long_as_it_needs_but_a_silent_one_is_cut_and_goes_on() {
    let content = content();
    let silence = Duration::from_secs(1);
    let server = Files::start(&content, vec![Act::Slow(15, silence / 12)]);
    let mut case = Case::of("slow", &server.url("/m.onnx"), &content);
    case.fetching.silence = silence;
    let begun = Instant::now();
    case.brings(&content);
    assert!(begun.elapsed() > silence, "it was not slow");
    assert_eq!(server.asked().len(), 1);

    let server = Files::start(&content, vec![Act::Silent(100_000)]);
    let mut case = Case::of("silent", &server.url("/m.onnx"), &content);
    case.fetching.silence = silence;
    case.brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000)]);
}

#[test]
fn redirects_are_followed_and_secrets_stay_with_the_host_that_was_named() {
    let content = content();
    let storage = Files::start(&content, vec![Act::Cut(100_000)]);
    let to = |location: &str| Act::Answer(302, format!("location: {location}\r\n"));
    let elsewhere = storage.url("/signed?signature=s");
    let server = Files::start(b"", vec![to("../b/m.onnx"), to(&elsewhere), to(&elsewhere)]);
    let mut case = Case::of("redirect", &server.url("/a/m.onnx"), &content);
    case.fetching.authorization = Some("Bearer hush".parse().unwrap());
    case.brings(&content);
    let paths: Vec<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    // After a cut the address that was named is asked again: a signature may have expired.
    assert_eq!(paths, ["/a/m.onnx", "/b/m.onnx", "/a/m.onnx"]);
    assert!(server.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer hush")));
    assert_eq!(storage.ranges(), [None, range(100_000)]);
    assert!(storage.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn redirects_in_a_loop_to_nowhere_or_away_from_https_are_errors() {
    let content = content();
    let to = |location: &str| Act::Answer(307, format!("location: {location}\r\n"));
    for (at, (acts, said, asked)) in [
        (vec![to("/m.onnx"); 20], "redirects more than 10 times: is it a loop?", 11),
        (vec![Act::Answer(301, String::new())], "redirects to nowhere", 1),
        (vec![to("file:///etc/passwd")], "redirects where it may not", 1),
        (vec![to("http://127.0.0.1:1/m.onnx?signature=hush")], "allow it by --allow-http", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let server = Files::start_tls(&content, acts);
        let mut case = Case::of(&format!("redirect{at}"), &server.url("/m.onnx"), &content);
        case.fetching.ca_file = Some(root().join("tests/data/tls/authority.crt"));
        case.fetching.allow_http = false;
        let error = case.fails(said);
        assert_eq!(server.asked().len(), asked, "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn https_needs_a_certificate_from_an_authority_that_is_trusted() {
    let content = content();
    let server = Files::start_tls(&content, vec![Act::Cut(100_000)]);
    let mut case = Case::of("tls", &server.url("/m.onnx"), &content);
    case.fetching.allow_http = false;
    case.fails("name its own by --fetch-ca FILE");
    case.fetching.ca_file = Some(root().join("tests/data/tls/authority.crt"));
    case.brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000)]);
}

#[test]
fn plain_http_is_refused_unless_it_is_allowed() {
    let server = Files::start(b"", vec![]);
    let mut case = Case::of("plain", &server.url("/m.onnx"), b"");
    case.fetching.allow_http = false;
    case.fails("allow it by --allow-http");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_refusal_is_final_and_says_what_to_do() {
    let content = content();
    for (status, said) in [
        (401, "set ONNXD_FETCH_AUTHORIZATION"),
        (403, "has a signed URL expired"),
        (404, "there is nothing at this address"),
        (410, "there is nothing at this address"),
        (418, "an answer that was not expected"),
    ] {
        let server = Files::start(&content, vec![Act::Answer(status, String::new())]);
        let case = Case::of(&format!("refusal{status}"), &server.url("/m.onnx?signature=hush"), &content);
        let error = case.fails(said);
        assert!(error.contains(&format!("HTTP {status}")) && !error.contains("hush"), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_server_that_is_busy_or_failing_is_asked_again_when_it_says_or_by_and_by() {
    let content = content();
    let busy = |status, headers: &str| Act::Answer(status, headers.into());
    let server =
        Files::start(&content, vec![busy(503, "retry-after: 0\r\n"), busy(429, "retry-after: 0\r\n")]);
    let mut case = Case::of("busy", &server.url("/m.onnx"), &content);
    // What the server says counts, and not this.
    case.fetching.first_wait = PATIENCE * 3;
    case.fetching.longest_wait = PATIENCE * 3;
    let begun = Instant::now();
    case.brings(&content);
    assert!(begun.elapsed() < PATIENCE, "it waited longer than it was told to");
    assert_eq!(server.asked().len(), 3);

    let server = Files::start(&content, vec![busy(500, ""), busy(502, "")]);
    Case::of("failing", &server.url("/m.onnx"), &content).brings(&content);

    let server = Files::start(&content, vec![busy(503, ""); 9]);
    Case::of("failed", &server.url("/m.onnx"), &content).fails("HTTP 503 Service Unavailable");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_host_that_is_not_there_is_tried_again_and_then_given_up() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let case = Case::of("nobody", &format!("http://{address}/m.onnx"), b"");
    let error = case.fails("was not reached");
    assert!(error.contains("given up after"), "{error}");
}

#[test]
fn a_file_url_is_copied_and_checked() {
    let content = content();
    let path = folder("fetch-file-url").join("a model.onnx");
    std::fs::write(&path, &content).unwrap();
    let url = format!("file://{}", path.display()).replace(' ', "%20");
    Case::of("file", &url, &content).brings(&content);
    Case::of("file-wrong", &url, b"").fails("is not what sha256 says");
    Case::of("file-none", "file:///none.onnx", &content).fails("/none.onnx: No such file");
}

#[test]
fn two_that_start_at_once_fetch_once() {
    let content = content();
    let server = Files::start(&content, vec![Act::Slow(5, Duration::from_millis(50))]);
    let case = Case::of("two", &server.url("/m.onnx"), &content);
    std::thread::scope(|scope| {
        let two = [scope.spawn(|| case.fetch()), scope.spawn(|| case.fetch())];
        for files in two.map(|one| one.join().unwrap().unwrap()) {
            assert!(std::fs::read(files.onnx).unwrap() == content);
        }
    });
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn what_rots_in_the_cache_is_fetched_again() {
    let content = content();
    let server = Files::start(&content, vec![]);
    let case = Case::of("rot", &server.url("/m.onnx"), &content);
    case.brings(&content);
    let kept = case.fetch().unwrap().onnx;
    std::fs::write(&kept, &content[1..]).unwrap();
    case.brings(&content);
    std::fs::remove_file(&kept).unwrap();
    case.brings(&content);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_cache_that_cannot_be_written_is_good_enough_when_the_model_is_in_it() {
    let content = content();
    let server = Files::start(&content, vec![]);
    let case = Case::of("read-only", &server.url("/m.onnx"), &content);
    case.brings(&content);
    let lock = case.whole().with_extension("lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    case.brings(&content);
    std::fs::remove_dir_all(case.whole()).unwrap();
    case.fails("name a folder that may be written by --cache (ONNXD_CACHE)");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn without_a_place_to_keep_it_or_room_in_it_the_error_names_the_flag() {
    let content = content();
    let server = Files::start(&content, vec![]);
    let mut case = Case::of("nowhere", &server.url("/m.onnx"), &content);
    case.fetching.cache = None;
    case.fails("name a folder by --cache (ONNXD_CACHE)");
    // A folder cannot be made below a file.
    case.fetching.cache = Some(case.folder.join("model.json/cache"));
    case.fails("name a folder that may be written by --cache (ONNXD_CACHE)");
    assert_eq!(server.asked().len(), 0);

    let case = Case::of("full", &server.url("/m.onnx"), &content);
    std::fs::create_dir_all(&case.cache).unwrap();
    std::os::unix::fs::symlink("/dev/full", case.whole().with_extension("part")).unwrap();
    case.fails("there is no room for it");
    assert!(!case.whole().with_extension("part").exists(), "what fills the disk is left");
}

#[test]
fn a_signal_while_a_model_is_fetched_ends_the_program_at_once_and_keeps_what_came() {
    let content = content();
    let server = Files::start(&content, vec![Act::Silent(100_000)]);
    let case = Case::of("signal", &server.url("/m.onnx"), &content);
    let mut child = onnxd()
        .args(["serve", case.folder.to_str().unwrap(), "--listen", "127.0.0.1:0", "--allow-http", "--cache"])
        .arg(&case.cache)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    server.silent.recv_timeout(PATIENCE).unwrap();
    until("what came is written", || case.part().is_some_and(|part| part.len() == 100_000));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    case.brings(&content);
    assert_eq!(server.ranges(), [None, range(100_000)]);
}

#[test]
fn an_image_of_a_model_with_a_url_holds_the_manifest_and_says_that_it_fetches() {
    let model = std::fs::read(test_model("affine/model.onnx")).unwrap();
    let server = Files::start(&model, vec![]);
    let case = Case::of("pack", &server.url("/affine.onnx"), &model);
    let out = case.cache.with_file_name("image.tar");
    let mut program = vec![0u8; 64 + 56];
    program[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    program[18..20].copy_from_slice(&62u16.to_le_bytes());
    program[32..40].copy_from_slice(&64u64.to_le_bytes());
    program[54..58].copy_from_slice(&[56, 0, 1, 0]);
    program[64] = 1;
    let binary = case.cache.with_file_name("onnxd");
    std::fs::write(&binary, program).unwrap();
    let pack = |model: &Path, more: &[&str]| {
        let mut command = onnxd();
        command.arg("pack").arg(model).args(["--allow-http", "--cache"]).arg(&case.cache).arg("-o").arg(&out);
        command.arg("--binary").arg(format!("amd64={}", binary.display())).args(more);
        let output = command.output().unwrap();
        (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    };
    let (code, said) = pack(&case.folder, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("fetches  m when it starts") && said.contains("ONNXD_CACHE"), "{said}");
    let image = text(&std::fs::read(&out).unwrap());
    assert!(image.contains("model/m/model.json") && !image.contains("model/m/model.onnx"));
    let (code, said) = pack(Path::new(&server.url("/affine.onnx")), &["--sha256", &digits(&model)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("put the URL as `url` into a model.json"), "{said}");
}
