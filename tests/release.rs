//! What must survive the optimiser: with fat LTO and one codegen unit the hooks are still bound, and stacks still name
//! what was inlined.
//!
//! Builds `examples/await_stacks.rs` with the profile `lto` in a target folder of its own, runs it, reads its trace.

#![cfg(all(feature = "hooks", feature = "tokio", feature = "analysis"))]

use std::path::Path;
use std::process::Command;

use kymo::model::Trace;

fn build_and_record(folder: &Path) -> Trace {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/lto-example");
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "-q", "--profile", "lto", "--example", "await_stacks"])
        .args(["--no-default-features", "--features", "hooks,tokio,tokio/time", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(status.success());
    let file = folder.join("t.kymo");
    let status = Command::new(target.join("lto/examples/await_stacks")).arg(&file).status().unwrap();
    assert!(status.success());
    let (mut trace, problems) = kymo::model::load::load(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(problems, []);
    // The program brought no symbols: they are found by the modules that its trace names.
    let addresses: Vec<u64> = trace.stacks.addresses.values().flatten().copied().collect();
    let symbols = kymo::model::symbols::resolve(&addresses, &trace.stacks.modules);
    trace.stacks.symbols = symbols.into_iter().map(|symbol| (symbol.address, symbol.frames)).collect();
    trace
}

fn functions(trace: &Trace, stack: kymo::events::StackId) -> Vec<String> {
    trace.stacks.frames(stack).map(|frame| frame.function.clone()).collect()
}

#[test]
fn with_fat_lto_await_stacks_name_every_async_function_and_locks_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let trace = build_and_record(folder.path());
    let server = trace.tasks.iter().position(|task| task.name == "server").expect("the task is there") as u32;
    let suspensions: Vec<_> =
        trace.suspensions.iter().filter(|suspension| suspension.task == server).collect();
    assert_eq!(suspensions.len(), 3);
    for suspension in suspensions {
        let stack = functions(&trace, suspension.stack);
        for name in ["leaf_query", "handle_request", "server_loop"] {
            assert!(stack.iter().any(|function| function.contains(name)), "{name} is not in {stack:#?}");
        }
    }
    let waits = |wait: &kymo::model::Wait| {
        let stack = functions(&trace, wait.stack);
        stack.iter().any(|function| function.contains("waits_for_the_lock"))
    };
    assert!(trace.waits.iter().any(waits), "the wait for the lock is seen: the hooks are bound");
}
