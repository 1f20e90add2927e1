//! kymo::Alloc over mimalloc.

#[global_allocator]
static ALLOC: kymo::Alloc<mimalloc::MiMalloc> = kymo::Alloc::over(mimalloc::MiMalloc);

fn main() {
    allocators::check();
}
