//! kymo beside its peers, in one binary: what an event costs, what whole workloads cost, and what a CPU
//! sample costs.
//!
//! `cargo run --release` in this folder, about three minutes. Rounds are interleaved and medians are shown, as nanoseconds
//! and as a ratio to the floor or to the plain workload; each kymo line ends with a budget against the cheapest peer.
//! Everybody is set up as their own documentation says, with output that goes nowhere, so that disks are not compared.
//!
//! Does not compare what is seen for the cost: see the notes in `tools` on what each tool records of a task.

mod events;
#[path = "../../rounds/mod.rs"]
mod rounds;
mod sampler;
mod tools;
mod workloads;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => {
            events::compare();
            workloads::compare();
            sampler::compare();
        }
        ["work", workload, tool] => workloads::run(workload, tool),
        ["sample", tool] => sampler::run(tool),
        ["client", port] => workloads::client(port),
        _ => {
            eprintln!("usage: peers");
            std::process::exit(2);
        }
    }
}
