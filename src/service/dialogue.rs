//! A WebSocket conversation with one model: it makes requests from messages, and messages from replies. Sockets
//! and frames belong to [`net`](crate::net); the formats belong to [`wire`](crate::wire).

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::access::{Access, Pass};
use super::stream::{ConversationStream, Item, Mark};
use crate::engine::{Guest, Mailbox, Outcome, Outputs};
use crate::error::{Code, RequestError};
use crate::inference::sequences::{ConversationSequences, Sequences};
use crate::inference::{Answer, Pending, ServedModel};
use crate::memory::Share;
use crate::model::Tensor;
use crate::net::service::{Dialogue, Incoming, Message, Progress, ReplySlot};
use crate::wire::event::{self, Event, Said};
use crate::wire::response::{Encoded, v2_message};
use crate::wire::{Defaults, Framing, InferRequest, Rejected, Stream, decode};

/// How many requests a conversation sends before it asks for a guest. Guests are few and keep memory, so a conversation
/// with seldom requests must not take one at once.
const REQUESTS_OF_A_GUEST: u32 = 16;

/// The state of one conversation.
pub struct InferenceDialogue {
    model: Arc<ServedModel>,
    /// The settings from the query string of the upgrade request.
    defaults: Defaults,
    access: Arc<Access>,
    pass: Pass,
    sequences: ConversationSequences,
    stream: ConversationStream,
    /// The mailbox for `stream=last`: only the newest waiting request is run. `None` otherwise.
    frames: Option<Arc<Mailbox<Pending>>>,
    /// Runs short jobs in this thread; `None` until the conversation has sent some requests, and for models that are
    /// not short.
    guest: Option<Box<Guest>>,
    /// The requests that were submitted while there was no guest.
    before_guest: u32,
}

/// The values that are needed to make the answer from a reply.
pub enum Waiting {
    Request(Pending),
    /// A window of the stream.
    Window(Pending),
    /// With `stream=last`: the mailbox holds the values under this slot.
    Frame {
        slot: u64,
    },
    /// The last events of a stream, or of an utterance. The number is the length of the stream in samples.
    LastEvents(Option<u64>),
    /// The end of a stream or an utterance is acknowledged.
    Ended(Mark),
}

impl InferenceDialogue {
    /// Begins a conversation. Returns an error for `stream=last` when answers depend on all earlier requests,
    /// because dropped requests would change them.
    pub fn new(
        model: Arc<ServedModel>,
        defaults: Defaults,
        access: Arc<Access>,
        pass: Pass,
    ) -> Result<InferenceDialogue, RequestError> {
        let stream = ConversationStream::new(&model, &defaults)?;
        if defaults.stream == Stream::Last && stream.depends_on_past(&model) {
            return Err(RequestError::invalid(
                "stream=last passes requests over, but this model's answers depend on all that came before",
            ));
        }
        if defaults.stream == Stream::Last && model.is_chain() {
            return Err(RequestError::invalid("stream=last is not there for chains: connect without it"));
        }
        let frames = (defaults.stream == Stream::Last).then(Arc::default);
        let sequences = ConversationSequences::default();
        Ok(InferenceDialogue {
            model,
            defaults,
            access,
            pass,
            sequences,
            stream,
            frames,
            guest: None,
            before_guest: 0,
        })
    }

    fn submit(
        &mut self,
        request: InferRequest,
        share: Share,
        slot: &ReplySlot,
    ) -> Result<Progress<Waiting, Message>, Rejected> {
        let cancelled = slot.cancelled();
        if let Some(frames) = &self.frames {
            let none = Share::none(share.budget());
            let is_new = self.model.submit_newest(request, frames, cancelled, share, || slot.reply(none));
            return Ok(if is_new {
                Progress::Pending(Waiting::Frame { slot: slot.number() })
            } else {
                Progress::NoAnswer
            });
        }
        let patience = slot.patience();
        self.look_for_guest(patience);
        let sequences = Sequences::Conversation(&mut self.sequences);
        let guest = self.guest.as_deref_mut().map(|guest| (guest, patience));
        let pending = self.model.submit(request, sequences, cancelled, slot.reply(share), guest);
        Ok(Progress::Pending(Waiting::Request(pending)))
    }

    /// Asks for a guest with every [`REQUESTS_OF_A_GUEST`]th request, until there is one.
    fn look_for_guest(&mut self, patience: Duration) {
        if self.guest.is_none() {
            self.before_guest = (self.before_guest + 1) % REQUESTS_OF_A_GUEST;
            if self.before_guest == 0 {
                self.guest = self.model.guests.admit(patience).map(Box::new);
            }
        }
    }

    /// Handles an event. An end is carried out by [`Dialogue::next`], in the order of the messages.
    fn control(&mut self, said: Said) -> Progress<Waiting, Message> {
        let Said { event, id } = said;
        let ends_stream = match event {
            Event::Describe => return Progress::Answered(Message::text(self.model.describe())),
            Event::End => true,
            Event::Commit => false,
        };
        if !self.stream.depends_on_past(&self.model) {
            let error = RequestError::invalid(
                "this conversation has no stream that could end: the model keeps nothing from one request to the next",
            );
            return Progress::Answered(failure(&error, id.as_deref()));
        }
        self.stream.end(Mark::new(ends_stream, id));
        Progress::NoAnswer
    }

    /// Makes a request of a window.
    fn run_window(
        &mut self,
        offset: u64,
        window: Tensor,
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Waiting, Message> {
        let model = self.model.clone();
        let request = decode::from_window(window, offset, &model.signature, &self.defaults);
        let step = request.map_err(Rejected::from).and_then(|request| self.submit(request, share, slot));
        match step {
            Ok(Progress::Pending(Waiting::Request(pending))) => Progress::Pending(Waiting::Window(pending)),
            Ok(progress) => progress,
            Err(rejected) => Progress::Answered(refusal(&rejected)),
        }
    }
}

/// Opens a slot for an answer that needs no worker, but must be made when all answers before it are made.
fn in_turn(waiting: Waiting, share: Share, slot: &ReplySlot) -> Progress<Waiting, Message> {
    slot.reply(share).send(Ok(Outputs::default()));
    Progress::Pending(waiting)
}

impl Dialogue for InferenceDialogue {
    type Pending = Waiting;

    fn receive(
        &mut self,
        message: Incoming<'_>,
        mut share: Share,
        slot: &ReplySlot,
    ) -> Progress<Waiting, Message> {
        if let (Incoming::Binary(sound), true) = (message, self.stream.is_sound()) {
            self.stream.hear(sound, share, &self.model);
            return Progress::NoAnswer;
        }
        if let Incoming::Text(text) = message
            && let Some(said) = event::read(text)
        {
            return match said {
                Ok(said) => self.control(said),
                Err(rejected) => Progress::Answered(refusal(&rejected)),
            };
        }
        let (signature, defaults) = (&self.model.signature, &self.defaults);
        let held = share.bytes();
        let read = match (message, defaults.framing) {
            (Incoming::Text(text), _) => decode::from_text(text, signature, defaults, &mut share),
            (Incoming::Binary(payload), Framing::Raw) => {
                decode::from_raw(payload, signature, defaults, &mut share)
            }
            (Incoming::Binary(message), Framing::V2) => {
                decode::from_v2(message, signature, defaults, &mut share)
            }
        };
        // Only the memory of the tensors stays counted: the message is dropped when this function returns.
        share.shrink(held);
        let step = read.and_then(|request| {
            let ends_stream = request.stream_end;
            let progress = self.submit(request, share, slot)?;
            if ends_stream {
                self.stream.end(Mark::new(true, None));
            }
            Ok(progress)
        });
        step.unwrap_or_else(|rejected| Progress::Answered(refusal(&rejected)))
    }

    fn refuse(&mut self, error: &RequestError) -> Message {
        failure(error, None)
    }

    fn next(&mut self, share: Share, slot: &ReplySlot) -> Option<Progress<Waiting, Message>> {
        Some(match self.stream.next(&self.model)? {
            Item::Window(offset, window) => self.run_window(offset, window, share, slot),
            Item::Fault(error) => Progress::Answered(failure(&error, None)),
            Item::LastEvents(length) => in_turn(Waiting::LastEvents(length), share, slot),
            Item::Ended(mark) => {
                // The steps that are under way keep their states; the next request begins with the initial ones.
                self.sequences.end_own();
                in_turn(Waiting::Ended(mark), share, slot)
            }
        })
    }

    fn has_next(&self) -> bool {
        self.stream.has_next(&self.model)
    }

    fn answer(&mut self, waiting: Waiting, outcome: Outcome, share: &mut Share) -> Option<Message> {
        let (pending, is_window) = match waiting {
            Waiting::Request(pending) => (pending, false),
            Waiting::Window(pending) => (pending, true),
            Waiting::Frame { slot } => match self.frames.as_ref().and_then(|frames| frames.end(slot)) {
                Some((mut pending, dropped)) => {
                    pending.dropped = Some(dropped);
                    (pending, false)
                }
                None => {
                    let error = RequestError::new(Code::InferenceFailed, "the frame is gone");
                    return Some(failure(&error, None));
                }
            },
            Waiting::LastEvents(length) => {
                return self.stream.last_events(&self.model, length).map(message);
            }
            Waiting::Ended(mark) => {
                if mark.ends_stream {
                    self.stream.begin_anew();
                }
                return Some(Message::text(mark.to_json()));
            }
        };
        match self.model.answer(pending, outcome, self.stream.tracker(), share) {
            Answer::Response { encoded, eventful } => {
                let is_wanted = !is_window || self.stream.wants_answer(eventful);
                is_wanted.then(|| message(encoded))
            }
            Answer::Error { error, id } => Some(failure(&error, id.as_deref())),
        }
    }

    fn is_over(&mut self) -> Option<&'static str> {
        self.model.is_over().then_some("the model has been replaced: connect again for its new version")
    }

    fn is_unwelcome(&mut self) -> Option<String> {
        let welcome = self.access.still_holds(&mut self.pass);
        (!welcome).then(|| "the token has been taken away".into())
    }
}

fn message(encoded: Encoded) -> Message {
    match encoded {
        Encoded::Json(json) => Message::text(json),
        Encoded::Binary { json, tensors } => Message::binary(v2_message(&json, &tensors)),
    }
}

fn refusal(rejected: &Rejected) -> Message {
    failure(&rejected.error, rejected.id.as_deref())
}

/// Makes an error reply. Its sentence may quote the request, so the log gets only the code.
fn failure(error: &RequestError, id: Option<&RawValue>) -> Message {
    log::debug!("a request is answered `{}`", error.code.name());
    Message::text(error.to_json(id))
}
