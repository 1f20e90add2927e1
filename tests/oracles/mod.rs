//! Other people's programs as judges: Perfetto's importer and `go tool pprof`, fetched by name when they are missing.
//!
//! A judge that can't be had fails the test: nothing is skipped.

#![allow(dead_code, unreachable_pub, reason = "each test file uses some of the judges")]

pub mod made;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What Perfetto's importer says of a trace.
pub struct Perfetto {
    results: Vec<serde_json::Value>,
    queries: Vec<String>,
}

impl Perfetto {
    /// Loads a trace and asks the queries. Panics if it does not load, if a query fails, or if the importer counted
    /// an error, lost data or skipped a packet.
    pub fn ask(trace: &[u8], suffix: &str, queries: &[&str]) -> Perfetto {
        let complaints = "select name, value from stats where value > 0 and \
            (severity in ('error', 'data_loss') or name like 'packet_skipped%')";
        let all: Vec<&str> = queries.iter().copied().chain([complaints]).collect();
        let file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        std::fs::write(file.path(), trace).unwrap();
        let answer = importer(file.path(), &all);
        assert_eq!(answer["loadError"], serde_json::Value::Null, "the importer refuses the trace");
        let mut results = answer["results"].as_array().unwrap().clone();
        let found = results.pop().unwrap();
        assert_eq!(found["rows"], serde_json::json!([]), "the importer complains");
        for result in &results {
            assert!(result["error"].is_null(), "{}: {}", result["sql"], result["error"]);
        }
        Perfetto { results, queries: queries.iter().map(|&query| query.to_owned()).collect() }
    }

    /// The rows of a query that was asked.
    pub fn rows(&self, query: &str) -> Vec<Vec<serde_json::Value>> {
        let index = self.queries.iter().position(|asked| asked == query).expect("the query was asked");
        serde_json::from_value(self.results[index]["rows"].clone()).unwrap()
    }

    /// The one number that a query gives.
    pub fn number(&self, query: &str) -> u64 {
        let rows = self.rows(query);
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{query}: {rows:?}");
        rows[0][0].as_u64().unwrap_or_else(|| panic!("{query}: {}", rows[0][0]))
    }
}

fn importer(trace: &Path, queries: &[&str]) -> serde_json::Value {
    let driver = here().join("trace_processor.mjs");
    let mut child = Command::new("node")
        .arg(driver)
        .arg(trace)
        .env("ENGINE", fetch("trace_processor"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the importer needs `node`");
    let queries = serde_json::to_vec(queries).unwrap();
    child.stdin.take().unwrap().write_all(&queries).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the importer died");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `go tool pprof` prints for a profile.
pub fn pprof(args: &[&str], profile: &[u8]) -> String {
    let file = tempfile::Builder::new().suffix(".pb.gz").tempfile().unwrap();
    std::fs::write(file.path(), profile).unwrap();
    let output = Command::new(fetch("pprof").join("pprof")).args(args).arg(file.path()).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "pprof {args:?}: {errors}");
    text.into_owned()
}

/// The folder of a tool, fetched if it is missing.
fn fetch(tool: &str) -> PathBuf {
    let output = Command::new(here().join("fetch")).arg(tool).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{tool} can't be fetched");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles")
}
