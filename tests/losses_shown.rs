//! What was lost is told wherever a trace, or what was made of it, is shown: in the file, in counts, in every export, in
//! profiles, and by the service.

#[path = "record/captured.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod captured;
mod command;
#[path = "oracles/mod.rs"]
mod oracles;
mod served;

use captured::{USER, alone, count, start_into};
use kymo::analysis::stat::stat;
use kymo::export::{chrome, perfetto};
use kymo::format::file::File;
use kymo::model::load::load;
use kymo::profile::{Profile, block};
use kymo::record::sink::MemorySink;
use oracles::Perfetto;
use served::get;

/// A trace that lacks events, and how many.
fn lossy() -> (Vec<u8>, u64) {
    let sink = MemorySink::new(64 << 10);
    let capture = start_into(USER, Box::new(sink.clone()));
    (0..50_000).for_each(count);
    let progress = capture.stop();
    assert!(progress.lost > 0);
    (sink.take(), progress.lost)
}

#[test]
fn g1_overload_exact_accounting_is_shown_everywhere() {
    let _alone = alone();
    let before = kymo::record::usage().lost.iter().sum::<u64>();
    let (bytes, lost) = lossy();
    assert_eq!(File::parse(&bytes).unwrap().end.unwrap().lost, lost, "in the file");
    let (trace, problems) = load(&bytes).unwrap();
    assert_eq!((trace.lost(), problems.len()), (lost, 0), "in the model");

    let counted = stat(&trace, &problems);
    let lines: Vec<_> = counted.losses.iter().map(|line| (line.reason, line.count)).collect();
    assert_eq!((counted.lost, lines), (lost, vec![("slow_reader", lost)]));

    let mut json = Vec::new();
    chrome::write(&trace, &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let losses =
        json["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == "events lost");
    let told: u64 = losses.filter_map(|event| event["args"]["count"].as_u64()).sum();
    assert_eq!(told, lost, "in Chrome's format, where it happened");

    let profile = Profile::decode(&block(&trace).encode()).unwrap();
    let words = format!("kymo: {lost} events were lost, so this is less than there was");
    assert_eq!(profile.comments, [words], "in profiles");

    let server = kymo::serve("127.0.0.1:0").unwrap();
    let status = get(server.address(), "/debug/pprof/status").body;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let by_reason = status["lost"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64);
    assert_eq!(by_reason.sum::<u64>() - before, lost, "by the service: {status}");
}

#[test]
fn g1_overload_exact_accounting_is_on_a_counter_that_perfettos_importer_reads() {
    let _alone = alone();
    let (bytes, lost) = lossy();
    let (trace, _) = load(&bytes).unwrap();
    let mut packets = Vec::new();
    perfetto::write(&trace, &mut packets).unwrap();
    let latest = "select cast(max(value) as int) from counter join track on counter.track_id = track.id \
                  where track.name = 'kymo: events lost'";
    assert_eq!(Perfetto::ask(&packets, ".pftrace", &[latest]).number(latest), lost);
}

#[test]
fn g1_overload_exact_accounting_is_what_kymo_stat_and_derive_say() {
    let _alone = alone();
    let here = tempfile::tempdir().unwrap();
    let (bytes, lost) = lossy();
    std::fs::write(here.path().join("t.kymo"), bytes).unwrap();
    let json = command::kymo(here.path(), &["stat", "t.kymo", "--json"]);
    let json: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(json["lost"], lost);
    let text = command::kymo(here.path(), &["stat", "t.kymo"]);
    assert!(text.text().contains(&format!(" {lost} lost, ")), "{}", text.text());
    let derived = command::kymo(here.path(), &["derive", "block", "t.kymo"]);
    assert!(derived.errors.contains(&format!("{lost} events were lost")), "{derived:?}");
}
