//! Every event, defined once.
//!
//! One row of the table below yields the event's struct, its encoder and decoder, its place in [`Event`], its entry
//! in [`KINDS`] (from which come the file's schema, FORMAT.md and the viewer's legend). To add a kind, add a row.
//!
//! On the wire an event is its id, the ticks since the chunk's previous event, then its arguments, each one varint:
//! so a reader steps over a kind that it doesn't know when the schema tells it how many arguments to skip.
//! Ids and argument orders are never reused; new arguments go to the end.
//!
//! Holds no threads, clocks or files: `record` stamps events, `format` keeps them, `model` gives them meaning.

use crate::wire::{Cursor, EVENT_MAX, Reader, VARINT_MAX, WireError, unzigzag, zigzag};

/// What an argument means: its unit for people, its encoding for readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// An address in the traced process.
    Addr,
    /// An interned stack; 0 is none.
    Stack,
    /// An interned string; 0 is the empty one.
    Str,
    /// A task; 0 is none.
    Task,
    /// A thread, as kymo numbers them; 0 is kymo itself or unknown.
    Thread,
    /// A file descriptor; -1 is none. Zigzag.
    Fd,
    /// Nanoseconds.
    Nanos,
    /// Bytes.
    Bytes,
    /// A number of things, or an index.
    Count,
    /// An id that only has to be unique within its kind.
    Id,
    /// A signed number in the user's own unit. Zigzag.
    Value,
    /// One of a list of names, by index.
    Name(&'static [&'static str]),
}

impl ArgKind {
    /// The word for this kind in the schema and the documentation.
    pub const fn word(self) -> &'static str {
        match self {
            ArgKind::Addr => "addr",
            ArgKind::Stack => "stack",
            ArgKind::Str => "str",
            ArgKind::Task => "task",
            ArgKind::Thread => "thread",
            ArgKind::Fd => "fd",
            ArgKind::Nanos => "ns",
            ArgKind::Bytes => "bytes",
            ArgKind::Count => "count",
            ArgKind::Id => "id",
            ArgKind::Value => "value",
            ArgKind::Name(_) => "name",
        }
    }
}

/// A typed argument of an event.
pub trait Arg: Copy {
    /// What it means.
    const KIND: ArgKind;
    /// The number on the wire.
    fn to_wire(self) -> u64;
    /// The argument that a number on the wire stands for.
    fn from_wire(wire: u64) -> Self;

    /// Appends it.
    #[inline(always)]
    fn put(self, cursor: &mut Cursor<'_>) {
        match Self::KIND {
            ArgKind::Addr => cursor.put_address(self.to_wire()),
            _ => cursor.put_u64(self.to_wire()),
        }
    }
}

macro_rules! args {
    ($($(#[$doc:meta])* $name:ident($repr:ty) $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
        pub struct $name(pub $repr);

        impl Arg for $name {
            const KIND: ArgKind = ArgKind::$kind;
            #[inline(always)]
            fn to_wire(self) -> u64 { self.0.into() }
            #[inline(always)]
            fn from_wire(wire: u64) -> Self { $name(wire as $repr) }
        }
    )*};
}

args! {
    /// An address in the traced process: of a lock, an allocation, a mapping.
    Addr(u64) Addr;
    /// An interned stack; 0 is none, [`StackId::OVERFLOW`] one that found the table full.
    StackId(u32) Stack;
    /// An interned string; 0 is the empty one, [`StrId::OVERFLOW`] one that found the table full.
    StrId(u32) Str;
    /// A task; 0 is none.
    TaskId(u64) Task;
    /// A thread, as kymo numbers them (the kernel reuses its numbers, kymo doesn't); 0 is kymo itself or unknown.
    ThreadId(u32) Thread;
    /// A time span in nanoseconds.
    Nanos(u64) Nanos;
    /// A number of bytes.
    Bytes(u64) Bytes;
    /// A number of things, or an index.
    Count(u64) Count;
    /// An id that only has to be unique within its kind of thing.
    Id(u64) Id;
}

impl StackId {
    /// Stands for every stack that was seen after the table had filled up.
    pub const OVERFLOW: StackId = StackId(1);
}

impl StrId {
    /// Stands for every string that was seen after the table had filled up.
    pub const OVERFLOW: StrId = StrId(1);
}

/// A file descriptor; -1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fd(pub i32);

impl Arg for Fd {
    const KIND: ArgKind = ArgKind::Fd;
    #[inline(always)]
    fn to_wire(self) -> u64 {
        zigzag(i64::from(self.0))
    }
    #[inline(always)]
    fn from_wire(wire: u64) -> Self {
        Fd(unzigzag(wire) as i32)
    }
}

/// A signed number in the user's own unit; for a system call its return value, or minus its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub i64);

impl Arg for Value {
    const KIND: ArgKind = ArgKind::Value;
    #[inline(always)]
    fn to_wire(self) -> u64 {
        zigzag(self.0)
    }
    #[inline(always)]
    fn from_wire(wire: u64) -> Self {
        Value(unzigzag(wire))
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of its number on the wire.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// The words for them, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word,)*];

            /// The word for this value.
            pub const fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }

        impl Arg for $name {
            const KIND: ArgKind = ArgKind::Name(Self::WORDS);
            #[inline(always)]
            fn to_wire(self) -> u64 { self as u64 }
            #[inline(always)]
            fn from_wire(wire: u64) -> Self {
                Self::ALL.get(wire as usize).copied().unwrap_or(Self::ALL[0])
            }
        }
    )*};
}

names! {
    /// What a thread waits for, as far as the hooked function tells; the stack tells the rest.
    WaitKind {
        /// Not known (or a newer kymo's word).
        Unknown = "unknown",
        /// A futex: std and parking_lot locks, condvars, parking, channels; the stack tells which.
        Futex = "futex",
        /// `pthread_mutex_lock` that found the lock taken.
        PthreadMutex = "pthread_mutex",
        /// `pthread_cond_wait` or `pthread_cond_timedwait`.
        PthreadCond = "pthread_cond",
        /// `pthread_rwlock_rdlock`.
        PthreadRead = "pthread_rdlock",
        /// `pthread_rwlock_wrlock`.
        PthreadWrite = "pthread_wrlock",
        /// `pthread_join`.
        Join = "join",
        /// `sem_wait` and its family.
        Semaphore = "semaphore",
        /// `pthread_barrier_wait`.
        PthreadBarrier = "pthread_barrier",
    }
    /// How a wait ended.
    WaitOutcome {
        /// Not known.
        Unknown = "unknown",
        /// Somebody woke it, or it got the lock.
        Woken = "woken",
        /// Its time ran out.
        TimedOut = "timed_out",
        /// A signal interrupted it.
        Interrupted = "interrupted",
        /// The value had changed before the kernel looked: it never slept.
        Changed = "changed",
        /// It failed for another reason.
        Failed = "failed",
    }
    /// How a poll ended.
    PollOutcome {
        /// Not known.
        Unknown = "unknown",
        /// `Poll::Pending`.
        Pending = "pending",
        /// `Poll::Ready`.
        Ready = "ready",
        /// The poll panicked.
        Panicked = "panicked",
    }
    /// How a task ended.
    TaskOutcome {
        /// Not known.
        Unknown = "unknown",
        /// Its future was ready.
        Done = "done",
        /// It was dropped before that.
        Cancelled = "cancelled",
        /// Its poll panicked.
        Panicked = "panicked",
    }
    /// Which hooked call.
    Call {
        /// A newer kymo's call.
        Unknown = "unknown",
        /// `read(2)`.
        Read = "read",
        /// `write(2)`.
        Write = "write",
        /// `pread(2)`.
        Pread = "pread",
        /// `pwrite(2)`.
        Pwrite = "pwrite",
        /// `readv(2)`.
        Readv = "readv",
        /// `writev(2)`.
        Writev = "writev",
        /// `preadv(2)`.
        Preadv = "preadv",
        /// `pwritev(2)`.
        Pwritev = "pwritev",
        /// `recv(2)`.
        Recv = "recv",
        /// `recvfrom(2)`.
        Recvfrom = "recvfrom",
        /// `recvmsg(2)`.
        Recvmsg = "recvmsg",
        /// `recvmmsg(2)`.
        Recvmmsg = "recvmmsg",
        /// `send(2)`.
        Send = "send",
        /// `sendto(2)`.
        Sendto = "sendto",
        /// `sendmsg(2)`.
        Sendmsg = "sendmsg",
        /// `sendmmsg(2)`.
        Sendmmsg = "sendmmsg",
        /// `accept(2)`.
        Accept = "accept",
        /// `accept4(2)`.
        Accept4 = "accept4",
        /// `connect(2)`.
        Connect = "connect",
        /// `shutdown(2)`.
        Shutdown = "shutdown",
        /// `getaddrinfo(3)`.
        Getaddrinfo = "getaddrinfo",
        /// `poll(2)`.
        Poll = "poll",
        /// `ppoll(2)`.
        Ppoll = "ppoll",
        /// `select(2)`.
        Select = "select",
        /// `pselect(2)`.
        Pselect = "pselect",
        /// `epoll_wait(2)`.
        EpollWait = "epoll_wait",
        /// `epoll_pwait(2)`.
        EpollPwait = "epoll_pwait",
        /// `nanosleep(2)`.
        Nanosleep = "nanosleep",
        /// `clock_nanosleep(2)`.
        ClockNanosleep = "clock_nanosleep",
        /// `usleep(3)`.
        Usleep = "usleep",
        /// `open(2)`.
        Open = "open",
        /// `openat(2)`.
        Openat = "openat",
        /// `close(2)`.
        Close = "close",
        /// `fsync(2)`.
        Fsync = "fsync",
        /// `fdatasync(2)`.
        Fdatasync = "fdatasync",
        /// `sync_file_range(2)`.
        SyncFileRange = "sync_file_range",
        /// `copy_file_range(2)`.
        CopyFileRange = "copy_file_range",
        /// `sendfile(2)`.
        Sendfile = "sendfile",
        /// `splice(2)`.
        Splice = "splice",
        /// `statx(2)`.
        Statx = "statx",
        /// `rename(2)`.
        Rename = "rename",
        /// `unlink(2)`.
        Unlink = "unlink",
        /// `ftruncate(2)`.
        Ftruncate = "ftruncate",
        /// `fallocate(2)`.
        Fallocate = "fallocate",
        /// `getdents64(2)`.
        Getdents64 = "getdents64",
        /// `waitpid(2)`.
        Waitpid = "waitpid",
        /// `waitid(2)`.
        Waitid = "waitid",
        /// `sigtimedwait(2)`.
        Sigtimedwait = "sigtimedwait",
        /// `posix_spawn(3)`.
        PosixSpawn = "posix_spawn",
        /// `preadv2(2)`.
        Preadv2 = "preadv2",
        /// `pwritev2(2)`.
        Pwritev2 = "pwritev2",
        /// `renameat(2)`.
        Renameat = "renameat",
        /// `renameat2(2)`.
        Renameat2 = "renameat2",
        /// `unlinkat(2)`.
        Unlinkat = "unlinkat",
        /// `posix_fallocate(3)`.
        PosixFallocate = "posix_fallocate",
        /// `flock(2)`.
        Flock = "flock",
        /// `lockf(3)`.
        Lockf = "lockf",
        /// `msync(2)`.
        Msync = "msync",
        /// `syncfs(2)`.
        Syncfs = "syncfs",
        /// `epoll_pwait2(2)`.
        EpollPwait2 = "epoll_pwait2",
        /// `sleep(3)`.
        Sleep = "sleep",
        /// `wait(2)`.
        Wait = "wait",
        /// `wait3(2)`.
        Wait3 = "wait3",
        /// `wait4(2)`.
        Wait4 = "wait4",
        /// `sigwaitinfo(2)`.
        Sigwaitinfo = "sigwaitinfo",
        /// `sigwait(3)`.
        Sigwait = "sigwait",
        /// `sigsuspend(2)`.
        Sigsuspend = "sigsuspend",
        /// `pause(2)`.
        Pause = "pause",
        /// `posix_spawnp(3)`.
        PosixSpawnp = "posix_spawnp",
    }
    /// Which of the process's own tables a weight stands in.
    LiveProfile {
        /// A newer kymo's table.
        Unknown = "unknown",
        /// Of those who waited, where they did.
        Block = "block",
        /// Of those who woke them, where they did.
        Mutex = "mutex",
    }
    /// Why an event was lost.
    LossReason {
        /// A newer kymo's reason.
        Unknown = "unknown",
        /// No free chunk: the drain could not keep up, or the memory cap is reached.
        NoChunk = "no_chunk",
        /// A full chunk was overwritten by a newer one.
        Overwritten = "overwritten",
        /// The event came while its thread was already writing one, and the second chunk was taken too.
        Reentrant = "reentrant",
        /// No slot for another thread.
        NoThread = "no_thread",
        /// The capture's reader was too slow.
        SlowReader = "slow_reader",
        /// The sink failed: a full disk, a closed connection.
        SinkFailed = "sink_failed",
        /// The kernel's ring overflowed.
        KernelRing = "kernel_ring",
    }
}

/// What makes a row of the table an event.
pub trait EventKind: Copy {
    /// Its number on the wire.
    const ID: u8;
    /// The group it is switched on and off with.
    const GROUP: Group;
    /// Appends its arguments.
    fn put_args(self, cursor: &mut Cursor<'_>);

    /// Appends the whole event: number, ticks since the chunk's previous event, arguments.
    #[inline(always)]
    fn put(self, delta_ticks: u64, cursor: &mut Cursor<'_>) {
        cursor.put_byte(Self::ID);
        cursor.put_u64(delta_ticks);
        self.put_args(cursor);
    }
}

/// A row of the table, for schemas and documentation.
#[derive(Debug, Clone, Copy)]
pub struct KindSpec {
    /// Number on the wire.
    pub id: u8,
    /// Name as the struct has it, `TaskWake`.
    pub name: &'static str,
    /// Its group.
    pub group: Group,
    /// What it means, in a sentence or two.
    pub meaning: &'static [&'static str],
    /// Its arguments in wire order: name and kind.
    pub args: &'static [(&'static str, ArgKind)],
}

impl KindSpec {
    /// The meaning as one line of text.
    pub fn meaning_text(&self) -> String {
        self.meaning.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

macro_rules! groups {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $word:literal,)*) => {
        /// Events that are switched on and off together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Group { $($(#[$doc])* $name = 1 << $bit,)* }

        impl Group {
            /// Every group.
            pub const ALL: &'static [Group] = &[$(Group::$name,)*];

            /// The word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Group::$name => $word,)* }
            }

            /// Its bit in a [`Groups`] set.
            pub const fn bit(self) -> u32 {
                self as u32
            }
        }
    };
}

groups! {
    /// Clock, loss: always on while anything is.
    Meta = 0 "meta",
    /// Threads starting, ending, getting names.
    Thread = 1 "thread",
    /// Tasks: spawn, poll, wake, suspend, end.
    Task = 2 "task",
    /// A runtime's workers.
    Worker = 3 "worker",
    /// Waits for locks and their wakes.
    Block = 4 "block",
    /// Hooked calls.
    Syscall = 5 "syscall",
    /// Allocations and mappings.
    Memory = 6 "memory",
    /// The kernel's context switches.
    Sched = 7 "sched",
    /// CPU samples.
    Cpu = 8 "cpu",
    /// What the user marks.
    User = 9 "user",
    /// pprof labels.
    Label = 10 "label",
}

/// A set of [`Group`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups(pub u32);

impl Groups {
    /// None.
    pub const NONE: Groups = Groups(0);
    /// All of them.
    pub const ALL: Groups = Groups(u32::MAX);

    /// Whether `group` is in the set.
    #[inline(always)]
    pub const fn contains(self, group: Group) -> bool {
        self.0 & group.bit() != 0
    }

    /// Whether every group of `others` is in the set.
    pub const fn contains_all_of(self, others: Groups) -> bool {
        others.0 & !self.0 == 0
    }

    /// The set with `group` added.
    #[must_use]
    pub const fn with(self, group: Group) -> Groups {
        Groups(self.0 | group.bit())
    }

    /// Everything in either set.
    #[must_use]
    pub const fn union(self, other: Groups) -> Groups {
        Groups(self.0 | other.0)
    }
}

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $id:literal $name:ident $group:ident { $($arg:ident: $ty:ty),* $(,)? })*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[allow(missing_docs, reason = "an argument is described by its name and its typed kind")]
            pub struct $name { $(pub $arg: $ty,)* }

            impl EventKind for $name {
                const ID: u8 = $id;
                const GROUP: Group = Group::$group;

                #[inline(always)]
                #[allow(unused_variables, reason = "events without arguments write none")]
                fn put_args(self, cursor: &mut Cursor<'_>) {
                    $(self.$arg.put(cursor);)*
                }
            }

            impl From<$name> for Event {
                fn from(event: $name) -> Event { Event::$name(event) }
            }
        )*

        /// Any event, decoded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event {
            $($(#[doc = $doc])+ $name($name),)*
            /// A kind that this version doesn't know; its arguments were stepped over.
            Unknown {
                /// Its number on the wire.
                id: u8,
            },
        }

        /// The table: every kind, in the order of its number.
        pub const KINDS: &[KindSpec] = &[$(KindSpec {
            id: $id,
            name: stringify!($name),
            group: Group::$group,
            meaning: &[$($doc,)+],
            args: &[$((stringify!($arg), <$ty as Arg>::KIND),)*],
        },)*];

        impl Event {
            /// Its number on the wire.
            pub fn id(&self) -> u8 {
                match self {
                    $(Event::$name(_) => $id,)*
                    Event::Unknown { id } => *id,
                }
            }

            /// Appends the whole event, as [`EventKind::put`]; nothing for [`Event::Unknown`].
            pub fn put(self, delta_ticks: u64, cursor: &mut Cursor<'_>) {
                match self {
                    $(Event::$name(event) => event.put(delta_ticks, cursor),)*
                    Event::Unknown { .. } => {}
                }
            }

            /// Its arguments as numbers on the wire, in the table's order.
            pub fn wire_args(&self) -> Vec<u64> {
                match *self {
                    $(Event::$name(_event) => vec![$(_event.$arg.to_wire(),)*],)*
                    Event::Unknown { .. } => Vec::new(),
                }
            }

            /// Reads the arguments of a kind that this version knows, and nothing for one that it doesn't.
            #[inline]
            pub(crate) fn read_args(id: u8, reader: &mut Reader<'_>) -> Result<Event, WireError> {
                Ok(match id {
                    $($id => Event::$name($name { $($arg: <$ty as Arg>::from_wire(reader.u64()?),)* }),)*
                    _ => Event::Unknown { id },
                })
            }
        }
    };
}

events! {
    /// The stamp's ticks in the system's clocks; the recorder writes one each second, and readers interpolate.
    1 ClockSync Meta { monotonic: Nanos, realtime: Nanos }
    /// Events of a thread that were not recorded since the last such event, and why.
    2 Loss Meta { thread: ThreadId, reason: LossReason, count: Count }
    /// A thread begins.
    3 ThreadStart Thread { tid: Count, creator: ThreadId, stack: StackId }
    /// This thread ends.
    4 ThreadExit Thread {}
    /// This thread gets a name.
    5 ThreadName Thread { name: StrId }
    /// A task is spawned.
    6 TaskSpawn Task { task: TaskId, parent: TaskId, name: StrId, site: StrId }
    /// A task that lives already tells this capture who it is.
    7 TaskName Task { task: TaskId, name: StrId, site: StrId, parent: TaskId }
    /// This thread begins to poll a task.
    8 PollBegin Task { task: TaskId }
    /// The innermost poll on this thread ends.
    9 PollEnd Task { outcome: PollOutcome }
    /// The task that this thread polls is about to be pending; the stack is of the await, leaf first.
    10 TaskSuspend Task { task: TaskId, stack: StackId }
    /// This thread (or the task that it polls) wakes a task.
    11 TaskWake Task { task: TaskId, stack: StackId }
    /// A task ends.
    12 TaskEnd Task { task: TaskId, outcome: TaskOutcome }
    /// This thread becomes a runtime's worker.
    13 WorkerStart Worker { runtime: StrId, index: Count }
    /// It is no longer one.
    14 WorkerStop Worker {}
    /// This worker found nothing to do and parks.
    15 WorkerPark Worker {}
    /// It goes on.
    16 WorkerUnpark Worker {}
    /// This thread begins to wait.
    17 WaitBegin Block { kind: WaitKind, addr: Addr }
    /// The innermost wait ends; the stack is there when it lasted (see the header's threshold).
    18 WaitEnd Block { outcome: WaitOutcome, stack: StackId }
    /// This thread woke waiters of an address.
    19 Wake Block { addr: Addr, woken: Count, stack: StackId }
    /// This thread enters a hooked call.
    20 SyscallEnter Syscall { call: Call, fd: Fd }
    /// The innermost call returns: its result, or minus its errno; the stack is there when it lasted.
    21 SyscallExit Syscall { result: Value, stack: StackId }
    /// What a file descriptor stands for: a path, a socket's peer.
    22 FdName Syscall { fd: Fd, name: StrId }
    /// An allocation that the sampler picked; `weight` is how many allocated bytes it stands for.
    23 AllocSample Memory { addr: Addr, size: Bytes, weight: Bytes, stack: StackId }
    /// A sampled allocation is freed; the rest is what `AllocSample` said of it.
    24 FreeSample Memory { addr: Addr, stack: StackId, size: Bytes, weight: Bytes, allocated_at: StackId }
    /// The allocator's counters.
    25 HeapCounters Memory { live_bytes: Bytes, live_objects: Count, allocated_bytes: Bytes, freed_bytes: Bytes }
    /// The process's memory as the kernel counts it, and its page faults so far.
    26 ProcessMemory Memory { resident_bytes: Bytes, mapped_bytes: Bytes, minor_faults: Count, major_faults: Count }
    /// Memory is mapped.
    27 MemoryMap Memory { addr: Addr, length: Bytes, stack: StackId }
    /// Memory is unmapped.
    28 MemoryUnmap Memory { addr: Addr, length: Bytes }
    /// Memory is given back to the system but stays mapped.
    29 MemoryRelease Memory { addr: Addr, length: Bytes }
    /// This thread is on a CPU, from now on or (where a capture begins or ends) still.
    30 SwitchIn Sched { cpu: Count }
    /// It is off the CPU; `preempted` is 1 when it would have gone on.
    31 SwitchOut Sched { cpu: Count, preempted: Count }
    /// The kernel makes a thread runnable on behalf of this one.
    32 SchedWaking Sched { thread: ThreadId, cpu: Count }
    /// This thread's totals so far, by the kernel's account: told at both ends of a capture and at the thread's own.
    33 SchedTotals Sched { running: Nanos, runnable: Nanos, preemptions: Count }
    /// A CPU sample of this thread, or of the task that it polls; `weight` is the CPU time it stands for.
    34 CpuSample Cpu { stack: StackId, weight: Nanos, cpu: Count, task: TaskId }
    /// A span begins on this thread or in the task it polls.
    35 SpanBegin User { span: Id, name: StrId, parent: Id }
    /// A span ends.
    36 SpanEnd User { span: Id }
    /// A field of a span.
    37 SpanField User { span: Id, key: StrId, value: StrId }
    /// A user task begins: work that may cross threads and tasks.
    38 UserTaskBegin User { user_task: Id, parent: Id, name: StrId }
    /// A user task ends.
    39 UserTaskEnd User { user_task: Id }
    /// A message.
    40 Log User { category: StrId, message: StrId }
    /// A counter's value.
    41 Counter User { name: StrId, value: Value }
    /// A pprof label of a task, or of this thread; the empty value takes it off.
    42 Label Label { key: StrId, value: StrId, task: TaskId }
    /// What a stack has allocated since the process began, and what of it lives at the capture's end; both estimated.
    43 LiveHeap Memory { stack: StackId, allocated_objects: Count, allocated_bytes: Bytes, live_objects: Count, live_bytes: Bytes }
    /// How the heap is sampled: the mean of bytes between two samples, those that live, and those that found no room.
    44 HeapSampling Memory { mean_bytes: Bytes, samples: Count, overflowed: Count }
    /// This thread, or the task it polls, enters a span that began earlier: it may be left and entered again.
    45 SpanEnter User { span: Id }
    /// It leaves the span, which goes on.
    46 SpanExit User { span: Id }
    /// What the process's own contention profile says of a stack at the capture's end: since its rate was first set.
    47 LiveContention Block { profile: LiveProfile, stack: StackId, contentions: Count, delay: Nanos }
    /// A pprof label that is a number, in a unit.
    48 LabelNumber Label { key: StrId, number: Value, unit: StrId, task: TaskId }
    /// Threads that a stack has created since the process first counted them; those that were there then have no stack.
    49 ThreadsCreated Thread { stack: StackId, threads: Count }
    /// So many of this thread's switches, since the latest one that is here, are missing: the kernel's ring was full.
    50 SwitchGap Sched { count: Count }
}

/// Arguments of the longest event.
const MOST_ARGS: usize = {
    let mut most = 0;
    let mut row = 0;
    while row < KINDS.len() {
        assert!(KINDS[row].id as usize == row + 1, "event ids are dense and ascending");
        if KINDS[row].args.len() > most {
            most = KINDS[row].args.len();
        }
        row += 1;
    }
    most
};

const _: () = assert!((MOST_ARGS + 1) * VARINT_MAX < EVENT_MAX / 2, "the longest event fits its room");

/// The table's row for a number on the wire.
pub fn kind(id: u8) -> Option<&'static KindSpec> {
    KINDS.get(usize::from(id).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_back_from_its_bytes() {
        let mut visited = 0;
        for spec in KINDS {
            let mut bytes = Vec::new();
            for index in 0..spec.args.len() as u64 {
                crate::wire::put_u64(&mut bytes, index + 1);
            }
            let event = Event::read_args(spec.id, &mut Reader::new(&bytes)).unwrap();
            assert_eq!(event.id(), spec.id);
            assert_eq!(event.wire_args(), (1..=spec.args.len() as u64).collect::<Vec<_>>(), "{}", spec.name);
            let mut room = [0; EVENT_MAX];
            let mut cursor = Cursor::new(&mut room);
            event.put(5, &mut cursor);
            let len = cursor.len();
            assert_eq!(room[..2], [spec.id, 5], "{}", spec.name);
            assert_eq!(&room[2..len], &bytes, "{}", spec.name);
            for cut in 0..bytes.len() {
                assert!(Event::read_args(spec.id, &mut Reader::new(&bytes[..cut])).is_err(), "{}", spec.name);
            }
            visited += 1;
        }
        assert_eq!(visited, 50);
    }

    #[test]
    fn every_row_says_what_it_means_and_names_are_unique() {
        let mut names: Vec<_> = KINDS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
        assert!(KINDS.iter().all(|spec| spec.meaning_text().ends_with(['.', ')'])));
    }

    #[test]
    fn arguments_are_named_for_their_kind() {
        for (name, arg) in KINDS.iter().flat_map(|spec| spec.args) {
            assert_eq!(
                name.ends_with("_bytes") || matches!(*name, "size" | "weight" | "length"),
                *arg == ArgKind::Bytes || (*name == "weight" && *arg == ArgKind::Nanos),
                "{name}"
            );
        }
    }
}
