//! Programs that don't know of kymo are recorded by `libkymo.so` in LD_PRELOAD, and behave as they do without it.

#![cfg(feature = "hooks")]

mod preloaded;
mod watched;

use std::path::Path;
use std::process::Command;

use kymo::events::Call;
use kymo::model::Trace;
use preloaded::{preloaded, trace};

fn names(trace: &Trace) -> Vec<&str> {
    trace.fd_names.iter().map(|name| trace.text(name.name)).collect()
}

#[test]
fn a_program_that_does_not_link_kymo_is_recorded_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (read, written) = (folder.path().join("read"), folder.path().join("trace"));
    std::fs::write(&read, "kymo").unwrap();
    let output = preloaded(Command::new("cat").arg(&read), &written).output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"kymo".as_slice(), b"".as_slice()));
    let trace = trace(&written);
    let results = |call| {
        trace.calls.iter().filter(|seen| seen.call == call).map(|seen| seen.result).collect::<Vec<_>>()
    };
    assert_eq!((results(Call::Read), results(Call::Write)), (vec![4, 0], vec![4]));
    assert!(names(&trace).contains(&read.to_str().unwrap()));
}

#[test]
fn the_programs_that_it_starts_write_a_trace_each_if_their_number_is_in_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let traces = |shell: &str, name: &str| {
        // Bash has a getenv(3) and an unsetenv(3) of its own.
        let run = "cat /proc/self/comm; cat /proc/self/comm; echo $KYMO_TRACE";
        let path = folder.path().join(shell).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let output = preloaded(Command::new(shell).args(["-c", run]), &path).output().unwrap();
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        (String::from_utf8(output.stdout).unwrap(), files)
    };
    for shell in ["sh", "bash"] {
        assert_eq!(traces(shell, "one"), ("cat\ncat\n\n".to_owned(), 1), "{shell}");
        let each = folder.path().join(shell).join("%p").to_str().unwrap().to_owned();
        assert_eq!(traces(shell, "%p"), (format!("cat\ncat\n{each}\n"), 1 + 3), "{shell}");
    }
    // The other one leaves by _exit(2).
    assert_eq!(trace(&folder.path().join("bash/one")).info.program, "bash");
}

#[test]
fn a_file_that_cannot_be_made_is_said_and_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, why) in [(Path::new("/no/such/folder"), "No such file"), (&pipe, "No such device")] {
        let output = preloaded(Command::new("echo").arg("runs"), path).output().unwrap();
        assert_eq!(output.stdout, b"runs\n");
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("kymo: KYMO_TRACE={}: not recorded: {why}", path.display());
        assert!(said.starts_with(&expected), "{said}");
    }
}
