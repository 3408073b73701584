//! The stream of a conversation: sound that is cut into windows, scores that become events, and the end of both.
//!
//! Here belong what a conversation keeps between messages, and which windows it answers. What a request is belongs to
//! [`dialogue`](super::dialogue).
//!
//! Invariant: the end of a stream, or of an utterance, is handled after all sound that came before it, and its
//! acknowledgement is written after all answers to that sound.

use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::inference::ServedModel;
use crate::memory::Share;
use crate::model::Tensor;
use crate::model::sound::SoundParameters;
use crate::processing::audio::Windows;
use crate::processing::results::{Settled, Tracker};
use crate::wire::event::Acknowledgement;
use crate::wire::response::Encoded;
use crate::wire::{Answers, Defaults, Framing};

/// The stream of one conversation.
#[derive(Debug)]
pub struct ConversationStream {
    answers: Answers,
    /// What the client says about its sound.
    said: SoundParameters,
    /// The windows, when raw binary messages are sound; `None` otherwise.
    windows: Option<Windows>,
    /// The memory of the sound that is not in a window yet.
    sound: Option<Share>,
    /// The scores so far, for a model that makes events.
    events: Option<(Tracker, Settled)>,
    /// What is left to do at the end of the stream or the utterance.
    ending: Option<Ending>,
    /// The answered windows of the stream, also those that were left out.
    answered: u64,
}

#[derive(Debug)]
struct Ending {
    mark: Mark,
    /// Whether the last window was filled up with silence.
    is_filled: bool,
    /// Whether the last events were asked for.
    is_told: bool,
}

/// The end of a stream or an utterance, as it is acknowledged.
#[derive(Debug)]
pub struct Mark {
    pub ends_stream: bool,
    /// The length of the stream in samples; `None` without sound.
    pub offset: Option<u64>,
    pub dropped_bytes: usize,
    pub id: Option<Box<RawValue>>,
}

impl Mark {
    /// An end that is not reached yet.
    pub fn new(ends_stream: bool, id: Option<Box<RawValue>>) -> Mark {
        Mark { ends_stream, offset: None, dropped_bytes: 0, id }
    }

    /// The acknowledgement as JSON.
    pub fn to_json(&self) -> String {
        let Mark { ends_stream, offset, dropped_bytes, id } = self;
        let event = if *ends_stream { "ended" } else { "committed" };
        let (stream_offset, dropped_bytes) = (*offset, *dropped_bytes);
        Acknowledgement { event, stream_offset, dropped_bytes, id: id.as_deref() }.to_json()
    }
}

/// What a stream has for the conversation.
#[derive(Debug)]
pub enum Item {
    /// A window of sound, and the number of its first new sample.
    Window(u64, Tensor),
    /// The sound could not be read.
    Fault(RequestError),
    /// The last events are to be told. The length of the stream, in samples.
    LastEvents(Option<u64>),
    /// The stream, or the utterance, has ended.
    Ended(Mark),
}

impl ConversationStream {
    /// Begins the stream of a conversation.
    ///
    /// Errors: the query string asks for something that this conversation does not have.
    pub fn new(model: &ServedModel, defaults: &Defaults) -> Result<ConversationStream, RequestError> {
        let events = model.event_settings(&defaults.choices)?;
        let audio = model.audio.as_ref();
        let heard = audio.filter(|_| defaults.framing == Framing::Raw);
        if audio.is_some() && heard.is_none() && defaults.sound.is_some() {
            return Err(RequestError::invalid(
                "encoding, sample_rate and channels describe a stream of sound, but with framing=v2 binary messages are \
                 requests: leave one of them out",
            ));
        }
        match defaults.answers {
            Answers::All => {}
            _ if heard.is_none() => {
                return Err(RequestError::invalid(
                    "answers is for a stream of sound, and this conversation has none: leave it out",
                ));
            }
            Answers::Events if events.is_none() => {
                return Err(RequestError::invalid(
                    "answers=events, but this model makes no events: leave it out, or declare the result `events` in \
                     model.json",
                ));
            }
            _ => {}
        }
        if let Some(stream) = heard {
            stream.check(defaults.sound)?;
        }
        Ok(ConversationStream {
            windows: heard.map(|stream| Windows::new(stream, defaults.sound)),
            answers: defaults.answers,
            said: defaults.sound,
            sound: None,
            events: events.map(|settled| (Tracker::default(), settled)),
            ending: None,
            answered: 0,
        })
    }

    /// Whether an answer depends on what came before it in the conversation, so that there is something to end.
    pub fn depends_on_past(&self, model: &ServedModel) -> bool {
        self.windows.is_some() || self.events.is_some() || model.keeps_state()
    }

    /// Whether binary messages are sound.
    pub fn is_sound(&self) -> bool {
        self.windows.is_some()
    }

    /// Takes sound. `share` is its memory.
    pub fn hear(&mut self, sound: &[u8], share: Share, model: &ServedModel) {
        let (Some(windows), Some(stream)) = (&mut self.windows, &model.audio) else { return };
        windows.push(sound, stream);
        let kept = self.sound.get_or_insert_with(|| Share::none(share.budget()));
        kept.absorb(share);
        // Samples may take more memory than their bytes.
        if let Err(error) = kept.resize(windows.bytes()) {
            windows.overflow(error, stream, self.said);
            kept.shrink_to(windows.bytes());
        }
    }

    /// Begins the end of the stream, or of the utterance.
    pub fn end(&mut self, mark: Mark) {
        self.ending = Some(Ending { mark, is_filled: false, is_told: false });
    }

    /// Whether [`ConversationStream::next`] has anything.
    pub fn has_next(&self, model: &ServedModel) -> bool {
        let has_window = match (&self.windows, &model.audio) {
            (Some(windows), Some(stream)) => windows.is_ready(stream),
            _ => false,
        };
        has_window || self.ending.is_some()
    }

    /// The next window, or the next step of the end.
    pub fn next(&mut self, model: &ServedModel) -> Option<Item> {
        if let Some(item) = self.next_window(model) {
            return Some(item);
        }
        let ending = self.ending.as_mut()?;
        if !ending.is_filled {
            ending.is_filled = true;
            if let (Some(windows), Some(stream)) = (&mut self.windows, &model.audio) {
                let finished = windows.finish(stream);
                ending.mark.offset = Some(finished.length);
                ending.mark.dropped_bytes = finished.left_over;
                return self.next(model);
            }
        }
        if !ending.is_told && self.events.is_some() {
            ending.is_told = true;
            return Some(Item::LastEvents(ending.mark.offset));
        }
        let mark = self.ending.take()?.mark;
        if let (Some(windows), Some(stream)) = (&mut self.windows, &model.audio) {
            windows.restart(stream, mark.offset.filter(|_| !mark.ends_stream).unwrap_or(0));
        }
        Some(Item::Ended(mark))
    }

    fn next_window(&mut self, model: &ServedModel) -> Option<Item> {
        let (windows, stream) = (self.windows.as_mut()?, model.audio.as_ref()?);
        let next = windows.next(stream);
        if let Some(kept) = &mut self.sound {
            kept.shrink_to(windows.bytes());
        }
        Some(match next? {
            Ok((offset, tensor)) => Item::Window(offset, tensor),
            Err(fault) => Item::Fault(fault),
        })
    }

    /// What remembers the scores, for the next answer.
    pub fn tracker(&mut self) -> Option<&mut Tracker> {
        self.events.as_mut().map(|(tracker, _)| tracker)
    }

    /// The last events of a stream of `length` samples, as a response; `None` when nothing happens at its end.
    pub fn last_events(&mut self, model: &ServedModel, length: Option<u64>) -> Option<Encoded> {
        let (tracker, settled) = self.events.as_mut()?;
        model.end_of_stream(tracker, length, settled)
    }

    /// The stream has ended, and its last answer is written: the next one counts from 0.
    pub fn begin_anew(&mut self) {
        self.answered = 0;
        if let Some((tracker, _)) = &mut self.events {
            *tracker = Tracker::default();
        }
    }

    /// Whether the client wants the answer to the next window. `eventful`: it has events.
    pub fn wants_answer(&mut self, eventful: bool) -> bool {
        let number = self.answered;
        self.answered += 1;
        match self.answers {
            Answers::All => true,
            Answers::Events => eventful,
            Answers::Every(count) => eventful || number.is_multiple_of(count.get()),
        }
    }
}
