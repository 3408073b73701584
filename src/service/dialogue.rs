//! A WebSocket conversation with one model: it makes requests from messages, and messages from replies. Sockets
//! and frames belong to [`net`](crate::net); the formats belong to [`wire`](crate::wire).

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::access::{Access, Pass};
use crate::engine::{Guest, Mailbox, Outcome};
use crate::error::{Code, RequestError};
use crate::inference::sequences::{ConversationSequences, Sequences};
use crate::inference::{Answer, Pending, ServedModel};
use crate::memory::Share;
use crate::net::service::{Dialogue, Incoming, Message, Progress, ReplySlot};
use crate::processing::audio::Windows;
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
    /// The audio windows, when raw binary messages form an audio stream; `None` otherwise.
    windows: Option<Windows>,
    /// The memory of the audio that is not in a window yet.
    sound: Option<Share>,
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
    /// With `stream=last`: the mailbox holds the values under this slot.
    Frame {
        slot: u64,
    },
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
        let windows = model.audio.as_ref().filter(|_| defaults.framing == Framing::Raw).map(Windows::new);
        if defaults.stream == Stream::Last && (windows.is_some() || model.sequences.is_some()) {
            return Err(RequestError::invalid(
                "stream=last passes requests over, but this model's answers depend on all that came before",
            ));
        }
        let frames = (defaults.stream == Stream::Last).then(Arc::default);
        let sequences = ConversationSequences::default();
        Ok(InferenceDialogue {
            model,
            defaults,
            access,
            pass,
            sequences,
            windows,
            sound: None,
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
}

impl Dialogue for InferenceDialogue {
    type Pending = Waiting;

    fn receive(
        &mut self,
        message: Incoming<'_>,
        mut share: Share,
        slot: &ReplySlot,
    ) -> Progress<Waiting, Message> {
        if let (Incoming::Binary(sound), Some(windows)) = (message, &mut self.windows) {
            windows.push(sound);
            let kept = self.sound.get_or_insert_with(|| Share::none(share.budget()));
            kept.absorb(share);
            kept.shrink(kept.bytes().saturating_sub(windows.bytes()));
            return Progress::NoAnswer;
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
        let step = read.and_then(|request| self.submit(request, share, slot));
        step.unwrap_or_else(|rejected| Progress::Answered(refusal(&rejected)))
    }

    fn refuse(&mut self, error: &RequestError) -> Message {
        failure(error, None)
    }

    fn next(&mut self, share: Share, slot: &ReplySlot) -> Option<Progress<Waiting, Message>> {
        let model = self.model.clone();
        let (windows, stream) = (self.windows.as_mut()?, model.audio.as_ref()?);
        let (offset, tensor) = windows.next(stream)?;
        if !windows.is_ready(stream) {
            windows.trim(stream);
        }
        if let Some(kept) = &mut self.sound {
            kept.shrink(kept.bytes().saturating_sub(windows.bytes()));
        }
        let request = decode::from_window(tensor, offset, &model.signature, &self.defaults);
        let step = request.map_err(Rejected::from).and_then(|request| self.submit(request, share, slot));
        Some(step.unwrap_or_else(|rejected| Progress::Answered(refusal(&rejected))))
    }

    fn has_next(&self) -> bool {
        match (&self.windows, &self.model.audio) {
            (Some(windows), Some(stream)) => windows.is_ready(stream),
            _ => false,
        }
    }

    fn answer(&mut self, waiting: Waiting, outcome: Outcome, share: &mut Share) -> Message {
        let pending = match waiting {
            Waiting::Request(pending) => pending,
            Waiting::Frame { slot } => match self.frames.as_ref().and_then(|frames| frames.end(slot)) {
                Some((mut pending, dropped)) => {
                    pending.dropped = Some(dropped);
                    pending
                }
                None => return failure(&RequestError::new(Code::InferenceFailed, "the frame is gone"), None),
            },
        };
        match self.model.answer(pending, outcome, share) {
            Answer::Response(Encoded::Json(json)) => Message::text(json),
            Answer::Response(Encoded::Binary { json, tensors }) => {
                Message::binary(v2_message(&json, &tensors))
            }
            Answer::Error { error, id } => failure(&error, id.as_deref()),
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

fn refusal(rejected: &Rejected) -> Message {
    failure(&rejected.error, rejected.id.as_deref())
}

/// Makes an error reply. Its sentence may quote the request, so the log gets only the code.
fn failure(error: &RequestError, id: Option<&RawValue>) -> Message {
    log::debug!("a request is answered `{}`", error.code.name());
    Message::text(error.to_json(id))
}
