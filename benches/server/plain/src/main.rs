//! The service without kymo: not even its hooks are linked.

#[path = "../../service.rs"]
mod service;

fn main() {
    service::serve();
}
