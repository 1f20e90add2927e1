//! What kymo costs an HTTP service under load: CPU per request without kymo, with kymo off, and with the flight
//! recorder on and default stacks.
//!
//! `benches/server/run`, about a minute. The three services run side by side and are loaded in turn by this process,
//! whose CPU is not counted; they are started anew several times, since where a program lies in memory makes it a
//! little faster or slower. A service's CPU is all its threads', the drain's too.

mod load;
#[path = "../../../rounds/mod.rs"]
mod rounds;
#[path = "../../service.rs"]
mod service;

use load::Loaded;
use rounds::{budget, median};

const STARTS: usize = 6;
const ROUNDS: usize = 12;

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => compare(),
        Some("off") => service::serve(),
        Some("flight") => with_flight_recorder(),
        Some(other) => panic!("no service is called {other}"),
    }
}

fn with_flight_recorder() {
    let flight = kymo::FlightRecorder::new(kymo::FlightConfig::default());
    flight.start().expect("it starts");
    service::serve();
}

fn compare() {
    let myself = std::env::current_exe().expect("this program has a path");
    let plain = myself.with_file_name("plain");
    let (mut off, mut flight, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut services = [
            Loaded::start(&plain, None),
            Loaded::start(&myself, Some("off")),
            Loaded::start(&myself, Some("flight")),
        ];
        for service in &mut services {
            let _warm = service.cpu_per_request();
        }
        for _ in 0..ROUNDS {
            let round = services.each_mut().map(Loaded::cpu_per_request);
            off.push(round[1] / round[0]);
            flight.push(round[2] / round[1]);
            costs.push(round);
        }
    }
    for (index, name) in ["without kymo", "off", "flight recorder"].iter().enumerate() {
        let cost = median(costs.iter().map(|round| round[index]).collect());
        println!("figure http_server {name}: {cost:.0} ns of CPU a request");
    }
    budget("http_server_off_over_without", median(off), 1.01);
    budget("http_server_flight_over_off", median(flight), 1.03);
}
