//! Bodies of requests: whole before a handler sees them, within a bound and a deadline, and read of
//! nobody who may not ask.

use super::Problem;
use super::access::Standing;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use std::time::Duration;
use tokio::time::timeout;

/// A body must be whole this long after its head.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Longest body of a request, bytes.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// Longest body of a request by whoever has yet to log in, bytes.
const MAX_LOGIN_BODY: usize = 16 * 1024;

/// Hands a request on once its body is whole.
pub(super) async fn whole(request: Request, next: Next) -> Response {
    match read(request).await {
        Ok((head, body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(problem) => problem.into_response(),
    }
}

/// A request and its whole body.
///
/// # Errors
/// The body is too long, or late.
pub(super) async fn read(request: Request) -> Result<(Parts, Bytes), Problem> {
    let most = match request.extensions().get() {
        Some(Standing::Stranger) => MAX_LOGIN_BODY,
        _ => MAX_BODY,
    };
    let (head, body) = request.into_parts();
    match timeout(BODY_DEADLINE, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok((head, body.to_bytes())),
        Ok(Err(_)) => {
            let why = format!("the body is longer than {most} bytes, or did not come whole");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Err(_) => {
            let why = format!("the body did not come within {} s", BODY_DEADLINE.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}

/// What is wrong with a body or a query, without the reader's own names for what it expected.
pub(super) fn fault(said: &str) -> String {
    let own = [
        "Failed to parse the request body as JSON: ",
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to deserialize query string: ",
    ];
    let said = own.iter().find_map(|own| said.strip_prefix(own)).unwrap_or(said);
    match said.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => said.to_owned(),
    }
}

/// A refusal that is plain text, of a path that cannot be read, becomes a problem like all others.
pub(super) async fn as_problem(response: Response) -> Response {
    let plain = response.headers().get(header::CONTENT_TYPE);
    let plain = plain.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let status = response.status();
    if !status.is_client_error() || !plain {
        return response;
    }
    let said = to_bytes(response.into_body(), MAX_LOGIN_BODY).await.unwrap_or_default();
    Problem::new(status, String::from_utf8_lossy(&said)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use futures_util::stream;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use std::convert::Infallible;

    /// The answer to a body, of somebody with this standing.
    async fn answer(standing: Standing, body: Body) -> StatusCode {
        let api =
            Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() }));
        let api = api.layer(from_fn(whole));
        let mut request = Request::post("/").body(body).expect("a request");
        request.extensions_mut().insert(standing);
        TowerToHyperService::new(api).call(request).await.expect("an answer").status()
    }

    #[tokio::test]
    async fn a_body_is_two_mebibytes_at_most() {
        let of = |length: usize| answer(Standing::Control, Body::from(vec![b' '; length]));
        assert_eq!(of(MAX_BODY).await, StatusCode::OK);
        assert_eq!(of(MAX_BODY + 1).await, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn whoever_has_yet_to_log_in_sends_little() {
        let of = |length: usize| answer(Standing::Stranger, Body::from(vec![b' '; length]));
        assert_eq!(of(MAX_LOGIN_BODY).await, StatusCode::OK);
        assert_eq!(of(MAX_LOGIN_BODY + 1).await, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_has_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let endless = stream::repeat(Ok::<_, Infallible>(Bytes::new()));
        let slow = stream::StreamExt::then(endless, |part| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            part
        });
        let answered = answer(Standing::Control, Body::from_stream(slow)).await;
        assert_eq!(answered, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(begun.elapsed(), BODY_DEADLINE);
    }
}
