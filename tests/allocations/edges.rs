//! The allocator's interface passes through as it is, and nothing of ours comes back to it.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use crate::ALLOC;
use crate::noting::{Asked, latest, refusing, times};
use crate::watched::{in_child, within_patience};

const MB: usize = 1 << 20;

fn layouts() -> impl Iterator<Item = Layout> {
    let aligns = (0..=12).chain([21]).map(|power| 1 << power);
    aligns.flat_map(|align| {
        [1, 2, 63, 64, 4096, 3 * MB].map(|size| Layout::from_size_align(size, align).unwrap())
    })
}

/// Allocates, grows, shrinks and frees; the bytes stay what they were and every call arrives as it was made.
fn passes_through(layout: Layout, zeroed: bool) {
    // SAFETY: the layout has a size.
    let place = unsafe { if zeroed { ALLOC.alloc_zeroed(layout) } else { ALLOC.alloc(layout) } };
    let asked = if zeroed { Asked::Zeroed } else { Asked::Alloc };
    assert_eq!(latest(), asked(layout, place.addr()));
    assert_eq!(place.addr() % layout.align(), 0);
    // SAFETY: both bytes are the allocation's; they were zeroed, or are written first.
    unsafe {
        let last = place.add(layout.size() - 1);
        assert!(!zeroed || (*place, *last) == (0, 0));
        (*place, *last) = (1, 1);
    }
    // SAFETY: it was allocated with this layout, and the new size is above zero.
    let grown = unsafe { ALLOC.realloc(place, layout, 2 * layout.size()) };
    assert_eq!(latest(), Asked::Realloc(place.addr(), layout, 2 * layout.size(), grown.addr()));
    let double = Layout::from_size_align(2 * layout.size(), layout.align()).unwrap();
    // SAFETY: as above.
    let shrunk = unsafe { ALLOC.realloc(grown, double, 1) };
    assert_eq!(latest(), Asked::Realloc(grown.addr(), double, 1, shrunk.addr()));
    // SAFETY: one byte is left of the allocation.
    assert_eq!(unsafe { *shrunk }, 1);
    let one = Layout::from_size_align(1, layout.align()).unwrap();
    // SAFETY: it was allocated with this layout.
    unsafe { ALLOC.dealloc(shrunk, one) };
    assert_eq!(latest(), Asked::Dealloc(shrunk.addr(), one));
}

#[test]
fn c2_every_call_arrives_as_it_was_made_and_its_answer_comes_back() {
    in_child(|| {
        for rate in [0, 1, 4096] {
            kymo::set_mem_profile_rate(rate);
            layouts().for_each(|layout| [false, true].into_iter().for_each(|z| passes_through(layout, z)));
        }
    });
}

#[test]
fn c2_a_refusal_comes_back_and_costs_nothing() {
    in_child(|| {
        kymo::set_mem_profile_rate(1);
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: the layout has a size.
        let place = unsafe { ALLOC.alloc(layout) };
        let before = kymo::heap_counts();
        refusing(|| {
            // SAFETY: as above.
            assert!(unsafe { ALLOC.alloc(layout) }.is_null());
            // SAFETY: as above.
            assert!(unsafe { ALLOC.alloc_zeroed(layout) }.is_null());
            // SAFETY: it was allocated with this layout.
            assert!(unsafe { ALLOC.realloc(place, layout, 2000) }.is_null());
            assert!(Vec::<u8>::new().try_reserve(100).is_err());
        });
        assert_eq!(kymo::heap_counts(), before);
        let frees = crate::recorded::record_unnamed(|| {
            // SAFETY: the refused reallocation left it as it was.
            unsafe { ALLOC.dealloc(place, layout) };
        });
        let frees = frees.1.memory.frees;
        assert!(frees.iter().any(|free| free.addr == place.addr() as u64 && free.size == 1000), "{frees:?}");
    });
}

#[test]
fn c2_what_has_no_size_asks_nobody() {
    in_child(|| {
        let asked = times(|| {
            let mut units = vec![(); 1000];
            units.push(());
            black_box((Box::new(()), units));
        });
        assert_eq!(asked, 0);
    });
}

/// Work in which a program allocates in odd places.
fn odd_places() {
    drop(std::fs::read("/proc/self/stat").unwrap());
    // SAFETY: a C string; the handle is not used.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"kymo_has_no_such_symbol".as_ptr()) };
    std::panic::catch_unwind(|| panic!("{}", black_box("of a test"))).unwrap_err();
    drop(std::backtrace::Backtrace::force_capture().to_string());
    std::thread::spawn(|| drop(black_box(vec![0_u8; 100]))).join().unwrap();
}

#[test]
fn c1_sampling_every_allocation_never_allocates() {
    in_child(|| {
        kymo::set_mem_profile_rate(1);
        let (asked, trace) = crate::recorded::record_unnamed(|| {
            odd_places();
            let pairs = || (0..1000).for_each(|size| drop(black_box(vec![0_u8; 1 + size])));
            pairs();
            times(pairs)
        });
        assert_eq!(asked, 2000, "an allocation and a free each, and nothing of kymo's");
        let own = trace.memory.allocations.iter().filter(|sample| sample.stack.0 > 1).count();
        assert!(own >= 2000 && trace.memory.frees.len() >= 2000, "{own} samples");
        assert!(trace.memory.allocations.iter().all(|sample| sample.weight == sample.size));
    });
}

#[test]
fn c1_a_program_that_gets_no_memory_dies_of_that() {
    const MARK: &str = "KYMO_TEST_NO_MEMORY";
    if std::env::var_os(MARK).is_some() {
        kymo::set_mem_profile_rate(1);
        refusing(|| black_box(vec![0_u8; 123_457]));
    }
    let mut command = std::process::Command::new("sh");
    // The shell says of what signal it died.
    command.args(["-c", "\"$0\" --exact \"$1\" --nocapture 2>&1; echo died of $?"]);
    command.arg(std::env::current_exe().unwrap());
    command.arg("edges::c1_a_program_that_gets_no_memory_dies_of_that").env(MARK, "1");
    let said = within_patience(command);
    assert!(said.contains("allocation of 123457 bytes failed") && said.contains("died of 134"), "{said}");
}
