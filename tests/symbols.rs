//! Names of addresses in programs of every kind: with and without debug information, compressed, split off, stripped,
//! of either mangling; and in files that are missing, of another build, or damaged.
#![cfg(feature = "analysis")]

use std::path::{Path, PathBuf};
use std::process::Command;

use kymo::events::StackId;
use kymo::format::{Frame, Module};
use kymo::model::stacks::Stacks;
use kymo::model::symbols::resolve;
use object::{Object, ObjectSegment};

/// Prints the address of an instruction in a function that is inlined into another one, and where the program is.
const PROGRAM: &str = r#"
mod inner {
    #[inline(always)]
    pub fn inlined() -> u64 {
        let address: u64;
        unsafe { std::arch::asm!("lea {}, [rip]", "nop", out(reg) address) };
        address
    }
}

mod outer {
    pub struct Place;

    impl Place {
        #[inline(never)]
        pub fn of(&self) -> u64 {
            super::inner::inlined()
        }
    }
}

unsafe extern "C" {
    static __executable_start: u8;
}

fn main() {
    println!("{:x} {:p}", std::hint::black_box(outer::Place).of(), &raw const __executable_start);
}
"#;

/// Line of the instruction in [`PROGRAM`], and of the call of the function that it is in.
const LINES: (u32, u32) = (6, 17);

/// A program that was built and run: one address in it.
struct Built {
    module: Module,
    address: u64,
}

/// A folder for one test's files.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("symbols").join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn build(folder: &Path, flags: &[&str]) -> Built {
    std::fs::write(folder.join("program.rs"), PROGRAM).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let build =
        ["--edition", "2024", "--crate-name", "program", "-Copt-level=2", "-Clink-arg=-Wl,--build-id"];
    let status =
        Command::new(rustc).current_dir(folder).args(build).args(flags).arg("program.rs").status().unwrap();
    assert!(status.success());
    let path = folder.join("program");
    let said = Command::new(&path).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let (address, start) = said.trim().split_once(' ').unwrap();
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let module = module(&path, number(start));
    // Stacks hold addresses after an instruction's begin.
    Built { module, address: number(address) + 1 }
}

/// The module of a program whose first byte was mapped at `start`.
fn module(path: &Path, start: u64) -> Module {
    let bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let first = file.segments().map(|segment| segment.address()).min().unwrap();
    let last = file.segments().map(|segment| segment.address() + segment.size()).max().unwrap();
    Module {
        start,
        end: start + (last - first),
        bias: start - first,
        offset: 0,
        path: path.to_string_lossy().into_owned(),
        build_id: file.build_id().unwrap().unwrap_or_default().to_vec(),
    }
}

impl Built {
    fn frames(&self) -> Vec<Frame> {
        let symbols = resolve(&[self.address], std::slice::from_ref(&self.module));
        assert_eq!(symbols.len(), 1);
        assert_eq!(symbols[0].address, self.address);
        symbols[0].frames.clone()
    }

    /// The frame of an address that nobody can name.
    fn offset(&self) -> String {
        format!("program+{:#x}", self.address - 1 - self.module.bias)
    }
}

const INLINED: &str = "program::inner::inlined";
const LEGACY: &str = "program::outer::Place::of";
const V0: &str = "<program::outer::Place>::of";

#[test]
fn debug_information_names_inlined_functions_and_lines() {
    let v0 = "-Csymbol-mangling-version=v0";
    for (name, flags, inlined, outer) in [
        ("full", &["-Cdebuginfo=2"][..], INLINED, LEGACY),
        ("v0", &["-Cdebuginfo=2", v0], INLINED, V0),
        // A function that was inlined has its bare name only, and its module has no file of its own.
        ("sparse", &["-Cdebuginfo=line-tables-only"], "program::inlined", LEGACY),
        ("sparse_v0", &["-Cdebuginfo=line-tables-only", v0], "program::inlined", V0),
        ("zlib", &["-Cdebuginfo=2", "-Clink-arg=-Wl,--compress-debug-sections=zlib"], INLINED, LEGACY),
        ("fixed", &["-Cdebuginfo=2", "-Crelocation-model=static"], INLINED, LEGACY),
        ("fat", &["-Cdebuginfo=2", "-Clto=fat", "-Ccodegen-units=1"], INLINED, LEGACY),
        ("static", &["-Cdebuginfo=2", "-Ctarget-feature=+crt-static"], INLINED, LEGACY),
    ] {
        let frames = build(&folder(name), flags).frames();
        let shown: Vec<_> =
            frames.iter().map(|frame| (frame.function.as_str(), frame.line, frame.inlined)).collect();
        assert_eq!(shown, [(inlined, LINES.0, true), (outer, LINES.1, false)], "{name}");
        assert!(frames.iter().all(|frame| frame.file.ends_with("program.rs")), "{name}: {frames:#?}");
        let mangled = if outer == V0 { "_RNvM" } else { "_ZN" };
        assert!(frames[1].mangled.starts_with(mangled), "{name}: {frames:#?}");
        assert_eq!(frames[0].mangled.is_empty(), name.starts_with("sparse"), "{name}: {frames:#?}");
    }
}

#[test]
fn compressed_sections_are_the_same_as_plain_ones() {
    let built = build(&folder("compressed"), &["-Cdebuginfo=2"]);
    let plain = built.frames();
    for compression in ["zlib", "zlib-gnu", "zstd"] {
        let status = Command::new("objcopy")
            .arg(format!("--compress-debug-sections={compression}"))
            .arg(&built.module.path)
            .status()
            .unwrap();
        // An older objcopy doesn't know the newest one.
        assert!(status.success() || compression == "zstd", "{compression}");
        assert_eq!(built.frames(), plain, "{compression}");
    }
}

#[test]
fn a_symbol_table_names_the_function() {
    for (name, flags) in [
        ("symtab", &["-Cdebuginfo=2", "-Cstrip=debuginfo"][..]),
        // Its debug information lies in files beside the program, which are not followed.
        ("split", &["-Cdebuginfo=2", "-Csplit-debuginfo=unpacked"]),
    ] {
        let frames = build(&folder(name), flags).frames();
        let names: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(names, [LEGACY], "{name}");
        assert!(!frames[0].inlined, "{name}");
    }
}

#[test]
fn a_stripped_program_gives_offsets() {
    let built = build(&folder("stripped"), &["-Cdebuginfo=2", "-Cstrip=symbols"]);
    let frame = Frame { function: built.offset(), ..Frame::default() };
    assert_eq!(built.frames(), [frame]);
}

#[test]
fn only_the_file_that_ran_is_asked() {
    let folder = folder("replaced");
    let built = build(&folder, &["-Cdebuginfo=2"]);
    let offset = [Frame { function: built.offset(), ..Frame::default() }];
    let of = |change: &dyn Fn(&mut Module)| {
        let mut module = built.module.clone();
        change(&mut module);
        Built { module, address: built.address }.frames()
    };
    assert_ne!(of(&|_| ()), offset);
    assert_eq!(of(&|module| module.build_id[0] ^= 1), offset);
    assert_eq!(of(&|module| module.build_id.clear()), offset, "the file has a build id, what ran had none");
    for path in ["nothing", ".", "program.rs"] {
        let file = folder.join(path).to_string_lossy().into_owned();
        let function = of(&|module| module.path.clone_from(&file))[0].function.clone();
        assert!(function.ends_with(&offset[0].function["program".len()..]), "{path}: {function}");
    }
    // It waits for a writer for ever, and this one never ends.
    for path in ["/dev/stdin", "/dev/zero", ""] {
        assert_eq!(of(&|module| module.path = path.into()).len(), 1, "{path}");
    }
}

#[test]
fn without_build_ids_the_extent_tells_whether_it_is_the_same_file() {
    let built = build(&folder("nameless"), &["-Cdebuginfo=2", "-Clink-arg=-Wl,--build-id=none"]);
    assert!(built.module.build_id.is_empty());
    assert_eq!(built.frames().len(), 2);
    let mut module = built.module.clone();
    module.end += 4096;
    let frames = Built { module, address: built.address }.frames();
    assert_eq!(frames, [Frame { function: built.offset(), ..Frame::default() }]);
}

#[test]
fn every_address_gets_a_frame_once_and_in_order() {
    let built = build(&folder("addresses"), &["-Cdebuginfo=0"]);
    let (start, end) = (built.module.start, built.module.end);
    let addresses = [u64::MAX, end + 1, built.address, 0, start, built.address, end, start + 1];
    let symbols = resolve(&addresses, std::slice::from_ref(&built.module));
    let resolved: Vec<u64> = symbols.iter().map(|symbol| symbol.address).collect();
    let mut expected = vec![0, start, start + 1, built.address, end, end + 1, u64::MAX];
    expected.sort_unstable();
    assert_eq!(resolved, expected);
    let name = |at: usize| symbols[at].frames[0].function.as_str();
    assert_eq!(name(0), "0x0");
    assert_eq!(name(2), "program+0x0");
    assert_eq!(name(6), "0xffffffffffffffff");
    assert!(resolve(&[], std::slice::from_ref(&built.module)).is_empty());
    assert_eq!(resolve(&[7], &[])[0].frames[0].function, "0x7");
}

#[test]
fn a_trace_without_names_is_named_by_whoever_reads_it() {
    let built = build(&folder("missing"), &["-Cdebuginfo=2"]);
    let mut stacks = Stacks {
        addresses: [(StackId(2), vec![built.address, 0])].into(),
        modules: vec![built.module.clone()],
        ..Stacks::default()
    };
    stacks.resolve_missing();
    let names: Vec<&str> = stacks.frames(StackId(2)).map(|frame| frame.function.as_str()).collect();
    assert_eq!(names, [INLINED, LEGACY]);
    // What has a name keeps it.
    let own = Frame { function: "mine".into(), ..Frame::default() };
    stacks.symbols.insert(built.address, vec![own.clone()]);
    stacks.resolve_missing();
    assert_eq!(stacks.frames(StackId(2)).next(), Some(&own));
}

#[test]
fn damaged_files_are_survived() {
    let built =
        build(&folder("damaged"), &["-Cdebuginfo=2", "-Clink-arg=-Wl,--compress-debug-sections=zlib"]);
    let whole = std::fs::read(&built.module.path).unwrap();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below as u64) as usize
    };
    for round in 0..150 {
        let mut bytes = whole.clone();
        if round % 3 == 0 {
            bytes.truncate(roll(whole.len()));
        }
        // Headers are few among the bytes: half of the damage goes to the beginning and the end.
        for _ in 0..roll(20).min(bytes.len()) {
            let range = if roll(2) == 0 { bytes.len() } else { bytes.len().min(1024) };
            let at = roll(range);
            let at = if roll(2) == 0 { at } else { bytes.len() - 1 - at };
            bytes[at] = roll(256) as u8;
        }
        // A new file each time, as programs are replaced: the old one may still be mapped.
        std::fs::remove_file(&built.module.path).unwrap();
        std::fs::write(&built.module.path, bytes).unwrap();
        assert!(!built.frames().is_empty());
    }
}
