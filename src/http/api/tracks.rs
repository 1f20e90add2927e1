//! Which rows there are: groups of tracks, a page at a time.
//!
//! A track is what has one label: a thread with its polls and its states, a lock with who waits. Each of its lanes is
//! a row that tiles can be asked for. Groups: the workers of each runtime, other threads, tasks by spawn site, spans by
//! name, locks, counters; a spawn site of several tasks is a group of its own.

use std::fmt::Write as _;

use serde::Serialize;

use super::store::Loaded;
use super::texts;
use crate::analysis::rows::RowKey;
use crate::analysis::tiles::Look;
use crate::limits::PAGE_ROWS;
use crate::model::Ns;

/// A row of a track.
#[derive(Debug, Serialize)]
pub(super) struct Lane {
    /// What tiles are asked for with.
    pub(super) key: String,
    /// The number of its [`Look`].
    pub(super) look: u8,
}

/// What has one label.
#[derive(Debug, Serialize)]
pub(super) struct Track {
    /// Unique in the trace.
    pub(super) key: String,
    /// Its name.
    pub(super) label: String,
    /// What else is good to know, short.
    pub(super) note: String,
    /// Its rows, from top to bottom.
    pub(super) lanes: Vec<Lane>,
    /// When it begins to exist.
    pub(super) begin: Ns,
    /// When it ends to.
    pub(super) end: Ns,
    /// The group of what it sums up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) children: Option<String>,
}

/// A heading with the number of tracks below it.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    /// What its tracks are asked for with.
    pub(super) key: String,
    /// Its heading.
    pub(super) label: String,
    /// How many tracks it has.
    pub(super) total: usize,
}

/// Some tracks of a group.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// The tracks.
    pub(super) tracks: Vec<Track>,
    /// How many the group has.
    pub(super) total: usize,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<usize>,
}

/// The headings, those without a track left out.
pub(super) fn groups(loaded: &Loaded) -> Vec<Group> {
    let mut groups: Vec<Group> = runtimes(loaded)
        .into_iter()
        .enumerate()
        .map(|(at, runtime)| Group {
            key: format!("workers.{at}"),
            total: workers(loaded, at).len(),
            label: if runtime.is_empty() { "Workers".to_string() } else { format!("Runtime {runtime}") },
        })
        .collect();
    let plain = [
        ("threads", "Threads", other_threads(loaded).len()),
        ("sites", "Tasks by spawn site", loaded.rows.sites.len()),
        ("locks", "Locks and channels", loaded.rows.locks.len()),
        ("spans", "Spans", loaded.rows.spans.len()),
        ("counters", "Counters", loaded.trace.counters.len()),
    ];
    groups.extend(plain.map(|(key, label, total)| Group {
        key: key.to_string(),
        label: label.to_string(),
        total,
    }));
    groups.retain(|group| group.total > 0);
    groups
}

/// A page of a group's tracks; `None` if there is no such group.
pub(super) fn page(loaded: &Loaded, group: &str, cursor: usize, limit: usize) -> Option<Page> {
    let limit = limit.clamp(1, PAGE_ROWS);
    let (kind, number) = match group.split_once('.') {
        Some((kind, number)) => (kind, number.parse::<usize>().ok()?),
        None => (group, 0),
    };
    let of = |keys: Vec<u32>, track: fn(&Loaded, u32) -> Track| {
        let tracks = keys.iter().skip(cursor).take(limit).map(|&key| track(loaded, key)).collect();
        let next = cursor.saturating_add(limit);
        Page { tracks, total: keys.len(), cursor: (next < keys.len()).then_some(next) }
    };
    let all = |total: usize| (0..total as u32).collect();
    Some(match kind {
        "workers" => {
            runtimes(loaded).get(number)?;
            of(workers(loaded, number), thread)
        }
        "threads" => of(other_threads(loaded), thread),
        "sites" => of(all(loaded.rows.sites.len()), site),
        "site" => of(loaded.rows.sites.get(number)?.tasks.clone(), task),
        "locks" => of(all(loaded.rows.locks.len()), lock),
        "lock" => {
            let lanes = loaded.rows.locks.get(number)?.laned.lanes.len() as u32;
            let tracks =
                (LOCK_LANES as u32..lanes).map(|lane| waiters(number as u32, lane as u8)).collect::<Vec<_>>();
            Page { total: tracks.len(), tracks, cursor: None }
        }
        "spans" => of(all(loaded.rows.spans.len()), span),
        "counters" => of(all(loaded.trace.counters.len()), counter),
        _ => return None,
    })
}

/// The track that shows a row, and the groups to open for it to be seen, outermost first.
pub(super) fn find(loaded: &Loaded, key: RowKey) -> Option<(Track, Vec<String>)> {
    let exists = |index: u32, length: usize| (index as usize) < length;
    Some(match key {
        RowKey::Overview => return None,
        RowKey::Thread(index) | RowKey::Polls(index, _) => {
            let runtime = &loaded.trace.threads.get(index as usize)?.worker;
            let group = match runtime {
                Some((name, _)) => {
                    format!("workers.{}", runtimes(loaded).iter().position(|runtime| *runtime == name)?)
                }
                None => "threads".to_string(),
            };
            (thread(loaded, index), vec![group])
        }
        RowKey::Task(index) => {
            let number = *loaded.rows.site_of.get(index as usize)?;
            match loaded.rows.sites[number as usize].tasks.len() {
                1 => (site(loaded, number), vec!["sites".to_string()]),
                _ => (task(loaded, index), vec!["sites".to_string(), format!("site.{number}")]),
            }
        }
        RowKey::Site(index) if exists(index, loaded.rows.sites.len()) => {
            (site(loaded, index), vec!["sites".into()])
        }
        RowKey::Span(index, _) if exists(index, loaded.rows.spans.len()) => {
            (span(loaded, index), vec!["spans".into()])
        }
        RowKey::Waiters(index, lane)
            if exists(index, loaded.rows.locks.len()) && usize::from(lane) >= LOCK_LANES =>
        {
            (waiters(index, lane), vec!["locks".into(), format!("lock.{index}")])
        }
        RowKey::Lock(index) | RowKey::Waiters(index, _) if exists(index, loaded.rows.locks.len()) => {
            (lock(loaded, index), vec!["locks".into()])
        }
        RowKey::Counter(index) if exists(index, loaded.trace.counters.len()) => {
            (counter(loaded, index), vec!["counters".into()])
        }
        _ => return None,
    })
}

/// Names of the runtimes that have workers, by first appearance.
fn runtimes(loaded: &Loaded) -> Vec<&String> {
    let mut runtimes = Vec::new();
    for (runtime, _) in loaded.trace.threads.iter().filter_map(|thread| thread.worker.as_ref()) {
        if !runtimes.contains(&runtime) {
            runtimes.push(runtime);
        }
    }
    runtimes
}

fn workers(loaded: &Loaded, runtime: usize) -> Vec<u32> {
    let runtimes = runtimes(loaded);
    let mut workers: Vec<(u64, u32)> = (0..)
        .zip(&loaded.trace.threads)
        .filter_map(|(index, thread)| Some((index, thread.worker.as_ref()?)))
        .filter(|(_, (name, _))| *runtimes[runtime] == *name)
        .map(|(index, (_, number))| (*number, index))
        .collect();
    workers.sort_unstable();
    workers.into_iter().map(|(_, index)| index).collect()
}

fn other_threads(loaded: &Loaded) -> Vec<u32> {
    (0..)
        .zip(&loaded.trace.threads)
        .filter(|(_, thread)| thread.worker.is_none())
        .map(|(index, _)| index)
        .collect()
}

fn lane(key: RowKey, look: Look) -> Lane {
    Lane { key: key.to_string(), look: look as u8 }
}

fn thread(loaded: &Loaded, index: u32) -> Track {
    let row = &loaded.trace.threads[index as usize];
    let polls = loaded.rows.polls[index as usize].lanes.len() as u8;
    let mut lanes: Vec<Lane> =
        (0..polls).map(|depth| lane(RowKey::Polls(index, depth), Look::Named)).collect();
    lanes.push(lane(RowKey::Thread(index), Look::States));
    Track {
        key: RowKey::Thread(index).to_string(),
        label: texts::thread(&loaded.trace, index),
        note: format!("tid {}", row.tid),
        lanes,
        begin: row.life.begin,
        end: row.life.end,
        children: None,
    }
}

fn task(loaded: &Loaded, index: u32) -> Track {
    let row = &loaded.trace.tasks[index as usize];
    Track {
        key: RowKey::Task(index).to_string(),
        label: texts::task(&loaded.trace, index),
        note: row.outcome.map_or(String::new(), |outcome| outcome.word().to_string()),
        lanes: vec![lane(RowKey::Task(index), Look::States)],
        begin: row.life.begin,
        end: row.life.end,
        children: None,
    }
}

fn site(loaded: &Loaded, index: u32) -> Track {
    let site = &loaded.rows.sites[index as usize];
    let single = (site.tasks.len() == 1).then(|| site.tasks[0]);
    let label = match single {
        Some(task) => texts::task(&loaded.trace, task),
        None => site_label(loaded, site),
    };
    let lane = match single {
        Some(task) => lane(RowKey::Task(task), Look::States),
        None => lane(RowKey::Site(index), Look::Steps),
    };
    Track {
        key: RowKey::Site(index).to_string(),
        label,
        note: if single.is_some() {
            place(&site.label).to_string()
        } else {
            format!("× {}", site.tasks.len())
        },
        lanes: vec![lane],
        begin: 0,
        end: loaded.trace.info.duration_ns,
        children: single.is_none().then(|| format!("site.{index}")),
    }
}

/// What the tasks of a site are called if they agree, and where they are spawned.
fn site_label(loaded: &Loaded, site: &crate::analysis::rows::Site) -> String {
    let name = |task: &u32| loaded.trace.tasks[*task as usize].name.as_str();
    let first = name(&site.tasks[0]);
    let place = place(&site.label);
    match site.tasks.iter().all(|task| name(task) == first) && first != site.label && !first.is_empty() {
        true if place == first => first.to_string(),
        true => format!("{first} · {place}"),
        false => place.to_string(),
    }
}

/// `src/pool.rs:12:5` as `pool.rs:12`.
fn place(site: &str) -> &str {
    let file = site.rsplit('/').next().unwrap_or(site);
    match file.match_indices(':').nth(1) {
        Some((at, _)) => &file[..at],
        None => file,
    }
}

/// Lanes of those who wait that a lock's own track shows; the others are its children.
const LOCK_LANES: usize = 3;

fn lock(loaded: &Loaded, index: u32) -> Track {
    let lock = &loaded.rows.locks[index as usize];
    let lanes = lock.laned.lanes.len();
    let mut rows = vec![lane(RowKey::Lock(index), Look::Steps)];
    rows.extend((0..lanes.min(LOCK_LANES)).map(|at| lane(RowKey::Waiters(index, at as u8), Look::States)));
    let mut note =
        if lock.waits.len() == 1 { "1 wait".to_string() } else { format!("{} waits", lock.waits.len()) };
    if lock.laned.beyond > 0 {
        // Writing to a string never fails.
        let _ = write!(note, ", {} not drawn", lock.laned.beyond);
    }
    Track {
        key: RowKey::Lock(index).to_string(),
        label: loaded.locks[index as usize].label.clone(),
        note,
        lanes: rows,
        begin: 0,
        end: loaded.trace.info.duration_ns,
        children: (lanes > LOCK_LANES).then(|| format!("lock.{index}")),
    }
}

fn waiters(index: u32, number: u8) -> Track {
    let key = RowKey::Waiters(index, number);
    Track {
        key: key.to_string(),
        label: format!("waiter {}", number + 1),
        note: String::new(),
        lanes: vec![lane(key, Look::States)],
        begin: 0,
        end: 0,
        children: None,
    }
}

fn span(loaded: &Loaded, index: u32) -> Track {
    let name = &loaded.rows.spans[index as usize];
    let lanes = name.spans.lanes.len() as u8;
    Track {
        key: RowKey::Span(index, 0).to_string(),
        label: name.name.clone(),
        note: format!("× {}", name.count),
        lanes: (0..lanes).map(|at| lane(RowKey::Span(index, at), Look::Named)).collect(),
        begin: 0,
        end: loaded.trace.info.duration_ns,
        children: None,
    }
}

fn counter(loaded: &Loaded, index: u32) -> Track {
    let key = RowKey::Counter(index);
    Track {
        key: key.to_string(),
        label: loaded.trace.counters[index as usize].name.clone(),
        note: String::new(),
        lanes: vec![lane(key, Look::Values)],
        begin: 0,
        end: loaded.trace.info.duration_ns,
        children: None,
    }
}
