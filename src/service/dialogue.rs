//! A conversation with one model.

use std::sync::Arc;

use serde_json::value::RawValue;
use tungstenite::Message;

use super::access::{Access, Pass};
use crate::engine::Outcome;
use crate::inference::{Answer, Pending, ServedModel};
use crate::net::service::{Dialogue, Incoming, ReplySlot, Step};
use crate::wire::decode;
use crate::wire::response::Encoded;
use crate::wire::{Defaults, Framing, RequestError};

pub struct InferenceDialogue {
    model: Arc<ServedModel>,
    /// From the upgrade's query string.
    defaults: Defaults,
    access: Arc<Access>,
    pass: Pass,
}

impl InferenceDialogue {
    pub fn new(
        model: Arc<ServedModel>,
        defaults: Defaults,
        access: Arc<Access>,
        pass: Pass,
    ) -> InferenceDialogue {
        InferenceDialogue { model, defaults, access, pass }
    }
}

impl Dialogue for InferenceDialogue {
    type Pending = Pending;

    fn receive(&mut self, message: Incoming<'_>, slot: &ReplySlot<'_>) -> Step<Pending, Message> {
        let signature = &self.model.signature;
        let read = match (message, self.defaults.framing) {
            (Incoming::Text(text), _) => decode::from_text(text, signature, &self.defaults),
            (Incoming::Binary(payload), Framing::Raw) => decode::from_raw(payload, signature, &self.defaults),
            (Incoming::Binary(message), Framing::V2) => decode::from_v2(message, signature, &self.defaults),
        };
        match read {
            Ok(request) => Step::Later(self.model.submit(request, slot.cancelled(), slot.reply())),
            Err(rejected) => Step::Now(failure(&rejected.error, rejected.id.as_deref())),
        }
    }

    fn answer(&mut self, pending: Pending, outcome: Outcome) -> Message {
        match self.model.answer(pending, outcome) {
            Answer::Response(Encoded::Json(json)) => Message::text(json),
            Answer::Response(Encoded::Binary { json, tensors }) => {
                Message::binary(Encoded::into_v2(&json, &tensors))
            }
            Answer::Error { error, id } => failure(&error, id.as_deref()),
        }
    }

    fn is_unwelcome(&mut self) -> Option<String> {
        let welcome = self.access.still_holds(&mut self.pass);
        (!welcome).then(|| "the token has been taken away".into())
    }
}

/// An error reply. Its sentence may quote the request, so the log has its code alone.
fn failure(error: &RequestError, id: Option<&RawValue>) -> Message {
    log::debug!("a request is answered `{}`", error.code.name());
    Message::text(error.to_json(id))
}
