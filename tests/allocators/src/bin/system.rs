//! kymo::Alloc over system.

#[global_allocator]
static ALLOC: kymo::Alloc<std::alloc::System> = kymo::Alloc::over(std::alloc::System);

fn main() {
    allocators::check();
}
