//! framehop, set up to walk this process's own stacks: another hand's reading of the same frame descriptions.

use std::arch::asm;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, MustNotAllocateDuringUnwind, Unwinder};
use object::{Object, ObjectSection};

/// An unwinder that knows the modules mapped now.
pub(crate) struct Oracle {
    unwinder: UnwinderX86_64<Vec<u8>, MustNotAllocateDuringUnwind>,
    cache: CacheX86_64<MustNotAllocateDuringUnwind>,
}

/// What a stack begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
}

/// The registers of the function that this is inlined into.
#[inline(always)]
pub(crate) fn registers() -> Registers {
    let (pc, sp, fp);
    // SAFETY: this reads registers only.
    unsafe { asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) pc, out(reg) sp, out(reg) fp) };
    Registers { pc, sp, fp }
}

/// The end of the calling thread's stack.
pub(crate) fn stack_end() -> u64 {
    let mut attributes = std::mem::MaybeUninit::uninit();
    let (mut start, mut length) = (std::ptr::null_mut(), 0);
    // SAFETY: this only asks for the calling thread's handle.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: the C library fills in what it is given for a thread that lives.
    assert_eq!(unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) }, 0);
    // SAFETY: the attributes were filled in above.
    assert_eq!(unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &mut start, &mut length) }, 0);
    // SAFETY: they are not used after this.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    start as u64 + length as u64
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        let mut unwinder = UnwinderX86_64::new();
        for module in kymo::unwind::modules() {
            let Ok(bytes) = std::fs::read(&module.path) else { continue };
            let file = object::File::parse(&*bytes).unwrap();
            let range = |name: &str| {
                let section = file.section_by_name(name)?;
                Some(section.address()..section.address() + section.size())
            };
            let data = |name: &str| Some(file.section_by_name(name)?.data().unwrap().to_vec());
            let sections = ExplicitModuleSectionInfo {
                text_svma: range(".text"),
                text: data(".text"),
                got_svma: range(".got"),
                eh_frame_svma: range(".eh_frame"),
                eh_frame: data(".eh_frame"),
                eh_frame_hdr_svma: range(".eh_frame_hdr"),
                eh_frame_hdr: data(".eh_frame_hdr"),
                ..Default::default()
            };
            unwinder.add_module(Module::new(
                module.path.clone(),
                module.start..module.end,
                module.bias,
                sections,
            ));
        }
        Oracle { unwinder, cache: CacheX86_64::new_in() }
    }

    /// The stack that begins at some registers of a thread whose stack ends at `end`, in kymo's form. Allocates
    /// nothing.
    pub(crate) fn stack(&mut self, at: Registers, end: u64, frames: &mut [u64]) -> usize {
        let mut read = |address: u64| {
            if address < at.sp || address >= end - 7 {
                return Err(());
            }
            // SAFETY: the thread's stack is mapped from its stack pointer to its end.
            Ok(unsafe { (address as *const u64).read_unaligned() })
        };
        let registers = UnwindRegsX86_64::new(at.pc, at.sp, at.fp);
        let mut found = self.unwinder.iter_frames(at.pc, registers, &mut self.cache, &mut read);
        let mut count = 0;
        while let Ok(Some(frame)) = found.next()
            && count < frames.len()
        {
            frames[count] = match frame {
                FrameAddress::InstructionPointer(address) => address + 1,
                FrameAddress::ReturnAddress(address) => address.get(),
            };
            count += 1;
        }
        count
    }
}
