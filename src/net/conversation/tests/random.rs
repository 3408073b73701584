//! Random schedules of peer, workers, clock and drain.
//!
//! For any order of steps: every accepted request gets one answer, in order; no memory stays charged; and the loop neither
//! sleeps while there is work nor makes a turn without a cause.

use std::time::Duration;

use tungstenite::Message;

use super::super::*;
use super::memory::{Held, Setting};

/// How many steps all schedules have together.
const STEPS: usize = 1_000_000;

/// Pseudo-random numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn each_accepted_request_has_one_answer_in_order_for_any_order_of_steps() {
    let (mut steps, mut seed) = (0, 1);
    while steps < STEPS {
        steps += schedule(seed);
        seed += 1;
    }
}

/// Runs one schedule. Returns its number of steps.
fn schedule(seed: u64) -> usize {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let limits = Limits {
        max_in_flight: 1 + dice.below(6) as usize,
        max_in_flight_bytes: 200 + dice.below(3000) as usize,
        write_buffer_bytes: 1 + dice.below(300) as usize,
        ..Limits::default()
    };
    let memory = Budget::new(2000 + dice.below(6000) as usize);
    let setting = Setting { memory, ..Setting::new(limits) };
    let mut held = Held::new(&setting);
    held.peer_reads(Some(50 + dice.below(2000) as usize));
    let (mut sent, mut steps, mut closed) = (0, 0, false);
    let mut got = Vec::new();
    let most = 100 + dice.below(900);
    while steps < most as usize && held.end().is_none() {
        steps += 1;
        match dice.below(100) {
            0..20 if !closed => {
                let kind = ["now", "here", "later", "later"][dice.below(4) as usize];
                let (length, filling) = (dice.below(300), dice.below(400) as usize);
                let request = format!("{kind} {sent} {length} {}", "é".repeat(filling));
                sent += u64::from(held.write(Message::text(request)));
            }
            20..24 => _ = held.write(Message::Ping("ping".into())),
            24..26 => _ = held.write(Message::text(format!("several {} 40", dice.below(5)))),
            26..50 => held.let_go(dice.below(600) as usize),
            50..70 => held.peer_takes(dice.below(700) as usize),
            70..90 if held.jobs() > 0 => held.reply(dice.below(held.jobs() as u64) as usize),
            90..92 => setting.clock.advance(Duration::from_millis(dice.below(900))),
            92 if dice.below(40) == 0 && !closed => {
                held.close();
                closed = true;
            }
            93 if dice.below(60) == 0 => held.drain(),
            _ => {}
        }
        held.settle();
        got.append(&mut held.received());
    }
    // Now the peer reads everything and workers reply to everything.
    held.peer_reads(None);
    held.let_go(usize::MAX);
    held.reply_all();
    held.settle();
    got.append(&mut held.received());
    check(seed, &held, &got, sent, closed, &setting);
    drop(held);
    assert_eq!(setting.memory.used(), 0, "seed {seed}: memory is still charged");
    steps
}

fn check(seed: u64, held: &Held<'_>, got: &[Message], sent: u64, closed: bool, setting: &Setting) {
    let accepted = held.conversation.slots.next;
    let texts: Vec<&str> = got
        .iter()
        .filter(|message| message.is_text())
        .map(|message| message.to_text().expect("it is text"))
        .collect();
    let timed_out = matches!(held.end(), Some(End(Cause::Stalled | Cause::Silent | Cause::Lost, _)));
    let cut = timed_out || held.cancelled() && !held.conversation.slots.is_empty();
    if !cut {
        assert_eq!(texts.len() as u64, accepted, "seed {seed}: each accepted request has one answer");
    }
    let numbers: Vec<u64> = texts.iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
    let own: Vec<u64> = numbers.iter().copied().filter(|number| *number < 1_000_000).collect();
    assert!(
        own.is_sorted_by(|one, next| one < next),
        "seed {seed}: answers are not in order, or not unique: {own:?}"
    );
    if !closed && !setting.readiness.is_draining() && !timed_out {
        let refused = texts.iter().filter(|text| text.contains("memory")).count() as u64;
        assert!(own.len() as u64 + refused >= sent, "seed {seed}: {} of {sent} are answered", own.len());
    }
}
