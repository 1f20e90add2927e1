//! What a program's file tells: whether kymo is in it, whether its calls can be hooked, whether its stacks get names.
//!
//! A stripped file still has its dynamic symbols, frame descriptions and constants, which tell most of it; what only
//! symbols tell is `unknown` there, and a running service says it.

use std::path::Path;

use anyhow::{Context, ensure};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Object, ObjectSection, ObjectSymbol};

use super::{Check, EVENT, State, costs_of};

type Elf<'a> = ElfFile64<'a, object::Endianness>;

/// The name of the recorder's thread: stripping leaves it.
const MARK: &[u8] = b"kymo-drain";

/// Functions that the hooks define; a program that has them for other reasons hardly has them all.
const HOOKED: [&str; 4] = ["read", "write", "pthread_mutex_lock", "syscall"];

/// Looks at it.
pub(super) fn checks(path: &Path) -> anyhow::Result<Vec<Check>> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("{name} can't be read"))?;
    ensure!(
        bytes.starts_with(b"\x7fELF"),
        "{name} is no program: an ELF file or the URL of a service is looked at"
    );
    let elf = Elf::parse(&*bytes).with_context(|| format!("{name} is no 64-bit program"))?;
    let facts = Facts::of(&elf, &bytes);
    let mut checks = vec![kymo(&facts, path), hooks(&facts), stacks(&facts), names(&facts), inlined(&facts)];
    checks.extend(in_kymo(&facts));
    Ok(checks)
}

/// What is read from the file, once.
struct Facts {
    kymo: bool,
    hooked: bool,
    interpreter: bool,
    eh_frame: bool,
    symbols: bool,
    lines: bool,
    variables: bool,
    alloc: bool,
    every_task: bool,
    tasks: bool,
}

impl Facts {
    fn of(elf: &Elf<'_>, bytes: &[u8]) -> Facts {
        let has = |name| elf.section_by_name(name).is_some();
        let defines = |name: &str| {
            elf.dynamic_symbols().any(|symbol| symbol.is_definition() && symbol.name() == Ok(name))
        };
        let names =
            |part: &str| elf.symbols().any(|symbol| symbol.name().is_ok_and(|name| name.contains(part)));
        let headers = elf.elf_program_headers();
        let interpreter = headers
            .iter()
            .any(|header| ProgramHeader::p_type(header, elf.endian()) == object::elf::PT_INTERP);
        Facts {
            kymo: contains(elf, bytes, MARK),
            hooked: HOOKED.iter().all(|name| defines(name)),
            interpreter,
            eh_frame: has(".eh_frame"),
            symbols: elf.symbols().any(|symbol| symbol.is_definition()),
            lines: has(".debug_line"),
            variables: has(".debug_info"),
            alloc: names("kymo7sources5alloc") && names("GlobalAlloc"),
            every_task: names("every_task"),
            tasks: names("tokio"),
        }
    }
}

/// Whether the constants hold some text.
fn contains(elf: &Elf<'_>, bytes: &[u8], text: &[u8]) -> bool {
    let constants = elf.section_by_name(".rodata").and_then(|section| section.data().ok());
    constants.unwrap_or(bytes).windows(text.len()).any(|window| window == text)
}

fn kymo(facts: &Facts, path: &Path) -> Check {
    match facts.kymo {
        true => Check::new("kymo", State::On, "linked; the program records when it is asked to").costs(EVENT),
        false if facts.interpreter => {
            let run = format!("KYMO_TRACE=t.kymo LD_PRELOAD=/path/to/libkymo.so {}", path.display());
            Check::new("kymo", State::Off, "not linked").fix(format!(
                "cargo add kymo, and in main: let _kymo = kymo::serve(\"127.0.0.1:6060\")?; without a change: {run}"
            ))
        }
        false => Check::new("kymo", State::Off, "not linked")
            .fix("cargo add kymo, and in main: let _kymo = kymo::serve(\"127.0.0.1:6060\")?;"),
    }
}

fn hooks(facts: &Facts) -> Check {
    let check = match facts {
        Facts { interpreter: false, .. } => {
            Check::new("hooks", State::Off, "linked statically: libc's calls can't be hooked")
                .fix("RUSTFLAGS=\"-C target-feature=-crt-static\" cargo build")
        }
        Facts { hooked: true, kymo: true, .. } => {
            Check::new("hooks", State::On, "libc's calls go through kymo: locks, files, sockets, threads")
        }
        Facts { kymo: true, .. } => Check::new("hooks", State::Off, "kymo is linked without its hooks")
            .fix("kymo = { version = \"0.1\", features = [\"hooks\"] }"),
        _ => Check::new("hooks", State::Off, "none: they come with kymo"),
    };
    Check { costs: costs_of("hooks"), ..check }
}

fn stacks(facts: &Facts) -> Check {
    match facts.eh_frame {
        true => Check::new("stacks", State::On, "by .eh_frame, without frame pointers").costs("5 ns a frame"),
        false => Check::new("stacks", State::Off, "no .eh_frame: stacks end at their first frame")
            .fix("RUSTFLAGS=\"-C force-unwind-tables=yes\" cargo build"),
    }
}

fn names(facts: &Facts) -> Check {
    match (facts.symbols, facts.variables) {
        (true, _) | (false, true) => Check::new("names", State::On, "functions have names"),
        (false, false) => Check::new("names", State::Off, "stripped: frames are addresses").fix(
            "[profile.release] strip = false (a copy that is not stripped names a trace's frames later, too)",
        ),
    }
}

fn inlined(facts: &Facts) -> Check {
    match (facts.lines, facts.variables) {
        (true, true) => {
            Check::new("lines", State::On, "files, lines, and what was inlined, if debug is 1 or more")
        }
        _ => Check::new(
            "lines",
            State::Off,
            "no debug information: no lines, and inlined functions have no names",
        )
        .fix("[profile.release] debug = \"limited\""),
    }
}

/// What only a program with kymo and its symbols tells.
fn in_kymo(facts: &Facts) -> Vec<Check> {
    if !facts.kymo {
        return Vec::new();
    }
    let unknown = |name: &str| {
        Check::new(name, State::Unknown, "a stripped file doesn't tell; the service's status does")
            .fix("kymo doctor http://HOST:PORT")
    };
    if !facts.symbols {
        return vec![unknown("tasks"), unknown("allocations")];
    }
    let tasks = match (facts.every_task, facts.tasks) {
        (true, _) => Check::new("tasks", State::On, "every task of an instrumented runtime"),
        (false, true) => Check::new("tasks", State::Partly, "those of kymo::spawn and .traced()")
            .fix("RUSTFLAGS=\"--cfg tokio_unstable\" cargo build, for every task"),
        (false, false) => Check::new("tasks", State::Off, "tokio is not linked"),
    };
    let alloc = match facts.alloc {
        true => Check::new(
            "allocations",
            State::On,
            "kymo::Alloc is linked; the service's status says if it is used",
        ),
        false => Check::new("allocations", State::Off, "kymo::Alloc is not linked")
            .fix("#[global_allocator] static ALLOC: kymo::Alloc = kymo::Alloc::new();"),
    };
    vec![Check { costs: costs_of("tasks"), ..tasks }, Check { costs: costs_of("allocations"), ..alloc }]
}
