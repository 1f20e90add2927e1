//! Stacks of this process, against what `std::backtrace` and framehop say of the same moment.

use std::hint::black_box;

#[inline(never)]
fn leaf(frames: &mut [u64]) -> usize {
    let count = kymo::unwind::capture(frames);
    black_box(count)
}

fn modules() -> Vec<kymo::format::Module> {
    let modules = kymo::unwind::modules().into_iter();
    let module = |module: kymo::unwind::LoadedModule| kymo::format::Module {
        start: module.start,
        end: module.end,
        bias: module.bias,
        offset: module.offset,
        path: module.path,
        build_id: module.build_id,
    };
    modules.map(module).collect()
}

#[test]
fn a_stack_goes_down_to_the_threads_beginning() {
    kymo::unwind::prepare();
    let mut frames = [0; 64];
    let count = leaf(&mut frames);
    let symbols = kymo::model::symbols::resolve(&frames[..count], &modules());
    let names: Vec<&str> =
        symbols.iter().flat_map(|symbol| symbol.frames.iter().map(|frame| frame.function.as_str())).collect();
    for expected in ["unwind::leaf", "unwind::a_stack_goes_down_to_the_threads_beginning", "start_thread"] {
        assert!(names.contains(&expected), "{expected} is not among {names:#?}");
    }
}
