//! What the page knows of meanings: `viewer/schema.json`, made here, so that the page makes none of its own.
//!
//! States with their words, colours and patterns, the palette of named slices, the event kinds, and the numbers of the
//! tile format. A test holds the committed file to this.
//!
//! The states' colours are chosen so that any two differ by 18 (CIEDE2000) at least, for people who see all colours and
//! for those who don't; what holds up a worker is hatched as well.

use serde_json::{Value, json};

use crate::analysis::rows::{COLOURS, IN_POLL, holds_up};
use crate::analysis::tiles::{COLUMNS, Look};
use crate::events::KINDS;
use crate::limits::{ARROWS, PAGE_ROWS, TILES};
use crate::model::State;

/// The whole of `schema.json`, as it is committed.
///
/// ```
/// assert!(kymo::http::api::schema().contains("\"word\": \"blocked\""));
/// ```
pub fn schema() -> String {
    let states = State::ALL.iter().map(|&state| class(state, false));
    let inside = State::ALL.iter().map(|&state| class(state, true));
    let [light, dark] = PALETTE;
    let schema = json!({
        "classes": states.chain(inside).collect::<Vec<_>>(),
        "order": ORDER,
        "in_poll": IN_POLL,
        "palette": { "light": light, "dark": dark },
        "events": KINDS.iter().map(event).collect::<Vec<_>>(),
        "columns": COLUMNS,
        "looks": {
            "states": Look::States as u8, "named": Look::Named as u8, "steps": Look::Steps as u8,
            "values": Look::Values as u8, "missing": Look::Missing as u8,
        },
        "limits": { "tiles": TILES, "page": PAGE_ROWS, "arrows": ARROWS },
    });
    // A value of strings and numbers always has a text.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn event(kind: &crate::events::KindSpec) -> Value {
    let args = kind.args.iter().map(|(name, kind)| json!({ "name": name, "kind": kind.word() }));
    json!({
        "id": kind.id,
        "name": kind.name,
        "group": kind.group.word(),
        "meaning": kind.meaning_text(),
        "args": args.collect::<Vec<_>>(),
    })
}

fn class(state: State, in_poll: bool) -> Value {
    let Appearance { label, meaning, light, dark, pattern } = look(state);
    let hatched = in_poll && holds_up(state);
    json!({
        "class": state as u8 + if in_poll { IN_POLL } else { 0 },
        "word": state.word(),
        "label": if in_poll { format!("{label} inside a poll") } else { label.to_string() },
        "meaning": if hatched { format!("{meaning}, and keeps the worker from polling others meanwhile") } else { meaning.to_string() },
        "light": light,
        "dark": dark,
        "pattern": if hatched { "hatch" } else { pattern },
        "used": !in_poll || hatched,
    })
}

/// How a state looks.
struct Appearance {
    label: &'static str,
    meaning: &'static str,
    light: &'static str,
    dark: &'static str,
    pattern: &'static str,
}

fn look(state: State) -> Appearance {
    let look = |label, meaning, light, dark, pattern| Appearance { label, meaning, light, dark, pattern };
    match state {
        State::Running => look("running", "on a CPU; a task: polled", "#347464", "#32B788", "solid"),
        State::Runnable => {
            look("runnable", "wants a CPU; a task: woken, waits for a worker", "#F2980D", "#F6DF19", "solid")
        }
        State::Blocked => {
            look("blocked", "waits for a lock that somebody holds", "#A01500", "#E32227", "solid")
        }
        State::Waiting => look(
            "waiting",
            "waits for something to happen: condvar, join, channel, notify",
            "#9D13BF",
            "#D088D2",
            "solid",
        ),
        State::Syscall => look("syscall", "in a system call", "#04085A", "#4557CE", "solid"),
        State::Io => look("I/O", "waits for a socket, a pipe, a disk", "#43ACE2", "#BEFBFD", "solid"),
        State::Idle => {
            look("idle", "sleeps, or is a worker with nothing to do", "#DEE0E5", "#454950", "solid")
        }
        State::Unknown => look(
            "unknown",
            "not known: before the first event, or events were lost",
            "#F4F5F7",
            "#24272D",
            "dots",
        ),
    }
}

/// Classes from the bottom of a column to its top, where several share one: work, then what holds it up, then rest.
const ORDER: [u8; 16] = {
    const P: u8 = IN_POLL;
    use State::{Blocked, Idle, Io, Runnable, Running, Syscall, Unknown, Waiting};
    [
        Running as u8,
        Running as u8 + P,
        Syscall as u8,
        Syscall as u8 + P,
        Runnable as u8,
        Runnable as u8 + P,
        Blocked as u8,
        Blocked as u8 + P,
        Waiting as u8,
        Waiting as u8 + P,
        Io as u8,
        Io as u8 + P,
        Idle as u8 + P,
        Idle as u8,
        Unknown as u8,
        Unknown as u8 + P,
    ]
};

/// Colours of named slices, light and dark: muted, so that they never read as states.
const PALETTE: [[&str; COLOURS as usize]; 2] = [
    [
        "#BFCDE0", "#D3C6E2", "#E2CFBB", "#C3D8BF", "#E2C4CB", "#BBD8DB", "#DCD8B4", "#C6C8E6", "#DCC2B8",
        "#B9D6C8",
    ],
    [
        "#3A4A60", "#4C3F60", "#5A4936", "#3D5238", "#5C3E46", "#345356", "#54502F", "#41446A", "#57413A",
        "#345648",
    ],
];
