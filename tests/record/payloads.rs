//! Texts of any length: cut, with a mark that says so, and never more bytes than a text may have.

use kymo::limits::STRING_BYTES;
use kymo::model::load::load;

use super::captured::{USER, alone, start};

#[test]
fn g7_giant_payload_is_cut_and_says_so_wherever_a_program_may_say_something() {
    let _alone = alone();
    let giant = "ä".repeat(5 << 20);
    let (capture, sink) = start(USER);
    {
        let span = kymo::span!("span");
        span.field("key", &giant);
        let _order = kymo::UserTask::new(&giant);
        kymo::log!("category", "{giant}");
        kymo::record::emit(kymo::events::Counter {
            name: kymo::record::string(&giant),
            value: kymo::events::Value(1),
        });
    }
    capture.stop();
    let bytes = sink.take();
    assert!(bytes.len() < 64 * 1024, "{}", bytes.len());
    let (trace, problems) = load(&bytes).unwrap();
    assert_eq!(problems, []);
    let texts = [
        trace.text(trace.spans.iter().find_map(|span| span.fields.first()).unwrap().1),
        trace.text(trace.spans.iter().find(|span| span.user_task).unwrap().name),
        trace.text(trace.logs[0].message),
        &trace.counters[0].name,
    ];
    for text in texts {
        assert!(text.len() <= STRING_BYTES && text.starts_with("äää") && text.ends_with("ä…"), "{text}");
    }
}
