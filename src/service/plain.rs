//! The exchanges of plain HTTP, as one type for the listener. It only passes calls on.

use http::Response;

use super::exchange::InferenceExchange;
use super::vision::VisionExchange;
use crate::engine::Outcome;
use crate::inference::Pending;
use crate::memory::Share;
use crate::net::service::{Exchange, Progress, ReplySlot};

/// One plain request with a body.
pub enum PlainExchange {
    Inference(InferenceExchange),
    Vision(VisionExchange),
}

impl Exchange for PlainExchange {
    type Pending = Pending;

    fn receive(
        &mut self,
        body: &[u8],
        share: Share,
        slot: &ReplySlot,
    ) -> Progress<Pending, Response<Vec<u8>>> {
        match self {
            PlainExchange::Inference(exchange) => exchange.receive(body, share, slot),
            PlainExchange::Vision(exchange) => exchange.receive(body, share, slot),
        }
    }

    fn answer(&mut self, pending: Pending, outcome: Outcome, share: &mut Share) -> Response<Vec<u8>> {
        match self {
            PlainExchange::Inference(exchange) => exchange.answer(pending, outcome, share),
            PlainExchange::Vision(exchange) => exchange.answer(pending, outcome, share),
        }
    }

    fn refusal(&self, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        match self {
            PlainExchange::Inference(exchange) => exchange.refusal(response),
            PlainExchange::Vision(exchange) => exchange.refusal(response),
        }
    }
}
