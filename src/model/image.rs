//! The file behind a module: whether it is the one that ran, its debug information, its symbol table.
//!
//! Debug information may be in the file itself, compressed or not, or in a file of its own that distributions put
//! below `/usr/lib/debug/.build-id`. Parts of it that are kept elsewhere (split DWARF) are not followed: the symbol
//! table names functions then.
//!
//! Whatever the bytes hold, the worst is a frame without a name: every error of the parsers counts as "not known".

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use addr2line::Context;
use gimli::{EndianSlice, LittleEndian};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{CompressionFormat, Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::mapped::map;
use super::source_path::Crates;
use crate::format::{Frame, Module};
use crate::limits::DEBUG_SECTION_BYTES;

type File<'a> = ElfFile64<'a, object::LittleEndian>;
type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// An open file: what names its addresses.
pub(crate) struct Image<'a> {
    debug: Option<Context<Slice<'a>>>,
    crates: Crates,
    /// What is executable: only there are functions. Those that the linker dropped are left at 0 in debug information.
    code: Vec<Range<u64>>,
    functions: Vec<Function<'a>>,
}

/// A function of the symbol table.
struct Function<'a> {
    start: u64,
    /// 0 where the table doesn't say.
    size: u64,
    name: &'a str,
}

impl Image<'_> {
    /// Opens a module's file and asks it; `None` if there is no file, or only another one than the one that ran.
    pub(crate) fn with<T>(module: &Module, ask: impl FnOnce(&Image<'_>) -> T) -> Option<T> {
        let program = candidates(module).into_iter().find_map(|path| {
            let bytes = map(&path).ok()?;
            is_of(&bytes, module).then_some(bytes)
        })?;
        let program = File::parse(&*program).ok()?;
        let apart = if has_debug_info(&program) { None } else { debug_file(&module.build_id) };
        let apart = apart.as_deref().and_then(|bytes| File::parse(bytes).ok());
        let debug = apart.as_ref().unwrap_or(&program);
        let sections = Sections::of(debug);
        let mut functions = functions(&program);
        if let Some(apart) = &apart {
            functions.extend(self::functions(apart));
        }
        functions.sort_by_key(|function| (function.start, function.size));
        let debug = sections.dwarf();
        let crates = debug.as_ref().map_or_else(Crates::default, crates);
        Some(ask(&Image {
            debug: debug.and_then(|debug| Context::from_dwarf(debug).ok()),
            crates,
            code: code(&program),
            functions,
        }))
    }

    /// The frames of the instruction at an address of the file, innermost first; none if nothing is known. A function
    /// that the linker doesn't know (it was inlined, and debug information is sparse) has its bare name only.
    pub(crate) fn frames(&self, address: u64) -> Vec<Frame> {
        if !self.code.iter().any(|code| code.contains(&address)) {
            return Vec::new();
        }
        let mut frames = self.debug.as_ref().map_or_else(Vec::new, |debug| frames_of(debug, address));
        if let Some(outermost) = frames.last_mut() {
            // Sparse debug information leaves the path of a function out; the linker's name has it.
            if let Some(name) = self.function(address) {
                outermost.mangled = name.to_owned();
            }
        } else if let Some(name) = self.function(address) {
            frames.push(Frame { mangled: name.to_owned(), ..Frame::default() });
        }
        frames.retain(|frame| !frame.mangled.is_empty() || !frame.function.is_empty());
        let last = frames.len().saturating_sub(1);
        frames[..last].iter_mut().for_each(|frame| frame.inlined = true);
        frames
    }

    /// Which crate's files are where.
    pub(crate) fn crates(&self) -> &Crates {
        &self.crates
    }

    /// The symbol table's name of the function around an address.
    fn function(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions[..after].last()?;
        (function.size == 0 || address - function.start < function.size).then_some(function.name)
    }
}

/// Where a module's file may be: at its path, and, if it is this process that runs it, at what the kernel holds open.
fn candidates(module: &Module) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(&module.path)];
    if !module.build_id.is_empty() {
        paths.push(PathBuf::from("/proc/self/exe"));
    }
    paths
}

/// Whether a file is the one that ran: the same build id; where neither has one, the same extent in memory.
fn is_of(bytes: &[u8], module: &Module) -> bool {
    let Ok(file) = File::parse(bytes) else { return false };
    let build_id = file.build_id().ok().flatten().unwrap_or_default();
    if !build_id.is_empty() || !module.build_id.is_empty() {
        return build_id == module.build_id;
    }
    extent(&file) == Some((module.start.wrapping_sub(module.bias), module.end.wrapping_sub(module.bias)))
}

/// The addresses from the first mapped byte to after the last one.
fn extent(file: &File<'_>) -> Option<(u64, u64)> {
    let ranges = || loads(file).map(|(_, range)| range);
    Some((ranges().map(|range| range.start).min()?, ranges().map(|range| range.end).max()?))
}

/// The addresses of what is mapped executable.
fn code(file: &File<'_>) -> Vec<Range<u64>> {
    loads(file).filter(|&(executable, _)| executable).map(|(_, range)| range).collect()
}

/// Each mapped segment: whether it is executable, and its addresses.
fn loads(file: &File<'_>) -> impl Iterator<Item = (bool, Range<u64>)> {
    let endian = file.endian();
    let headers = file.elf_header().program_headers(endian, file.data()).unwrap_or_default();
    headers.iter().filter(move |header| header.p_type(endian) == object::elf::PT_LOAD).map(move |header| {
        let start = header.p_vaddr(endian);
        (
            header.p_flags(endian).contains(object::elf::PF_X),
            start..start.saturating_add(header.p_memsz(endian)),
        )
    })
}

fn has_debug_info(file: &File<'_>) -> bool {
    file.section_by_name(".debug_info").is_some_and(|section| section.size() > 0)
}

/// The file that a distribution keeps debug information in.
fn debug_file(build_id: &[u8]) -> Option<memmap2::Mmap> {
    let (first, rest) = build_id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = map(Path::new(&format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug"))).ok()?;
    let same = File::parse(&*bytes).ok()?.build_id().ok().flatten() == Some(build_id);
    same.then_some(bytes)
}

/// The functions of a file's symbol tables.
fn functions<'a>(file: &File<'a>) -> Vec<Function<'a>> {
    let named = |symbol: object::read::elf::ElfSymbol64<'a, '_, object::LittleEndian>| {
        let code = symbol.kind() == SymbolKind::Text && symbol.is_definition();
        let name = symbol.name().ok().filter(|name| code && !name.is_empty())?;
        Some(Function { start: symbol.address(), size: symbol.size(), name })
    };
    file.symbols().chain(file.dynamic_symbols()).filter_map(named).collect()
}

/// The debug information's frames, innermost first.
fn frames_of(debug: &Context<Slice<'_>>, address: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    let Ok(mut found) = debug.find_frames(address).skip_all_loads() else { return frames };
    while let Ok(Some(frame)) = found.next() {
        let name =
            frame.function.as_ref().and_then(|name| name.raw_name().ok()).unwrap_or_default().into_owned();
        let rust = frame.function.is_some_and(|name| name.language == Some(gimli::DW_LANG_Rust));
        // Rust's bare names are not what the linker would call the function, C's are.
        let is_bare = rust && !name.starts_with('_');
        let (mangled, function) = if is_bare { (String::new(), name) } else { (name, String::new()) };
        let (file, line) = frame.location.map_or((None, None), |at| (at.file, at.line));
        frames.push(Frame {
            mangled,
            function,
            file: file.unwrap_or_default().to_owned(),
            line: line.unwrap_or(0),
            inlined: false,
        });
    }
    frames
}

/// A file's sections of debug information, decompressed where they were not plain.
struct Sections<'a>(Vec<(&'static str, Cow<'a, [u8]>)>);

impl<'a> Sections<'a> {
    fn of(file: &File<'a>) -> Sections<'a> {
        use gimli::SectionId as Id;
        let needed = [
            Id::DebugAbbrev,
            Id::DebugAddr,
            Id::DebugAranges,
            Id::DebugInfo,
            Id::DebugLine,
            Id::DebugLineStr,
            Id::DebugRanges,
            Id::DebugRngLists,
            Id::DebugStr,
            Id::DebugStrOffsets,
        ];
        let bytes =
            |id: Id| file.section_by_name(id.name()).and_then(|section| plain(&section)).unwrap_or_default();
        Sections(needed.into_iter().map(|id| (id.name(), bytes(id))).collect())
    }

    fn dwarf(&self) -> Option<gimli::Dwarf<Slice<'_>>> {
        let bytes = |id: gimli::SectionId| {
            let found = self.0.iter().find(|(name, _)| *name == id.name());
            Ok::<_, gimli::Error>(Slice::new(found.map_or(&[], |(_, bytes)| bytes), LittleEndian))
        };
        gimli::Dwarf::load(bytes).ok()
    }
}

/// What the units of debug information say of crates and their files.
fn crates(debug: &gimli::Dwarf<Slice<'_>>) -> Crates {
    let mut crates = Crates::default();
    let mut units = debug.units();
    while let Ok(Some(header)) = units.next() {
        let Ok(unit) = debug.unit(header) else { continue };
        if let (Some(name), Some(folder)) = (unit.name, unit.comp_dir) {
            crates.learn(&name.to_string_lossy(), &folder.to_string_lossy());
        }
    }
    crates
}

/// A section's bytes as they were before compression.
fn plain<'a, S: ObjectSection<'a>>(section: &S) -> Option<Cow<'a, [u8]>> {
    let data = section.compressed_data().ok()?;
    let known = matches!(
        data.format,
        CompressionFormat::None | CompressionFormat::Zlib | CompressionFormat::Zstandard
    );
    (known && data.uncompressed_size <= DEBUG_SECTION_BYTES).then(|| data.decompress().ok()).flatten()
}
