//! The events of one label. The rules are those of silero-vad's `get_speech_timestamps`, made for a stream: an event is
//! reported as soon as later scores cannot take it back.

use std::ops::Range;

use super::Kind;

/// The thresholds of a label, and its times in ticks of the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    pub is_hit: bool,
    pub threshold: f32,
    pub end_threshold: f32,
    pub min_length: u64,
    pub min_silence: u64,
    pub padding: u64,
    pub cool_down: u64,
}

/// What is known of one label so far.
#[derive(Debug, Clone)]
pub struct Track {
    current: Option<Current>,
    /// The end of the last segment that was reported. The next one does not begin before it.
    last_end: u64,
    /// When the next hit may come.
    rested: u64,
}

/// A segment that has not ended, or scores above the threshold that may become a hit.
#[derive(Debug, Clone, Copy)]
struct Current {
    start: u64,
    first: f32,
    highest: f32,
    is_reported: bool,
    /// Since when the scores are low; `None` while they are not.
    silent_since: Option<u64>,
}

impl Track {
    /// Begins a stream at `begin`.
    pub fn new(begin: u64) -> Track {
        Track { current: None, last_end: begin, rested: begin }
    }

    /// Takes the score of the ticks in `span`. Calls `tell` for each event, with its place and its score.
    pub fn push(&mut self, rule: &Rule, span: Range<u64>, score: f32, tell: &mut impl FnMut(Kind, u64, f32)) {
        if rule.is_hit { self.hit(rule, span, score, tell) } else { self.segment(rule, span, score, tell) }
    }

    fn hit(&mut self, rule: &Rule, span: Range<u64>, score: f32, tell: &mut impl FnMut(Kind, u64, f32)) {
        if score < rule.threshold {
            self.current = None;
            return;
        }
        let current = self.current.get_or_insert(Current::begin(span.start, score));
        current.highest = current.highest.max(score);
        let is_long = span.end - current.start >= rule.min_length;
        if !current.is_reported && is_long && span.start >= self.rested {
            current.is_reported = true;
            self.rested = span.start + rule.cool_down;
            tell(Kind::Hit, span.start, current.highest);
        }
    }

    fn segment(&mut self, rule: &Rule, span: Range<u64>, score: f32, tell: &mut impl FnMut(Kind, u64, f32)) {
        let Some(current) = &mut self.current else {
            if score >= rule.threshold {
                self.current = Some(Current::begin(span.start, score));
                self.report_start(rule, span.end, tell);
            }
            return;
        };
        if score >= rule.threshold {
            current.silent_since = None;
            current.highest = current.highest.max(score);
        } else if score < rule.end_threshold {
            let since = *current.silent_since.get_or_insert(span.start);
            if span.start - since >= rule.min_silence {
                self.end_segment(rule, since, u64::MAX, tell);
                return;
            }
        }
        self.report_start(rule, span.end, tell);
    }

    /// Reports the start when the segment is long enough, whatever comes. While scores are low, it may end where they
    /// became low.
    fn report_start(&mut self, rule: &Rule, until: u64, tell: &mut impl FnMut(Kind, u64, f32)) {
        let Some(current) = &mut self.current else { return };
        let end = current.silent_since.unwrap_or(until);
        if !current.is_reported && end - current.start > rule.min_length {
            current.is_reported = true;
            let start = current.start.saturating_sub(rule.padding).max(self.last_end);
            tell(Kind::Start, start, current.first);
        }
    }

    /// Ends the segment. No event lies behind `last`.
    fn end_segment(&mut self, rule: &Rule, end: u64, last: u64, tell: &mut impl FnMut(Kind, u64, f32)) {
        if let Some(current) = self.current.take()
            && current.is_reported
        {
            self.last_end = end.saturating_add(rule.padding).min(last);
            tell(Kind::End, self.last_end, current.highest);
        }
    }

    /// Ends the stream at `end`. A segment that has not ended ends there.
    pub fn finish(&mut self, rule: &Rule, end: u64, tell: &mut impl FnMut(Kind, u64, f32)) {
        if rule.is_hit {
            self.current = None;
            return;
        }
        if let Some(current) = &mut self.current {
            current.silent_since = None;
        }
        // The last window may have been longer than the stream.
        let begun = self.current.map_or(end, |current| current.start);
        self.report_start(rule, end.max(begun), tell);
        self.end_segment(rule, end, end, tell);
    }
}

impl Current {
    fn begin(start: u64, score: f32) -> Current {
        Current { start, first: score, highest: score, is_reported: false, silent_since: None }
    }
}
