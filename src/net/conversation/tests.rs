//! Tests of whole conversations over buffers in memory.
//!
//! The test decides which bytes arrive, when workers reply, and what the time is. `Held::settle` also checks the loop in
//! each test: no turn without a cause, and no sleep while there is work.

mod memory;
mod random;

use std::time::Duration;

use tungstenite::Message;

use self::memory::{Held, Setting};
use super::reading::PATIENCE;
use super::*;

fn limits() -> Limits {
    Limits { max_in_flight: 2, write_buffer_bytes: 100, ..Limits::default() }
}

#[test]
fn a_ping_is_answered_at_once_after_more_requests_than_there_are_slots() {
    let setting = Setting::new(limits());
    let mut held = Held::new(&setting);
    for number in 0..40 {
        held.send(Message::text(format!("later {number} 10")));
    }
    held.send(Message::Ping("here?".into()));
    held.settle();
    assert_eq!(held.jobs(), 2, "only as many as there are slots are in flight");
    assert_eq!(held.received(), [Message::Pong("here?".into())]);
    held.reply_all();
    assert_eq!(held.numbers(), (0..40).collect::<Vec<_>>(), "waiting requests are answered in order");
}

#[test]
fn a_run_in_the_conversations_own_thread_is_answered_in_order() {
    let setting = Setting::new(Limits { max_in_flight: 4, ..limits() });
    let mut held = Held::new(&setting);
    held.send(Message::text("here 0 10"));
    assert_eq!(held.numbers(), [0]);
    held.send(Message::text("later 1 10"));
    held.send(Message::text("here 2 10"));
    held.send(Message::Ping("here?".into()));
    held.settle();
    assert_eq!(held.received(), [Message::Pong("here?".into())], "the answer before it is missing");
    held.reply(0);
    assert_eq!(held.numbers(), [1, 2]);
}

#[test]
fn only_a_request_without_others_may_be_run_in_the_conversations_own_thread() {
    let setting = Setting::new(limits());
    let mut held = Held::new(&setting);
    held.send(Message::text("here 0 10"));
    held.settle();
    assert_eq!(held.patience(), [PATIENCE]);
    held.write(Message::text("here 1 10"));
    held.write(Message::text("here 2 10"));
    held.let_go(usize::MAX);
    held.settle();
    assert_eq!(held.patience(), [Duration::ZERO; 2], "another one has arrived, or is not answered yet");
    held.write(Message::text("here 3 10"));
    held.write(Message::Ping("here?".into()));
    held.let_go(17);
    held.settle();
    assert_eq!(held.patience(), [Duration::ZERO], "a part of another one has arrived");
    held.let_go(usize::MAX);
    held.send(Message::text("here 4 10"));
    held.settle();
    assert_eq!(held.patience(), [PATIENCE]);
    assert_eq!(held.numbers(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_buffer_is_lent_only_while_messages_are_read() {
    let setting = Setting::new(limits());
    let mut conversations: Vec<Held<'_>> = (0..3).map(|_| Held::new(&setting)).collect();
    for held in &mut conversations {
        held.send(Message::text(format!("now 0 10 {}", "x".repeat(10_000))));
        held.settle();
    }
    assert_eq!(setting.buffers.spare(), 1, "all have used the same one");
}

#[test]
fn nothing_is_read_while_the_bytes_in_flight_are_at_their_limit() {
    let setting = Setting::new(Limits { max_in_flight_bytes: 1000, ..limits() });
    let mut held = Held::new(&setting);
    for number in 0..4000 {
        held.send(Message::text(format!("later {number} 10")));
    }
    held.settle();
    assert!(held.conversation.backlog.bytes() < 1000 + 200, "{}", held.conversation.backlog.bytes());
    assert!(held.unread() > 0, "the rest is not read");
    held.reply_all();
    assert_eq!(held.numbers(), (0..4000).collect::<Vec<_>>());
}

#[test]
fn a_peer_that_does_not_read_costs_no_turns_for_any_number_of_replies() {
    let setting = Setting::new(Limits { max_in_flight: 32, ..limits() });
    let mut held = Held::new(&setting);
    held.peer_reads(Some(1000));
    for number in 0..32 {
        held.send(Message::text(format!("later {number} 500")));
    }
    held.settle();
    // Three answers fill the peer's window.
    let mut turns = Vec::new();
    for _ in 0..32 {
        held.reply(0);
        let before = held.turns;
        held.settle();
        turns.push(held.turns - before);
    }
    assert!(turns[8..].iter().all(|turns| *turns == 0), "{turns:?}");
    let Wants::Sleep { interest, .. } = held.wants else { panic!("it sleeps") };
    assert_eq!(interest, Interest { write: true, ..Interest::default() });
    held.peer_reads(None);
    assert_eq!(held.numbers(), (0..32).collect::<Vec<_>>());
}

#[test]
fn requests_that_follow_from_one_message_cost_no_turns_while_the_peer_does_not_read() {
    let setting = Setting::new(limits());
    let mut held = Held::new(&setting);
    held.peer_reads(Some(300));
    held.send(Message::text("several 50 200"));
    held.settle();
    let before = held.turns;
    held.settle();
    assert_eq!(held.turns, before);
    assert!(matches!(held.wants, Wants::Sleep { .. }));
    held.peer_reads(None);
    held.settle();
    assert_eq!(held.received().len(), 50);
}

#[test]
fn answers_are_encoded_only_when_they_can_be_written() {
    let setting = Setting::new(Limits { max_in_flight: 32, ..limits() });
    let mut held = Held::new(&setting);
    held.peer_reads(Some(1000));
    for number in 0..32 {
        held.send(Message::text(format!("later {number} 500")));
    }
    held.settle();
    held.reply_all_at_once();
    assert!(held.encoded() <= 4, "{} answers are encoded", held.encoded());
    let taken = setting.memory.used();
    assert!(taken < 4 * 500 + 32 * 200, "{taken} bytes are taken");
    held.peer_reads(None);
    assert_eq!(held.numbers(), (0..32).collect::<Vec<_>>());
}

#[test]
fn a_peer_that_closes_after_its_requests_gets_all_answers_and_then_the_close() {
    let setting = Setting::new(limits());
    let mut held = Held::new(&setting);
    for number in 0..40 {
        held.send(Message::text(format!("later {number} 10")));
    }
    held.send(Message::text("several 7 20"));
    held.close();
    held.settle();
    assert!(!held.cancelled(), "the requests are still wanted");
    held.reply_all();
    let received = held.received();
    let texts = received.iter().filter(|message| message.is_text()).count();
    assert_eq!((texts, received.last().map(Message::is_close)), (47, Some(true)));
    assert_eq!(held.end().map(|end| end.0), Some(Cause::Closed));
}

#[test]
fn a_close_waits_at_most_the_close_timeout_after_the_last_answer() {
    let setting = Setting::new(limits());
    let mut held = Held::new(&setting);
    held.send(Message::text("later 0 10"));
    held.send(Message::text("later 1 10"));
    held.close();
    held.settle();
    setting.clock.advance(Duration::from_secs(4));
    held.reply(0);
    held.settle();
    setting.clock.advance(Duration::from_secs(4));
    held.settle();
    assert!(held.end().is_none(), "an answer extends the time");
    setting.clock.advance(Duration::from_secs(1));
    held.settle();
    assert!(held.cancelled());
    assert_eq!(held.received().len(), 2, "the answer and the close");
}

#[test]
fn a_peer_that_closes_and_does_not_read_is_dropped() {
    let setting = Setting::new(limits());
    let mut held = Held::new(&setting);
    held.peer_reads(Some(100));
    held.send(Message::text("now 0 1000"));
    held.close();
    held.settle();
    setting.clock.advance(Duration::from_secs(5));
    held.settle();
    let End(cause, why) = held.end().expect("it has ended");
    assert_eq!((*cause, why.as_str()), (Cause::Closed, "closed; the peer did not read its last answers"));
}

#[test]
fn requests_without_memory_are_answered_overloaded_in_order() {
    let setting =
        Setting { memory: Budget::new(2000), ..Setting::new(Limits { max_in_flight: 8, ..limits() }) };
    let mut held = Held::new(&setting);
    held.send(Message::text(format!("later 0 10 {}", "x".repeat(1500))));
    held.send(Message::text(format!("now 1 10 {}", "x".repeat(1500))));
    held.send(Message::text("now 2 10"));
    held.settle();
    held.reply_all();
    let received = held.received();
    let words: Vec<&str> = received.iter().map(|message| message.to_text().unwrap()).collect();
    assert!(words[0].starts_with("0 ") && words[2].starts_with("2 "), "{words:?}");
    assert!(words[1].contains("try again later"), "{words:?}");
    held.send(Message::text(format!("now 3 10 {}", "x".repeat(1500))));
    assert_eq!(held.numbers(), [3], "freed memory serves the next request");
    drop(held);
    assert_eq!(setting.memory.used(), 0);
}

#[test]
fn a_message_that_can_never_fit_is_refused_as_too_large() {
    let setting = Setting { memory: Budget::new(2000), ..Setting::new(limits()) };
    let mut held = Held::new(&setting);
    held.send(Message::binary(vec![0; 100_000]));
    held.settle();
    let received = held.received();
    assert!(received[0].to_text().unwrap().contains("--max-memory"), "{received:?}");
}

#[test]
fn with_a_drain_spread_conversations_are_served_until_their_own_time_and_leave_one_after_the_other() {
    let spread = Duration::from_secs(10);
    let setting = Setting::new(Limits { drain_spread: spread, ping_interval: Duration::ZERO, ..limits() });
    let mut first = Held::new(&setting);
    let mut second = Held::new(&setting);
    for held in [&mut first, &mut second] {
        held.settle();
        held.drain();
        held.settle();
    }
    let closes = |held: &mut Held<'_>| held.received().iter().any(Message::is_close);
    assert!(closes(&mut first), "the first one leaves at once");
    assert!(!closes(&mut second));
    second.send(Message::text("now 0 10"));
    assert_eq!(second.numbers(), [0], "the other one is served as before");
    let Wants::Sleep { until: Some(until), .. } = second.wants else { panic!("{:?}", second.wants) };
    let wait = until - setting.clock.now();
    assert!(wait > Duration::ZERO && wait < spread, "{wait:?}");
    setting.clock.advance(wait);
    second.settle();
    assert!(closes(&mut second), "until its time has come");
}
