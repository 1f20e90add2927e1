//! async-io and the runtimes on it call the kernel by rustix, which by default does so by instruction: not seen. With
//! rustix's feature `use-libc` (`[dev-dependencies]` here, `[dependencies]` in a service) it calls the C library: seen.

#![cfg(feature = "hooks")]

mod recorded;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use async_io::{Async, Timer, block_on};
use kymo::events::Call;
use kymo::model::Trace;

/// Results of one call in a trace, on any thread.
fn results(trace: &Trace, call: Call) -> Vec<i64> {
    trace.calls.iter().filter(|seen| seen.call == call).map(|seen| seen.result).collect()
}

#[test]
fn the_reactor_of_async_io_is_seen_with_rustix_over_the_c_library() {
    let (said, trace) = recorded::record_unnamed(|| {
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            // Long enough for the server to wait for it in its reactor.
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(b"ping").unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        });
        block_on(async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4];
            stream.read_with(|mut stream| stream.read_exact(&mut bytes)).await.unwrap();
            Timer::after(Duration::from_millis(5)).await;
            stream.write_with(|mut stream| stream.write_all(&bytes)).await.unwrap();
        });
        client.join().unwrap()
    });
    assert_eq!(said, "ping");
    let waits =
        [Call::EpollWait, Call::EpollPwait, Call::EpollPwait2].map(|call| results(&trace, call)).concat();
    assert!(waits.iter().any(|&ready| ready > 0), "{waits:?}");
    // The reactor's own timer and its wake-ups.
    assert!(results(&trace, Call::Read).contains(&8), "{:?}", results(&trace, Call::Read));
}
