//! What a descriptor stood for when it was used.
//!
//! Its number is used again after it was closed, so names hold between two closings: the latest one that was told before
//! the call, or else the first one after it. A descriptor that was open before the capture is named at its end.

use std::collections::HashMap;

use super::{CallSpan, Ns, Trace};
use crate::events::{Call, StrId};

/// Names and closings of a descriptor, ascending in time.
type Marks = Vec<(Ns, Option<StrId>)>;

/// Names of a trace's descriptors, by number and time.
#[derive(Debug, Default)]
pub struct Descriptors {
    by_number: HashMap<i32, Marks>,
}

impl Descriptors {
    /// Those of a trace.
    pub fn new(trace: &Trace) -> Descriptors {
        let mut by_number: HashMap<i32, Marks> = HashMap::new();
        for name in &trace.fd_names {
            by_number.entry(name.fd.0).or_default().push((name.at, Some(name.name)));
        }
        let closings = trace.calls.iter().filter(|call| call.call == Call::Close);
        for call in closings {
            // A descriptor without a name needs no closings.
            if let Some(marks) = by_number.get_mut(&call.fd.0) {
                marks.push((call.time.begin, None));
            }
        }
        by_number.values_mut().for_each(|marks| marks.sort_by_key(|mark| mark.0));
        Descriptors { by_number }
    }

    /// What a call's descriptor stood for.
    pub fn name_of<'a>(&self, trace: &'a Trace, call: &CallSpan) -> Option<&'a str> {
        let marks = self.by_number.get(&call.fd.0)?;
        let now = marks.partition_point(|mark| mark.0 < call.time.begin);
        let before = marks[..now].last().and_then(|mark| mark.1);
        // Until the next closing, which this call may itself be.
        let later = || marks[now..].first().and_then(|mark| mark.1);
        let name = trace.text(before.or_else(later)?);
        (!name.is_empty()).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Fd, StackId};
    use crate::model::{FdName, Interval};

    fn call_of(call: Call, fd: i32, begin: Ns) -> CallSpan {
        let time = Interval { begin, end: begin + 5, open: false };
        CallSpan { thread: 0, in_poll: None, time, call, fd: Fd(fd), result: 0, stack: StackId(0) }
    }

    #[test]
    fn a_name_holds_between_two_closings() {
        let mut trace = Trace::default();
        let [first, second] = [StrId(1), StrId(2)];
        trace.strings.insert(first, "first".into());
        trace.strings.insert(second, "second".into());
        trace.fd_names.push(FdName { at: 20, fd: Fd(7), name: first });
        trace.fd_names.push(FdName { at: 60, fd: Fd(7), name: second });
        trace.calls.push(call_of(Call::Close, 7, 40));
        let descriptors = Descriptors::new(&trace);
        let named = |fd, at| descriptors.name_of(&trace, &call_of(Call::Read, fd, at));
        assert_eq!(named(7, 10), Some("first"), "told at a connection's end, or at the capture's");
        assert_eq!(named(7, 30), Some("first"));
        assert_eq!(descriptors.name_of(&trace, &trace.calls[0]), Some("first"), "what is closed");
        assert_eq!(named(7, 50), Some("second"));
        assert_eq!(named(7, 70), Some("second"));
        assert_eq!(named(8, 70), None);
    }

    #[test]
    fn after_its_last_closing_it_has_none() {
        let mut trace = Trace::default();
        trace.strings.insert(StrId(1), "first".into());
        trace.fd_names.push(FdName { at: 20, fd: Fd(7), name: StrId(1) });
        trace.calls.push(call_of(Call::Close, 7, 40));
        let descriptors = Descriptors::new(&trace);
        assert_eq!(descriptors.name_of(&trace, &call_of(Call::Read, 7, 50)), None);
    }
}
