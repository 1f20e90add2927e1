//! A trace at a glance: its bounds, what is in it, what was lost, and what made it wait most. And names to search for.
//!
//! Findings are the locks that were waited for most, each with waiter, holder and row, so that the page can lead there.
//! Computes nothing that `analysis` does not know.

use std::collections::BTreeMap;

use serde::Serialize;

use super::store::Loaded;
use super::{texts, tracks};
use crate::analysis::locks::Lock;
use crate::analysis::rows::RowKey;
use crate::events;
use crate::limits::{FINDING_SHARE, FINDINGS, SEARCH_HITS};
use crate::model::{Interval, Ns};

/// A trace at a glance.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    id: String,
    name: String,
    program: String,
    pid: u32,
    writer: String,
    /// Nanoseconds since the epoch: beyond 2^53, so as text.
    start_realtime_ns: String,
    duration_ns: Ns,
    events: u64,
    lost: u64,
    threads: usize,
    tasks: usize,
    locks: usize,
    complete: bool,
    problems: Vec<String>,
    losses: Vec<LossText>,
    kinds: BTreeMap<&'static str, u64>,
    sources: Vec<(String, String)>,
    notes: Vec<(String, String)>,
    findings: Vec<Finding>,
    groups: Vec<tracks::Group>,
}

#[derive(Debug, Serialize)]
struct LossText {
    thread: String,
    row: String,
    reason: &'static str,
    count: u64,
    /// When the last of them was noted.
    at: Ns,
}

/// Something worth looking at, and where it shows best.
#[derive(Debug, Serialize)]
struct Finding {
    /// The lock.
    label: String,
    /// For how long it was waited for, all together.
    waited_ns: Ns,
    /// How many times.
    waits: usize,
    /// How much of that inside polls.
    in_poll_ns: Ns,
    /// Who waited longest.
    waiter: Option<String>,
    /// Who had it meanwhile.
    holder: Option<String>,
    row: String,
    /// The longest wait.
    begin: Ns,
    end: Ns,
}

/// A name that was searched for.
#[derive(Debug, Serialize)]
pub(super) struct Hit {
    label: String,
    kind: &'static str,
    note: String,
    row: String,
    begin: Ns,
    end: Ns,
}

/// What a search found: some hits, and how many there are.
#[derive(Debug, Serialize)]
pub(super) struct Hits {
    hits: Vec<Hit>,
    total: usize,
}

/// The trace at a glance.
pub(super) fn summary(loaded: &Loaded) -> Summary {
    let (trace, info) = (&loaded.trace, &loaded.trace.info);
    let kinds = events::KINDS.iter().zip(trace.kinds.iter().skip(1));
    Summary {
        id: loaded.id.clone(),
        name: loaded.name.clone(),
        program: info.program.clone(),
        pid: info.pid,
        writer: info.writer.clone(),
        start_realtime_ns: info.start_realtime_ns.to_string(),
        duration_ns: info.duration_ns,
        events: trace.events(),
        lost: trace.lost(),
        threads: trace.threads.len(),
        tasks: trace.tasks.len(),
        locks: loaded.rows.locks.len(),
        complete: info.complete,
        problems: loaded.problems.clone(),
        losses: losses(loaded),
        kinds: kinds.filter(|(_, count)| **count > 0).map(|(kind, count)| (kind.name, *count)).collect(),
        sources: info.sources.clone(),
        notes: info.notes.clone(),
        findings: findings(loaded),
        groups: tracks::groups(loaded),
    }
}

/// Losses by thread and reason.
fn losses(loaded: &Loaded) -> Vec<LossText> {
    let mut sums: BTreeMap<(u32, &'static str), (u64, Ns)> = BTreeMap::new();
    for loss in &loaded.trace.losses {
        let sum = sums.entry((loss.thread, loss.reason.word())).or_default();
        *sum = (sum.0 + loss.count, loss.at);
    }
    sums.into_iter()
        .map(|((thread, reason), (count, at))| LossText {
            thread: texts::thread(&loaded.trace, thread),
            row: RowKey::Thread(thread).to_string(),
            reason,
            count,
            at,
        })
        .collect()
}

/// The first locks: those that made others wait most, if it was worth a word.
fn findings(loaded: &Loaded) -> Vec<Finding> {
    let finding = |(index, lock): (u32, &Lock)| {
        let longest = longest(loaded, lock)?;
        let text = &loaded.locks[index as usize];
        Some(Finding {
            label: text.label.clone(),
            waited_ns: lock.waited_ns,
            waits: lock.waits.len(),
            in_poll_ns: lock.in_poll_ns,
            waiter: text.waiters.first().map(|name| texts::short(name).to_string()),
            holder: text.holder.as_deref().map(|name| texts::short(name).to_string()),
            row: RowKey::Lock(index).to_string(),
            begin: longest.begin,
            end: longest.end,
        })
    };
    let least = loaded.trace.info.duration_ns / FINDING_SHARE;
    let worth = |(_, lock): &(u32, &Lock)| lock.waited_ns > least;
    (0..).zip(&loaded.rows.locks).filter(worth).take(FINDINGS).filter_map(finding).collect()
}

fn longest(loaded: &Loaded, lock: &Lock) -> Option<Interval> {
    lock.waits.iter().map(|&wait| lock.wait(&loaded.trace, wait).0).max_by_key(Interval::duration)
}

/// Everything whose name contains `query`, upper and lower case alike.
pub(super) fn search(loaded: &Loaded, query: &str) -> Hits {
    let query = query.to_lowercase();
    let trace = &loaded.trace;
    let mut found = Hits { hits: Vec::new(), total: 0 };
    let whole = Interval { begin: 0, end: trace.info.duration_ns, open: false };
    let mut look = |names: &[&str], kind: &'static str, note: String, row: RowKey, time: Interval| {
        let Some(name) = names.iter().find(|name| name.to_lowercase().contains(&query)) else { return };
        found.total += 1;
        if found.hits.len() < SEARCH_HITS {
            let label = (*name).to_string();
            found.hits.push(Hit {
                label,
                kind,
                note,
                row: row.to_string(),
                begin: time.begin,
                end: time.end,
            });
        }
    };
    for (index, lock) in (0..).zip(&loaded.rows.locks) {
        let text = &loaded.locks[index as usize];
        let names: Vec<&str> =
            [&text.label].into_iter().chain(&text.holder).chain(&text.waiters).map(String::as_str).collect();
        look(&names, "lock", text.label.clone(), RowKey::Lock(index), longest(loaded, lock).unwrap_or(whole));
    }
    for (index, site) in (0..).zip(&loaded.rows.sites) {
        look(&[&site.label], "spawn site", format!("{} tasks", site.tasks.len()), RowKey::Site(index), whole);
    }
    for (index, name) in (0..).zip(&loaded.rows.spans) {
        look(&[&name.name], "span", format!("{} times", name.count), RowKey::Span(index, 0), whole);
    }
    for (index, counter) in (0..).zip(&trace.counters) {
        look(&[&counter.name], "counter", String::new(), RowKey::Counter(index), whole);
    }
    for (index, thread) in (0..).zip(&trace.threads) {
        let tid = format!("tid {}", thread.tid);
        look(
            &[&texts::thread(trace, index), &tid],
            "thread",
            tid.clone(),
            RowKey::Thread(index),
            thread.life,
        );
    }
    for (index, task) in (0..).zip(&trace.tasks) {
        let number = format!("task {}", task.id.0);
        look(
            &[&texts::task(trace, index), &number],
            "task",
            task.site.clone(),
            RowKey::Task(index),
            task.life,
        );
    }
    found
}
