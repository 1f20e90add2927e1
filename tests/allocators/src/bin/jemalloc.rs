//! kymo::Alloc over jemalloc.

#[global_allocator]
static ALLOC: kymo::Alloc<tikv_jemallocator::Jemalloc> = kymo::Alloc::over(tikv_jemallocator::Jemalloc);

fn main() {
    allocators::check();
}
