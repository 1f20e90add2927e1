//! `kymo doctor` tells of this machine, a program and a service what can be seen, and how to get what is missing.

mod command;

use std::path::Path;
use std::process::Command;

use command::{Done, kymo};
use serde_json::Value;
use tempfile::tempdir;

fn doctor(target: &[&str]) -> Done {
    let here = tempdir().unwrap();
    kymo(here.path(), &[&["doctor", "--json"], target].concat())
}

fn report(target: &[&str]) -> Value {
    serde_json::from_str(doctor(target).text()).unwrap()
}

/// The target's line of a name.
fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {checks:#}"))
}

fn states<'a>(checks: &'a Value, names: &[&str]) -> Vec<&'a str> {
    names.iter().map(|name| check(checks, name)["state"].as_str().unwrap()).collect()
}

fn this_program() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

fn stripped(folder: &Path) -> String {
    let copy = folder.join("stripped");
    let status = Command::new("strip").arg("-o").arg(&copy).arg(this_program()).status();
    assert!(status.unwrap().success());
    copy.display().to_string()
}

#[test]
fn the_machine_is_told_by_trying_and_what_is_missing_has_a_line_that_helps() {
    let report = report(&[]);
    assert!(report["target"].is_null());
    let machine = &report["machine"];
    for name in ["clock", "perf events", "recorder", "cpu", "sched"] {
        check(machine, name);
    }
    for check in machine.as_array().unwrap() {
        assert!(!check["says"].as_str().unwrap().is_empty(), "{check:#}");
        assert!(check["state"] == "on" || check["fix"].is_string(), "no line that helps: {check:#}");
    }
    assert!(check(machine, "sched")["state"] != "unknown", "it is asked while it is on");
    assert!(check(machine, "recorder")["costs"].as_str().unwrap().contains("1 ns while nothing records"));
}

#[test]
fn a_program_with_kymo_shows_its_hooks_stacks_and_names() {
    // The hooks are in it because this test uses the library.
    assert!(kymo::status::sources().iter().any(|(name, state)| name == "hooks" && state.starts_with("on")));
    let report = report(&[&this_program()]);
    let checks = &report["target"]["checks"];
    assert_eq!(states(checks, &["kymo", "hooks", "stacks", "names", "lines"]), ["on"; 5]);
}

#[test]
fn a_program_without_kymo_is_told_how_to_get_it() {
    let report = report(&["/bin/true"]);
    let checks = &report["target"]["checks"];
    assert_eq!(states(checks, &["kymo", "hooks"]), ["off"; 2]);
    let fix = check(checks, "kymo")["fix"].as_str().unwrap();
    assert!(fix.contains("kymo::serve(") && fix.contains("LD_PRELOAD="), "{fix}");
}

#[test]
fn a_stripped_program_has_stacks_without_names_and_sends_the_reader_to_its_status() {
    let folder = tempdir().unwrap();
    let report = report(&[&stripped(folder.path())]);
    let checks = &report["target"]["checks"];
    assert_eq!(states(checks, &["kymo", "hooks", "stacks"]), ["on"; 3]);
    assert_eq!(states(checks, &["names", "lines"]), ["off"; 2]);
    assert_eq!(states(checks, &["tasks", "allocations"]), ["unknown"; 2]);
    assert!(check(checks, "names")["fix"].as_str().unwrap().contains("strip = false"));
}

#[test]
fn a_service_is_asked_for_its_status() {
    let server = kymo::serve("127.0.0.1:0").unwrap();
    let report = report(&[&server.address().to_string()]);
    let checks = &report["target"]["checks"];
    assert_eq!(states(checks, &["kymo", "hooks", "own threads", "losses", "tables"]), ["on"; 5]);
    // No allocator of ours in this test, and no runtime that was instrumented.
    let allocations = check(checks, "allocations");
    assert!(allocations["fix"].as_str().unwrap().contains("#[global_allocator]"), "{allocations:#}");
    assert!(check(checks, "tasks")["fix"].as_str().unwrap().contains("kymo::tokio::instrument"));
    let here = tempdir().unwrap();
    let text = kymo(here.path(), &["doctor", &format!("http://{}/debug/pprof/", server.address())]);
    assert!(text.text().contains("this machine") && text.text().contains("fix:"), "{}", text.text());
}

#[test]
fn what_can_not_be_looked_at_is_refused_with_a_word_of_what_could() {
    let folder = tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "#!/bin/sh\n").unwrap();
    for (target, word) in [
        ("/nonexistent/program", "can't be read"),
        (text.to_str().unwrap(), "is no program"),
        ("/", "can't be read"),
        ("127.0.0.1:1", "is the service running"),
        ("-", "file's name"),
    ] {
        let complaint = doctor(&[target]).complaint().to_owned();
        assert!(complaint.contains(word), "{target}: {complaint}");
    }
}
