//! Others who reach past the C library's symbols, or stand in front of them: nothing of theirs is broken, and what is
//! not seen is what the README says.

#![cfg(feature = "hooks")]
#![allow(unsafe_code, reason = "calls the kernel by hand")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a ring's set-up belongs together")]

mod preloaded;
mod recorded;
mod watched;

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null_mut;

use kymo::events::Call;
use kymo::model::Trace;
use preloaded::{library, preloaded, trace};

/// Results of one call in a trace.
fn results(trace: &Trace, call: Call) -> Vec<i64> {
    trace.calls.iter().filter(|seen| seen.call == call).map(|seen| seen.result).collect()
}

/// read(2), by instruction.
#[cfg(target_arch = "x86_64")]
fn raw_read(fd: i32, bytes: &mut [u8]) -> i64 {
    let mut result = libc::SYS_read;
    // SAFETY: the kernel writes as many bytes as there are.
    unsafe {
        std::arch::asm!("syscall", inout("rax") result, in("rdi") fd, in("rsi") bytes.as_mut_ptr(), in("rdx") bytes.len(),
            out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "x86_64")]
#[test]
fn e4_a_call_by_instruction_is_not_seen_and_not_broken() {
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let (read, trace) = recorded::record_unnamed(|| {
        let mut bytes = [7; 100];
        (raw_read(zero.as_raw_fd(), &mut bytes), raw_read(-1, &mut bytes), bytes)
    });
    assert_eq!(read, (100, -i64::from(libc::EBADF), [0; 100]));
    assert_eq!(results(&trace, Call::Read), [0i64; 0]);
}

#[test]
fn e4_a_ring_of_the_kernels_is_not_seen_and_not_broken() {
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let (read, trace) = recorded::record_unnamed(|| {
        let mut bytes = [7; 100];
        ring_read(zero.as_raw_fd(), &mut bytes).map(|read| (read, bytes))
    });
    match read {
        Ok(read) => assert_eq!(read, (100, [0; 100])),
        // Containers and hardened machines have none.
        Err(errno) => assert!([libc::ENOSYS, libc::EPERM, libc::EACCES].contains(&errno), "{errno}"),
    }
    assert_eq!(results(&trace, Call::Read), [0i64; 0]);
}

/// read(2), by io_uring(7), whose descriptions libc's headers don't have: all are words at fixed places.
fn ring_read(fd: i32, bytes: &mut [u8]) -> Result<i32, i32> {
    const OFFSETS: usize = 10;
    const RINGS: i64 = 0;
    const ENTRIES: i64 = 0x1000_0000;
    const READ: u32 = 22;
    const WAIT: u32 = 1;
    let mut parameters = [0u32; 30];
    // SAFETY: the kernel fills the parameters, and says by them where in the rings its words are; one entry is written,
    // of the 64 bytes that it has, and one answer read.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) as i32;
        if ring < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
        }
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let rings = libc::mmap(null_mut(), 4096, access, shared, ring, RINGS);
        let entries = libc::mmap(null_mut(), 4096, access, shared, ring, ENTRIES);
        assert!(rings != libc::MAP_FAILED && entries != libc::MAP_FAILED);
        let word = |offset: u32| rings.byte_add(offset as usize).cast::<u32>();
        let submission = &parameters[OFFSETS..OFFSETS + 10];
        let completion = &parameters[OFFSETS + 10..OFFSETS + 20];
        let entry = entries.cast::<u32>();
        entry.write(READ);
        entry.add(1).write(fd as u32);
        entry.byte_add(16).cast::<u64>().write(bytes.as_mut_ptr().expose_provenance() as u64);
        entry.byte_add(24).write(bytes.len() as u32);
        word(submission[6]).write(0);
        word(submission[1]).write_volatile(1);
        let none = std::ptr::null::<u8>();
        assert_eq!(libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, WAIT, none, 0), 1);
        let result = word(completion[5] + 8).cast::<i32>().read_volatile();
        libc::close(ring);
        Ok(result)
    }
}

/// A library that stands in front of read(2) and counts, as others do that are preloaded.
fn counting_library(folder: &Path) -> PathBuf {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        static int reads;
        ssize_t read(int fd, void *bytes, size_t count) {
            static ssize_t (*next)(int, void *, size_t);
            if (!next) next = dlsym(RTLD_NEXT, "read");
            reads++;
            return next(fd, bytes, count);
        }
        int fsync(int fd) { return 0; }
        __attribute__((destructor)) static void tell(void) {
            FILE *place = fopen(getenv("COUNTED"), "w");
            fprintf(place, "%d", reads);
            fclose(place);
        }
    "#;
    let (source, library) = (folder.join("counting.c"), folder.join("counting.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(status.unwrap().success());
    library
}

#[test]
fn e3_other_interposers() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (library(), counting_library(folder.path()));
    let [written, read, counted] = ["trace", "read", "counted"].map(|name| folder.path().join(name));
    std::fs::write(&read, "kymo").unwrap();
    for order in [[&ours, &theirs], [&theirs, &ours]] {
        let both = order.map(|path| path.to_str().unwrap()).join(":");
        let mut command = Command::new("cat");
        preloaded(command.arg(&read), &written).env("LD_PRELOAD", &both).env("COUNTED", &counted);
        assert_eq!(command.output().unwrap().stdout, b"kymo", "{both}");
        let reads: u32 = std::fs::read_to_string(&counted).unwrap().parse().unwrap();
        assert!(reads >= 2, "{both}: those of kymo's own may be among them");
        assert_eq!(results(&trace(&written), Call::Read), [4, 0], "{both}");
    }
}

/// `cat` of a small file, preloaded and to be recorded, with a limit of its resources; what it wrote to its two ends.
fn limited(resource: u32, limit: u64, trace: &Path) -> (String, String) {
    let mut command = Command::new("cat");
    preloaded(command.arg("/proc/self/comm"), trace);
    // SAFETY: setrlimit(2) may be called after a fork.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            assert_eq!(libc::setrlimit(resource, &limit), 0);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn e6_resource_denied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let (out, said) = limited(libc::RLIMIT_AS, 100 << 20, &path);
    assert_eq!(out, "cat\n");
    assert!(said.contains("not recorded: memory for recording could not be had"), "{said}");
    let (out, said) = limited(libc::RLIMIT_FSIZE, 0, &path);
    assert_eq!((out.as_str(), said.as_str()), ("cat\n", ""), "and no SIGXFSZ");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let (out, _) = limited(libc::RLIMIT_NOFILE, 5, &path);
    assert_eq!(out, "cat\n");
    assert_eq!(results(&trace(&path), Call::Read), [4, 0], "a low descriptor is better than none");
}
