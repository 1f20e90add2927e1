//! `/debug/pprof/profile`, as `go tool pprof` reads it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::oracles::pprof;
use crate::sampled::churn;
use crate::served::get;
use crate::watched::in_child;

#[inline(never)]
fn the_busy_function(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        churn();
    }
}

#[test]
fn a_busy_function_is_first_in_the_profile() {
    in_child(|| {
        let server = kymo::serve("127.0.0.1:0").unwrap().address();
        let stop = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("busy-thread".into())
                .spawn_scoped(scope, || the_busy_function(&stop))
                .unwrap();
            std::thread::sleep(Duration::from_millis(10));
            let answer = get(server, "/debug/pprof/profile?seconds=1");
            stop.store(true, Ordering::Relaxed);
            answer
        });
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
        let top = pprof(&["-top", "-cum"], &answer.body);
        assert!(top.contains("Type: cpu"), "{top}");
        let busy = top.lines().find(|line| line.contains("the_busy_function")).expect(&top);
        let share: f64 = busy.split_whitespace().nth(4).unwrap().trim_end_matches('%').parse().unwrap();
        assert!(share > 90.0, "{top}");
        let raw = pprof(&["-raw"], &answer.body);
        assert!(raw.contains("samples/count cpu/nanoseconds"), "{raw}");
        assert!(raw.contains("Period: 10000000"), "{raw}");
        assert!(pprof(&["-tags"], &answer.body).contains("busy-thread"));
    });
}
