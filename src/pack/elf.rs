//! Reads the ELF header of a program file: its architecture, and whether it needs a dynamic linker.
//!
//! Only these two facts are read; the file is not validated further. Source: System V ABI, chapters 4 and 5.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::PackError;

/// A processor architecture by its name in image configurations (GOARCH).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Architecture {
    Amd64,
    Arm64,
    Arm,
}

impl Architecture {
    /// The architecture that this program was built for, or `None` when images have no name for it.
    pub fn own() -> Option<Architecture> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Architecture::Amd64),
            "aarch64" => Some(Architecture::Arm64),
            "arm" => Some(Architecture::Arm),
            _ => None,
        }
    }

    /// The name in image documents and in `--arch`, for example `amd64`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
            Architecture::Arm => "arm",
        }
    }

    /// The version of the architecture in image documents, for example `v8` for arm64.
    pub fn variant(self) -> Option<&'static str> {
        match self {
            Architecture::Amd64 => None,
            Architecture::Arm64 => Some("v8"),
            Architecture::Arm => Some("v7"),
        }
    }

    /// The compiler's name for the architecture: the argument of deploy/static/build.
    fn compiler_name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64",
            Architecture::Arm64 => "aarch64",
            Architecture::Arm => "armv7",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are read from the file. Linkers place all headers within them.
const HEADERS: u64 = 64 * 1024;
/// `p_type` of a segment that names the dynamic linker.
const PT_INTERP: u32 = 3;

/// The architecture of a static program, which runs in an image without libraries.
///
/// Fails when the file cannot be read, is not an ELF program for a known architecture, or needs a dynamic linker.
pub fn static_program(path: &Path) -> Result<Architecture, PackError> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEADERS).read_to_end(&mut start))
        .map_err(PackError::io(path))?;
    let wrong = |what: &str| PackError::Input(format!("{}: {what}", path.display()));
    let program = read(&start).ok_or_else(|| {
        wrong("not an ELF program for amd64, arm64 or arm: expected the onnxd binary of that architecture")
    })?;
    if program.has_interpreter {
        return Err(wrong(&format!(
            "this program needs a dynamic linker and libraries, and an image from scratch has none: build a \
             static one by `deploy/static/build {}` and name it by --binary {}=PATH",
            program.architecture.compiler_name(),
            program.architecture
        )));
    }
    Ok(program.architecture)
}

struct Program {
    architecture: Architecture,
    has_interpreter: bool,
}

fn read(bytes: &[u8]) -> Option<Program> {
    // e_ident: magic, class (1 is 32 bits, 2 is 64), byte order (1 is little-endian).
    let (wide, rest) = match bytes {
        [0x7f, b'E', b'L', b'F', 1, 1, ..] => (false, bytes),
        [0x7f, b'E', b'L', b'F', 2, 1, ..] => (true, bytes),
        _ => return None,
    };
    let half = |at: usize| Some(u16::from_le_bytes(*rest.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_le_bytes(*rest.get(at..)?.first_chunk()?));
    let architecture = match half(18)? {
        62 => Architecture::Amd64,
        183 => Architecture::Arm64,
        40 => Architecture::Arm,
        _ => return None,
    };
    // e_phoff, e_phentsize and e_phnum. The low 32 bits of an offset are enough: no program here has headers after
    // 4 GiB.
    let (table, entry, entries) =
        if wide { (word(32)?, half(54)?, half(56)?) } else { (word(28)?, half(42)?, half(44)?) };
    let segment = |index: u16| word(table as usize + usize::from(index) * usize::from(entry));
    let types: Vec<u32> = (0..entries).map(segment).collect::<Option<_>>()?;
    Some(Program { architecture, has_interpreter: types.contains(&PT_INTERP) })
}
