//! What threads and tasks wait for, and where the program's own code begins, told by the functions on real stacks:
//! of threads that sleep in each lock of std, parking_lot and tokio, and of futures that keep their waker.
#![cfg(all(feature = "analysis", target_arch = "x86_64"))]
#![allow(
    unsafe_code,
    reason = "a signal takes the stack of a thread that sleeps; a waker is a table of raw pointers"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar, Mutex, Once, OnceLock, RwLock, mpsc};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use kymo::events::StackId;
use kymo::model::machinery::LockKind;
use kymo::model::stacks::Stacks;

/// Where a stack is taken to, one at a time: whoever takes it holds [`TURN`].
static FRAMES: Mutex<[u64; 128]> = Mutex::new([0; 128]);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static TURN: Mutex<()> = Mutex::new(());

fn module(module: kymo::unwind::LoadedModule) -> kymo::format::Module {
    kymo::format::Module {
        start: module.start,
        end: module.end,
        bias: module.bias,
        offset: module.offset,
        path: module.path,
        build_id: module.build_id,
    }
}

/// The addresses of a stack.
type Addresses = Vec<u64>;

/// The stack that was taken.
fn taken() -> Addresses {
    FRAMES.lock().unwrap()[..COUNT.load(Ordering::Acquire)].to_vec()
}

extern "C" fn take_interrupted(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a context that is valid during the handler.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let mut frames = FRAMES.try_lock().unwrap();
    COUNT.store(kymo::unwind::capture_from(context, &mut *frames), Ordering::Release);
}

fn handle_signals() {
    // SAFETY: all of its fields may be zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = take_interrupted as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe as long as nobody else holds `FRAMES`: see `TURN`.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) }, 0);
}

/// Whether a thread sleeps in `futex`, as the kernel says.
fn sleeps(tid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} ", libc::SYS_futex))
}

/// The stack of a thread that `wait` has put to sleep; `release` ends that.
fn asleep(wait: impl FnOnce() + Send, release: impl FnOnce()) -> Addresses {
    let _turn = TURN.lock().unwrap();
    kymo::unwind::prepare();
    handle_signals();
    COUNT.store(0, Ordering::Release);
    let tid = AtomicI32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: this only asks.
            tid.store(unsafe { libc::gettid() }, Ordering::Release);
            wait();
        });
        while !sleeps(tid.load(Ordering::Acquire)) {
            std::thread::yield_now();
        }
        let (process, thread) = (std::process::id() as libc::pid_t, tid.load(Ordering::Acquire));
        // SAFETY: the thread sleeps until `release`, and it handles this signal.
        assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR2) }, 0);
        while COUNT.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        release();
    });
    taken()
}

/// The stack on which a future that is polled once, and is not ready, keeps its waker.
fn awaiting(future: impl Future) -> Addresses {
    fn keep(_: *const ()) -> RawWaker {
        let mut frames = FRAMES.lock().unwrap();
        COUNT.store(kymo::unwind::capture(&mut *frames), Ordering::Release);
        RawWaker::new(std::ptr::null(), &TABLE)
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(keep, |_| (), |_| (), |_| ());
    let _turn = TURN.lock().unwrap();
    kymo::unwind::prepare();
    COUNT.store(0, Ordering::Release);
    // SAFETY: the table's functions have no use for the pointer, and any thread may call them.
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) };
    let future = pin!(future);
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    let count = COUNT.load(Ordering::Acquire);
    assert!(count > 0, "the waker was not kept");
    // Without the waker's own function: it is in this file too.
    FRAMES.lock().unwrap().copy_within(1..count, 0);
    COUNT.store(count - 1, Ordering::Release);
    taken()
}

/// Asserts of each stack what is waited for, and that the first frame of the program's own is in this file.
fn expect(stacks: impl IntoIterator<Item = (LockKind, Addresses)>) {
    let (kinds, addresses): (Vec<_>, Vec<_>) = stacks.into_iter().unzip();
    let ids = || (2..).map(StackId);
    let modules = kymo::unwind::modules().into_iter().map(module).collect();
    let mut stacks = Stacks { addresses: ids().zip(addresses).collect(), modules, ..Stacks::default() };
    stacks.resolve_missing();
    for (id, kind) in ids().zip(kinds) {
        let shown =
            |frame: &kymo::format::Frame| format!("{} ({}:{})", frame.function, frame.file, frame.line);
        let all: Vec<String> = stacks.frames(id).map(shown).collect();
        assert_eq!(stacks.wait_kind(id), kind, "{all:#?}");
        let first = stacks.user_frames(id).next().unwrap();
        assert!(first.file.ends_with("tests/waits.rs"), "{}: {all:#?}", first.function);
        assert!(first.function.starts_with("waits::"), "{}: {all:#?}", first.function);
    }
}

#[test]
fn locks_of_std() {
    let mut stacks = Vec::new();
    let mutex = Mutex::new(0);
    let held = mutex.lock().unwrap();
    stacks.push((LockKind::Mutex, asleep(|| drop(mutex.lock().unwrap()), || drop(held))));
    let lock = RwLock::new(0);
    let held = lock.write().unwrap();
    stacks.push((LockKind::RwLock, asleep(|| drop(lock.read().unwrap()), || drop(held))));
    let held = lock.read().unwrap();
    stacks.push((LockKind::RwLock, asleep(|| drop(lock.write().unwrap()), || drop(held))));
    expect(stacks);
}

#[test]
fn condvars_and_barriers_of_std() {
    let mut stacks = Vec::new();
    let (mutex, condvar) = (Mutex::new(false), Condvar::new());
    let set = || {
        *mutex.lock().unwrap() = true;
        condvar.notify_all();
    };
    let wait = || drop(condvar.wait_while(mutex.lock().unwrap(), |set| !*set).unwrap());
    stacks.push((LockKind::Condvar, asleep(wait, set)));
    let barrier = Barrier::new(2);
    let wait = || {
        barrier.wait();
    };
    stacks.push((LockKind::Condvar, asleep(wait, wait)));
    expect(stacks);
}

#[test]
fn channels_of_std() {
    let mut stacks = Vec::new();
    let (sender, receiver) = mpsc::channel::<u32>();
    let receive = move || {
        receiver.recv().unwrap();
    };
    stacks.push((LockKind::Channel, asleep(receive, || sender.send(1).unwrap())));
    for capacity in [0, 1] {
        let (sender, receiver) = mpsc::sync_channel::<u32>(capacity);
        let full = || (0..=capacity).for_each(|_| sender.send(1).unwrap());
        let receive = move || (0..=capacity).for_each(|_| assert!(receiver.recv().is_ok()));
        stacks.push((LockKind::Channel, asleep(full, receive)));
    }
    expect(stacks);
}

/// Sleeps in `wait` while another thread initializes, which `initialize` does around what it is given.
fn initialized(initialize: impl Fn(&dyn Fn()) + Sync, wait: impl FnOnce() + Send) -> Addresses {
    let (inside, go) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            initialize(&|| {
                inside.wait();
                go.wait();
            });
        });
        inside.wait();
        asleep(wait, || {
            go.wait();
        })
    })
}

#[test]
fn what_exists_once_in_std() {
    let mut stacks = Vec::new();
    let cell = OnceLock::new();
    let wait = || {
        cell.get_or_init(|| 2);
    };
    let initialize = |inside: &dyn Fn()| {
        cell.get_or_init(|| {
            inside();
            1
        });
    };
    stacks.push((LockKind::Once, initialized(initialize, wait)));
    let once = Once::new();
    stacks.push((LockKind::Once, initialized(|inside| once.call_once(inside), || once.call_once(|| ()))));
    expect(stacks);
}

#[test]
fn threads_of_std() {
    let mut stacks = Vec::new();
    let parked = OnceLock::new();
    let park = || {
        parked.set(std::thread::current()).unwrap();
        std::thread::park();
    };
    stacks.push((LockKind::Park, asleep(park, || parked.get().unwrap().unpark())));
    let (sender, receiver) = mpsc::channel::<u32>();
    let join = || std::thread::spawn(move || receiver.recv().unwrap_err()).join().map(|_| ()).unwrap();
    stacks.push((LockKind::Join, asleep(join, move || drop(sender))));
    let (sender, receiver) = mpsc::channel::<u32>();
    let scope = move || {
        std::thread::scope(|scope| {
            scope.spawn(move || receiver.recv());
        });
    };
    stacks.push((LockKind::Join, asleep(scope, move || drop(sender))));
    expect(stacks);
}

#[test]
fn locks_of_parking_lot() {
    let mut stacks = Vec::new();
    let mutex = parking_lot::Mutex::new(0);
    let held = mutex.lock();
    stacks.push((LockKind::Mutex, asleep(|| drop(mutex.lock()), || drop(held))));
    let lock = parking_lot::RwLock::new(0);
    let held = lock.write();
    stacks.push((LockKind::RwLock, asleep(|| drop(lock.read()), || drop(held))));
    let held = lock.read();
    stacks.push((LockKind::RwLock, asleep(|| drop(lock.write()), || drop(held))));
    let (mutex, condvar) = (parking_lot::Mutex::new(false), parking_lot::Condvar::new());
    let set = || {
        *mutex.lock() = true;
        condvar.notify_all();
    };
    stacks.push((LockKind::Condvar, asleep(|| condvar.wait_while(&mut mutex.lock(), |set| !*set), set)));
    let once = parking_lot::Once::new();
    stacks.push((LockKind::Once, initialized(|inside| once.call_once(inside), || once.call_once(|| ()))));
    expect(stacks);
}

#[test]
fn tokio_on_a_thread() {
    let mut stacks = Vec::new();
    let mutex = tokio::sync::Mutex::new(0);
    let held = mutex.try_lock().unwrap();
    stacks.push((LockKind::Mutex, asleep(|| drop(mutex.blocking_lock()), || drop(held))));
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(1);
    let receive = || assert!(receiver.blocking_recv().is_none());
    stacks.push((LockKind::Channel, asleep(receive, || drop(sender))));
    let (sender, receiver) = tokio::sync::oneshot::channel::<u32>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    stacks.push((LockKind::Idle, asleep(|| drop(runtime.block_on(receiver)), || drop(sender))));
    expect(stacks);
}

#[test]
fn tokio_in_a_future() {
    let mut stacks = Vec::new();
    let mutex = tokio::sync::Mutex::new(0);
    let _held = mutex.try_lock().unwrap();
    stacks.push((LockKind::Mutex, awaiting(async { drop(mutex.lock().await) })));
    let lock = tokio::sync::RwLock::new(0);
    let _held = lock.try_write().unwrap();
    stacks.push((LockKind::RwLock, awaiting(async { drop(lock.read().await) })));
    stacks.push((LockKind::RwLock, awaiting(async { drop(lock.write().await) })));
    let semaphore = tokio::sync::Semaphore::new(0);
    stacks.push((LockKind::Semaphore, awaiting(async { drop(semaphore.acquire().await) })));
    let notify = tokio::sync::Notify::new();
    stacks.push((LockKind::Notify, awaiting(async { notify.notified().await })));
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(1);
    stacks.push((LockKind::Channel, awaiting(async { assert!(receiver.recv().await.is_none()) })));
    sender.try_send(1).unwrap();
    stacks.push((LockKind::Channel, awaiting(async { sender.send(2).await.unwrap() })));
    let (_sender, receiver) = tokio::sync::oneshot::channel::<u32>();
    stacks.push((LockKind::Channel, awaiting(async { drop(receiver.await) })));
    let cell = tokio::sync::OnceCell::<u32>::new();
    let mut first = pin!(cell.get_or_init(std::future::pending));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    stacks.push((LockKind::Once, awaiting(async { assert_eq!(cell.get_or_init(|| async { 1 }).await, &1) })));
    expect(stacks);
}

#[test]
fn tokio_with_a_driver() {
    let mut stacks = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let hour = std::time::Duration::from_secs(3600);
    stacks.push((LockKind::Timer, awaiting(async { tokio::time::sleep(hour).await })));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    stacks.push((LockKind::Io, awaiting(async { drop(listener.accept().await) })));
    let task = runtime.spawn(std::future::pending::<()>());
    stacks.push((LockKind::Join, awaiting(async { task.await.unwrap() })));
    expect(stacks);
}
