//! Detection for clients of DeepStack: `POST /v1/vision/detection`, `/v1/vision/face`, `/v1/vision/custom/{model}`. Which
//! model answers is decided in [`inference`](crate::inference); the formats belong to [`wire::deepstack`](deepstack).
//!
//! Invariant: the token is checked before a model is looked up, also when it comes in the body.

use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};

use super::access::{Access, Admission};
use crate::engine::{Outcome, Outputs};
use crate::error::{Code, RequestError};
use crate::inference::sequences::Sequences;
use crate::inference::{Detector, Models, Pending, ServedModel};
use crate::memory::Share;
use crate::net::service::{Exchange, Progress, Refusal, ReplySlot};
use crate::ops::routes::{Vision, json, request_error};
use crate::processing::results::MadeResult;
use crate::wire::deepstack::{self, Fields};
use crate::wire::{Defaults, InferRequest, decode, form};

/// One request of a DeepStack client.
pub struct VisionExchange {
    models: Arc<Models>,
    access: Arc<Access>,
    admission: Admission,
    wanted: Detector,
    defaults: Defaults,
    boundary: String,
    /// When the body had arrived.
    begun: Instant,
}

/// What the server knows of the request when its head has come.
pub struct Asked<'a> {
    pub vision: Vision<'a>,
    pub admission: Admission,
    pub defaults: Defaults,
    pub headers: &'a HeaderMap,
}

impl VisionExchange {
    /// Begins an exchange.
    ///
    /// Errors: the body is no form.
    pub fn new(
        models: Arc<Models>,
        access: Arc<Access>,
        asked: Asked<'_>,
    ) -> Result<VisionExchange, RequestError> {
        let Asked { vision, admission, defaults, headers } = asked;
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("multipart/form-data") {
            return Err(no_image("the body is no form"));
        }
        let wanted = match vision {
            Vision::Objects => Detector::Objects,
            Vision::Faces => Detector::Faces,
            Vision::Named(name) => Detector::Named(name.to_owned()),
        };
        let (boundary, begun) = (form::boundary(content_type)?, Instant::now());
        Ok(VisionExchange { models, access, admission, wanted, defaults, boundary, begun })
    }

    /// The model, and the request for it.
    fn read(&self, body: &[u8], share: &mut Share) -> Result<(Arc<ServedModel>, InferRequest), Refusal> {
        let failed = |failure: RequestError| Box::new(request_error(&failure));
        let fields = Fields::read(body, &self.boundary).map_err(failed)?;
        if self.admission == Admission::ByKey {
            self.access.check_key(fields.api_key)?;
        }
        let catalogue = self.models.now();
        let model = catalogue.detector(&self.wanted).map_err(failed)?;
        let image = fields.image.ok_or_else(|| failed(no_image("the form has no such field")))?;
        let request = decode::from_raw(image, &model.signature, &self.defaults, share);
        let mut request = request.map_err(|rejected| failed(rejected.error))?;
        request.choices.results = Some(true);
        if let Some(least) = fields.min_confidence {
            request.choices.take("score_threshold", least);
        }
        Ok((model.clone(), request))
    }

    fn made(&self, outcome: Outcome, share: &mut Share) -> Result<String, RequestError> {
        let Outputs { result, .. } = outcome?;
        let Some(MadeResult { rows, .. }) = result else {
            return Err(RequestError::new(Code::InferenceFailed, "the model made no result"));
        };
        let row = rows
            .first()
            .ok_or_else(|| RequestError::new(Code::InferenceFailed, "the result has no row for the image"))?;
        let made = deepstack::reply(row, self.begun.elapsed())?;
        share.resize(made.len())?;
        Ok(made)
    }
}

fn no_image(what: &str) -> RequestError {
    RequestError::invalid(format!(
        "{what}: expected a form (multipart/form-data) with a JPEG or PNG file in the field `image`, as `curl -F \
         image=@street.jpg` sends it"
    ))
}

/// An error response in DeepStack's form.
pub fn refusal(mut response: Response<Vec<u8>>) -> Response<Vec<u8>> {
    let body = deepstack::error(response.body());
    *response.body_mut() = body;
    response
}

impl Exchange for VisionExchange {
    type Pending = Pending;

    fn receive(
        &mut self,
        body: &[u8],
        mut share: Share,
        slot: &ReplySlot,
    ) -> Progress<Pending, Response<Vec<u8>>> {
        self.begun = Instant::now();
        match self.read(body, &mut share) {
            Ok((model, request)) => {
                let (cancelled, reply) = (slot.cancelled(), slot.reply(share));
                Progress::Pending(model.submit(request, Sequences::Shared, cancelled, reply, None))
            }
            Err(response) => Progress::Answered(refusal(*response)),
        }
    }

    fn answer(&mut self, _: Pending, outcome: Outcome, share: &mut Share) -> Response<Vec<u8>> {
        match self.made(outcome, share) {
            Ok(body) => json(StatusCode::OK, body),
            Err(failure) => refusal(request_error(&failure)),
        }
    }

    fn refusal(&self, response: Response<Vec<u8>>) -> Response<Vec<u8>> {
        refusal(response)
    }
}
