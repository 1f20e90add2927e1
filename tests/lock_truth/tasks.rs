//! Async locks and channels, timers and sockets that tasks wait for: each a module with `wait`, `end` and what they
//! share; and tasks that hold one lock while they wait for another.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kymo::analysis::{contention, waiting};
use kymo::model::machinery::LockKind;
use kymo::model::{Suspension, Trace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, broadcast, mpsc, oneshot, watch};

use crate::recorded::record;
use crate::{Ends, HELD, Planted};

/// Told by whoever makes others wait that they may begin.
struct Begin(oneshot::Sender<()>);

impl Begin {
    /// Lets the other one begin to wait, and returns when it has waited for a while.
    async fn let_wait(self) {
        self.0.send(()).unwrap();
        tokio::time::sleep(HELD).await;
    }
}

type Running = Pin<Box<dyn Future<Output = f64> + Send>>;

/// A wait and its end, by tasks.
struct Pair {
    path: &'static str,
    kind: LockKind,
    ends: Ends,
    run: fn() -> Running,
}

/// Pairs, each `name(what they share: type = value) => kind, ends; wait; end`.
macro_rules! pairs {
    ($($name:ident($it:ident: $type:ty = $make:expr) => $kind:ident, $ends:ident;
        wait $wait:expr; end |$begin:ident| $end:expr;)*) => {
        $(mod $name {
            use super::*;

            async fn wait($it: Arc<$type>) {
                let _waited = $wait;
            }

            async fn end($it: Arc<$type>, $begin: Begin) {
                let _ended = $end;
            }

            pub(super) fn run() -> Running {
                Box::pin(async {
                    let shared: Arc<$type> = Arc::new($make);
                    let (sender, receiver) = oneshot::channel();
                    let ending = kymo::spawn_named("ends", end(shared.clone(), Begin(sender)));
                    let waiting = kymo::spawn_named("waits", measured(receiver, wait(shared)));
                    ending.await.unwrap();
                    waiting.await.unwrap()
                })
            }
        })*

        const PAIRS: &[Pair] = &[$(Pair {
            path: concat!("tasks::", stringify!($name)),
            kind: LockKind::$kind,
            ends: Ends::$ends,
            run: $name::run,
        },)*];
    };
}

async fn measured(begin: oneshot::Receiver<()>, wait: impl Future<Output = ()>) -> f64 {
    begin.await.unwrap();
    let begun = Instant::now();
    wait.await;
    begun.elapsed().as_nanos() as f64
}

pairs! {
    mutex(it: tokio::sync::Mutex<u32> = Default::default()) => Mutex, Holder;
        wait *it.lock().await += 1;
        end |begin| { let guard = it.lock().await; begin.let_wait().await; drop(guard); };
    rwlock_read(it: tokio::sync::RwLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.read().await;
        end |begin| { let guard = it.write().await; begin.let_wait().await; drop(guard); };
    rwlock_write(it: tokio::sync::RwLock<u32> = Default::default()) => RwLock, Holder;
        wait *it.write().await += 1;
        end |begin| { let guard = it.read().await; begin.let_wait().await; drop(guard); };
    once(it: tokio::sync::OnceCell<u32> = Default::default()) => Once, Holder;
        wait it.get_or_init(|| async { 1 }).await;
        end |begin| it.get_or_init(|| async { begin.let_wait().await; 2 }).await;
    semaphore(it: tokio::sync::Semaphore = tokio::sync::Semaphore::new(1)) => Semaphore, Waker;
        wait it.acquire().await.unwrap();
        end |begin| { let permit = it.acquire().await.unwrap(); begin.let_wait().await; drop(permit); };
    notify(it: tokio::sync::Notify = Default::default()) => Notify, Waker;
        wait it.notified().await;
        end |begin| { begin.let_wait().await; it.notify_one(); };
    barrier(it: tokio::sync::Barrier = tokio::sync::Barrier::new(2)) => Condvar, Waker;
        wait it.wait().await;
        end |begin| { begin.let_wait().await; it.wait().await; };
    mpsc_empty(it: Ends2<mpsc::Sender<u32>, mpsc::Receiver<u32>> = Ends2::new(mpsc::channel(1))) => Channel, Waker;
        wait it.second().recv().await.unwrap();
        end |begin| { begin.let_wait().await; it.first().try_send(1).unwrap(); };
    mpsc_full(it: Ends2<mpsc::Sender<u32>, mpsc::Receiver<u32>> = Ends2::new(mpsc::channel(1))) => Channel, Waker;
        wait { let sender = it.first(); sender.send(1).await.unwrap(); sender.send(2).await.unwrap(); };
        end |begin| { let mut receiver = it.second(); begin.let_wait().await; receiver.recv().await.unwrap(); receiver.recv().await.unwrap(); };
    unbounded(it: Ends2<mpsc::UnboundedSender<u32>, mpsc::UnboundedReceiver<u32>> = Ends2::new(mpsc::unbounded_channel()))
        => Channel, Waker;
        wait it.second().recv().await.unwrap();
        end |begin| { begin.let_wait().await; it.first().send(1).unwrap(); };
    oneshot_receive(it: Ends2<oneshot::Sender<u32>, oneshot::Receiver<u32>> = Ends2::new(oneshot::channel())) => Channel, Waker;
        wait it.second().await.unwrap();
        end |begin| { begin.let_wait().await; it.first().send(1).unwrap(); };
    broadcast_receive(it: Ends2<broadcast::Sender<u32>, broadcast::Receiver<u32>> = Ends2::new(broadcast::channel(1)))
        => Channel, Waker;
        wait it.second().recv().await.unwrap();
        end |begin| { begin.let_wait().await; it.first().send(1).unwrap(); };
    watch_changed(it: Ends2<watch::Sender<u32>, watch::Receiver<u32>> = Ends2::new(watch::channel(1))) => Channel, Waker;
        wait it.second().changed().await.unwrap();
        end |begin| { begin.let_wait().await; it.first().send(2).unwrap(); };
    join(it: Ends2<oneshot::Sender<u32>, tokio::task::JoinHandle<u32>> = Ends2::task()) => Join, Waker;
        wait it.second().await.unwrap();
        end |begin| { begin.let_wait().await; it.first().send(1).unwrap(); };
    timer(_it: () = ()) => Timer, Kernel;
        wait tokio::time::sleep(HELD).await;
        end |begin| begin.let_wait().await;
    socket(it: Ends2<tokio::net::TcpStream, tokio::net::TcpStream> = Ends2::connected().await) => Io, Kernel;
        wait it.first().read_u8().await.unwrap();
        end |begin| { let mut socket = it.second(); begin.let_wait().await; socket.write_u8(1).await.unwrap(); };
}

/// The two ends of something, each taken by one task.
struct Ends2<A, B>(std::sync::Mutex<Option<A>>, std::sync::Mutex<Option<B>>);

impl<A, B> Ends2<A, B> {
    fn new((first, second): (A, B)) -> Ends2<A, B> {
        Ends2(std::sync::Mutex::new(Some(first)), std::sync::Mutex::new(Some(second)))
    }

    fn first(&self) -> A {
        self.0.lock().unwrap().take().unwrap()
    }

    fn second(&self) -> B {
        self.1.lock().unwrap().take().unwrap()
    }
}

impl Ends2<oneshot::Sender<u32>, tokio::task::JoinHandle<u32>> {
    /// A task, and what it ends with.
    fn task() -> Self {
        let (sender, receiver) = oneshot::channel();
        Ends2::new((sender, kymo::spawn_named("joined", async { receiver.await.unwrap() })))
    }
}

impl Ends2<tokio::net::TcpStream, tokio::net::TcpStream> {
    async fn connected() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        Ends2::new((client, listener.accept().await.unwrap().0))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    kymo::tokio::instrument(&mut builder, "main").worker_threads(2).enable_all().build().unwrap()
}

/// Runs all pairs at the same time and compares what was recorded with what they measured.
pub(crate) fn are_told_truly() {
    let runtime = runtime();
    let (planted, trace) = record(|| {
        runtime.block_on(async {
            let running: Vec<_> = PAIRS.iter().map(|pair| (pair, tokio::spawn((pair.run)()))).collect();
            let mut planted = Vec::new();
            for (pair, running) in running {
                let (waited_ns, delayed_ns) = (running.await.unwrap(), 0.0);
                planted.push(Planted {
                    path: pair.path,
                    kind: pair.kind,
                    ends: pair.ends,
                    waited_ns,
                    delayed_ns,
                });
            }
            planted
        })
    });
    planted.iter().for_each(|planted| is_told_truly(planted, &trace));
}

fn is_told_truly(planted: &Planted, trace: &Trace) {
    let waits = || trace.suspensions.iter().filter(|wait| planted.passes(trace, wait.stack, "wait"));
    // With the time in which the task was woken and wanted a worker: its clock counts that too.
    let until = |wait: &Suspension| {
        let next =
            trace.polls.iter().filter(|poll| poll.task == wait.task && poll.time.begin >= wait.time.end);
        next.map(|poll| poll.time.begin).min().unwrap()
    };
    planted.agrees("waited", waits().map(|wait| (until(wait) - wait.time.begin) as f64).sum());
    let longest = waits().max_by_key(|wait| wait.time.duration()).unwrap();
    let frames = crate::recorded::functions(trace, longest.stack);
    assert_eq!(
        waiting::of_await(&trace.stacks, longest.stack),
        planted.kind,
        "{}: {frames:#?}",
        planted.path
    );
    let wake = trace
        .task_wakes
        .iter()
        .find(|wake| wake.task == longest.task && wake.at == longest.time.end)
        .unwrap();
    match planted.ends {
        Ends::Holder => planted.has_its_holder_named(trace),
        // A task that ends wakes who joins it from nobody's code.
        Ends::Waker if planted.kind == LockKind::Join => {}
        Ends::Waker => {
            let woken_at = crate::recorded::functions(trace, wake.stack);
            assert!(planted.passes(trace, wake.stack, "end"), "{}: {woken_at:#?}", planted.path);
        }
        Ends::Kernel => assert!(!planted.passes(trace, wake.stack, "end"), "{}", planted.path),
    }
}

/// How often the tasks with two locks go round.
const ROUNDS: u32 = 6;

const SLOW: Duration = Duration::from_millis(60);

type Lock = tokio::sync::Mutex<u32>;

/// Holds the outer lock, lets others queue for it, then waits for the inner one.
async fn holds_outer(outer: Arc<Lock>, inner: Arc<Lock>, round: Arc<Barrier>) {
    for _ in 0..ROUNDS {
        let mut outer = outer.lock().await;
        round.wait().await;
        tokio::time::sleep(SLOW).await;
        *inner.lock().await += 1;
        *outer += 1;
        drop(outer);
        round.wait().await;
    }
}

/// Holds the inner lock for long.
async fn holds_inner(inner: Arc<Lock>) {
    for _ in 0..3 * ROUNDS {
        let mut inner = inner.lock().await;
        tokio::time::sleep(SLOW).await;
        *inner += 1;
    }
}

/// Needs the outer lock for next to nothing.
async fn wants_outer(outer: Arc<Lock>, round: Arc<Barrier>) {
    for _ in 0..ROUNDS {
        round.wait().await;
        *outer.lock().await += 1;
        round.wait().await;
    }
}

/// Whoever waits for the outer lock waits for the one that holds it, whatever that one waits for meanwhile.
pub(crate) fn nested_holders_are_told_apart() {
    let runtime = runtime();
    let ((), trace) = record(|| {
        runtime.block_on(async {
            let (outer, inner) = (Arc::new(Lock::new(0)), Arc::new(Lock::new(0)));
            let round = Arc::new(Barrier::new(3));
            let tasks = [
                kymo::spawn_named("inner", holds_inner(inner.clone())),
                kymo::spawn_named("outer", holds_outer(outer.clone(), inner, round.clone())),
                kymo::spawn_named("wants", wants_outer(outer.clone(), round.clone())),
                kymo::spawn_named("wants", wants_outer(outer, round)),
            ];
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    let passes = |stack, function| {
        crate::recorded::functions(&trace, stack).iter().any(|name| name.contains(function))
    };
    let (mut right, mut all) = (0.0, 0.0);
    for blame in contention::held(&trace) {
        // tokio's own mutexes are waited for by threads.
        let Some(suspension) = blame.suspension else { continue };
        let wait = trace.suspensions[suspension as usize];
        if passes(wait.stack, "wants_outer") {
            all += blame.share.delay_ns;
            right += if passes(blame.stack, "holds_inner") { 0.0 } else { blame.share.delay_ns };
        }
    }
    println!("truth nested {:.4}", right / all);
    assert!(all > 0.0 && right / all > 0.98, "{right} of {all} ns");
}
