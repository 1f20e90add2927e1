//! What is mapped into the process, as the dynamic linker lists it: where, which file, which build, and the bytes of
//! its frame descriptions.
//!
//! Reads the mapped images, not the files: it works for a deleted program and for the kernel's vDSO, and sees exactly
//! what runs. The linker holds its lock while [`dl_iterate_phdr`] calls back, so an image can't be unmapped while it
//! is read; everything is copied out, and nothing else is done under that lock.
//!
//! Invariant: a reference into an image MUST not leave the callback. Otherwise `dlclose` unmaps what it points to.
#![allow(unsafe_code, reason = "the dynamic linker's list is C, and the images are raw memory")]

use std::ffi::{CStr, c_int, c_void};

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use libc::{PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE, dl_iterate_phdr, dl_phdr_info};

use super::LoadedModule;
use super::table::EhFrameBytes;

/// How often the linker has mapped and unmapped something: equal numbers mean an unchanged list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    adds: u64,
    subs: u64,
}

/// Asks the linker whether its list has changed.
pub(super) fn generation() -> Generation {
    let mut generation = Generation { adds: 0, subs: 0 };
    for_each(&mut |image| {
        generation = Generation { adds: image.info.dlpi_adds, subs: image.info.dlpi_subs };
        false
    });
    generation
}

/// Lists the modules.
pub(super) fn modules() -> Vec<LoadedModule> {
    let mut modules = Vec::new();
    for_each(&mut |image| {
        modules.extend(image.module());
        true
    });
    name_the_nameless(&mut modules);
    modules
}

/// Lists the modules with their frame descriptions, where they have any.
pub(super) fn modules_with_frames() -> Vec<(LoadedModule, EhFrameBytes)> {
    let mut modules = Vec::new();
    for_each(&mut |image| {
        modules.extend(image.module().zip(image.eh_frame()));
        true
    });
    modules
}

/// Names the program and the vDSO, for which the linker has no path; outside of its lock.
fn name_the_nameless(modules: &mut [LoadedModule]) {
    for module in modules {
        if module.path.is_empty() {
            let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
            module.path = program.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        } else if module.path.starts_with("linux-vdso") {
            module.path = "[vdso]".to_owned();
        }
    }
}

/// Calls `visit` for each image until it returns false.
fn for_each(visit: &mut dyn FnMut(Image<'_>) -> bool) {
    unsafe extern "C" fn call(info: *mut dl_phdr_info, _size: usize, visit: *mut c_void) -> c_int {
        // SAFETY: the linker passes a description that is valid during the call.
        let info = unsafe { &*info };
        // SAFETY: this is the pointer that `for_each` gave, to a closure that it borrows until the linker is done.
        let visit = unsafe { &mut *visit.cast::<&mut dyn FnMut(Image<'_>) -> bool>() };
        c_int::from(!visit(Image { info }))
    }
    let mut visit = visit;
    // SAFETY: `call` expects exactly this pointer, and it lives until the call returns.
    unsafe { dl_iterate_phdr(Some(call), (&raw mut visit).cast()) };
}

/// One image, inside the linker's callback.
struct Image<'a> {
    info: &'a dl_phdr_info,
}

type Segment = libc::Elf64_Phdr;

impl<'a> Image<'a> {
    fn segments(&self) -> &'a [Segment] {
        if self.info.dlpi_phdr.is_null() {
            return &[];
        }
        // SAFETY: the linker says where the program headers are and how many; they stay while the image is mapped.
        unsafe { std::slice::from_raw_parts(self.info.dlpi_phdr, usize::from(self.info.dlpi_phnum)) }
    }

    fn loads(&self) -> impl Iterator<Item = &'a Segment> {
        self.segments().iter().filter(|segment| segment.p_type == PT_LOAD)
    }

    /// Where it is mapped, what it is; none if it has no memory.
    fn module(&self) -> Option<LoadedModule> {
        let bias = self.info.dlpi_addr;
        let start = self.loads().map(|segment| segment.p_vaddr).min()?;
        let end = self.loads().map(|segment| segment.p_vaddr.saturating_add(segment.p_memsz)).max()?;
        let executable = self.loads().find(|segment| segment.p_flags & libc::PF_X != 0);
        Some(LoadedModule {
            start: bias.wrapping_add(start),
            end: bias.wrapping_add(end),
            bias,
            offset: executable.map_or(0, |segment| segment.p_offset),
            path: self.name(),
            build_id: self.build_id().unwrap_or_default(),
        })
    }

    fn name(&self) -> String {
        if self.info.dlpi_name.is_null() {
            return String::new();
        }
        // SAFETY: the linker's names end with a zero and stay while the image is mapped.
        unsafe { CStr::from_ptr(self.info.dlpi_name) }.to_string_lossy().into_owned()
    }

    /// The bytes from an address of the file on: `length` of them, or up to its segment's end if that is nearer.
    fn bytes(&self, address: u64, length: u64) -> Option<&'a [u8]> {
        let holds = |segment: &&Segment| {
            (segment.p_vaddr..segment.p_vaddr.saturating_add(segment.p_filesz)).contains(&address)
                && segment.p_flags & libc::PF_R != 0
        };
        let segment = self.loads().find(holds)?;
        let length = length.min(segment.p_vaddr + segment.p_filesz - address);
        let first = self.info.dlpi_addr.wrapping_add(address) as *const u8;
        // SAFETY: a readable segment that the linker has mapped holds these bytes, and it stays mapped during the
        // callback.
        Some(unsafe { std::slice::from_raw_parts(first, length as usize) })
    }

    fn build_id(&self) -> Option<Vec<u8>> {
        let notes = self.segments().iter().filter(|segment| segment.p_type == PT_NOTE);
        notes.filter_map(|notes| build_id(self.bytes(notes.p_vaddr, notes.p_memsz)?, notes.p_align)).next()
    }

    /// Copies its frame descriptions.
    fn eh_frame(&self) -> Option<EhFrameBytes> {
        let header = self.segments().iter().find(|segment| segment.p_type == PT_GNU_EH_FRAME)?;
        let bytes = self.bytes(header.p_vaddr, header.p_memsz)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.p_vaddr);
        let parsed = EhFrameHdr::new(bytes, LittleEndian).parse(&bases, 8).ok()?;
        let Pointer::Direct(address) = parsed.eh_frame_ptr() else { return None };
        Some(EhFrameBytes { bytes: self.bytes(address, u64::MAX)?.to_vec(), address })
    }
}

/// The GNU build id among ELF notes: name length, description length, type, name, description.
fn build_id(mut notes: &[u8], align: u64) -> Option<Vec<u8>> {
    const HEAD: usize = 12;
    const NT_GNU_BUILD_ID: u32 = 3;
    let align = if align == 8 { 8 } else { 4 };
    while notes.len() >= HEAD {
        let word = |at: usize| u32::from_le_bytes([notes[at], notes[at + 1], notes[at + 2], notes[at + 3]]);
        let (name_length, length, kind) = (word(0) as usize, word(4) as usize, word(8));
        let description = (HEAD + name_length).next_multiple_of(align);
        let end = description.checked_add(length)?;
        if kind == NT_GNU_BUILD_ID && notes.get(HEAD..HEAD + name_length) == Some(b"GNU\0") {
            return notes.get(description..end).map(<[u8]>::to_vec);
        }
        notes = notes.get(end.next_multiple_of(align)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_the_program_itself() {
        let modules = modules();
        let here = lists_the_program_itself as fn() as usize as u64;
        let program = modules.iter().find(|module| (module.start..module.end).contains(&here)).unwrap();
        assert_eq!(program.path, std::env::current_exe().unwrap().to_string_lossy());
        assert!(modules.iter().any(|module| module.path.contains("libc.so") && module.build_id.len() == 20));
        assert!(modules.iter().any(|module| module.path == "[vdso]"));
    }

    #[test]
    fn the_list_is_the_same_until_something_is_loaded() {
        assert_eq!(generation(), generation());
    }

    #[test]
    fn finds_the_build_id_behind_other_notes() {
        let note = |kind: u32, name: &[u8], text: &[u8]| {
            let mut note = Vec::new();
            for word in [name.len() as u32, text.len() as u32, kind] {
                note.extend(word.to_le_bytes());
            }
            note.extend(name);
            note.resize(note.len().next_multiple_of(4), 0);
            note.extend(text);
            note.resize(note.len().next_multiple_of(4), 0);
            note
        };
        let notes =
            [note(1, b"GNU\0", &[9; 16]), note(3, b"Go\0", b"x"), note(3, b"GNU\0", b"build id")].concat();
        assert_eq!(build_id(&notes, 4), Some(b"build id".to_vec()));
        assert_eq!(build_id(&notes[..notes.len() - 1], 4), None);
    }

    proptest! {
        #[test]
        fn any_notes_are_survived(notes: Vec<u8>, align in 0..16u64) {
            build_id(&notes, align);
        }
    }
}
