//! Lists of the whole cluster, `?node=all`, and what is another node's, `?node=NAME`, by asking the
//! nodes.
//!
//! A node is asked over the connection that nodes prove themselves on, for one of three lists, for
//! what belongs to a call, a trunk or a user there and what may be done with it, or to take no new
//! calls, and for nothing else.
//! It has a few seconds; one that does not answer is named, and the others' lists are shown without
//! it. The store is not asked.

use super::access::ByControlSocket;
use super::{ApiState, Problem, body};
use crate::transport::nodes::NodeTls;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The lists a node may be asked for by another, which may be of all nodes.
const LISTS: [&str; 3] = ["/calls", "/registrations", "/trunks"];
/// How long a node has for its list.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it has for anything else: a trunk that is probed has 4 s.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(6);
/// The longest list that is read of a node, bytes.
const LONGEST: usize = 8 * 1_024 * 1_024;
/// How long another node may take to ask.
const SERVED: Duration = Duration::from_secs(10);
/// Names the nodes that did not answer.
const UNANSWERED: HeaderName = HeaderName::from_static("x-webtrunk-unanswered");

/// What another node may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AskedFor {
    List,
    /// Something that is of one node.
    OfOne,
}

pub(super) fn asked_for(method: &str, path: &str) -> Option<AskedFor> {
    let method = method.to_ascii_uppercase();
    if LISTS.contains(&path) {
        return (method == "GET").then_some(AskedFor::List);
    }
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let methods: &[&str] = match parts.as_slice() {
        ["calls", _] => &["GET", "DELETE"],
        ["calls", _, "dtmf" | "transfer"] => &["POST"],
        ["calls", _, "hold"] => &["POST", "DELETE"],
        ["calls", _, "ladder" | "quality" | "pcap"] | ["trunks", _] | ["status"] => &["GET"],
        ["trunks", _, "probe" | "enable" | "disable"] => &["POST"],
        ["registrations", _] => &["DELETE"],
        ["drain"] => &["POST", "DELETE"],
        _ => &[],
    };
    methods.contains(&method.as_str()).then_some(AskedFor::OfOne)
}

/// What `node` in a query asks for, and the query without it.
fn wanted(uri: &Uri) -> Option<(String, Uri)> {
    let query = uri.query()?;
    let (named, rest): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|part| part.starts_with("node="));
    let node = named.first()?.strip_prefix("node=")?.to_owned();
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Some((node, format!("{}{rest}", uri.path()).parse().ok()?))
}

/// A node of the cluster, and whether it is this one.
struct AskedNode {
    name: String,
    at: SocketAddr,
    own: bool,
}

/// A request as another node is asked.
#[derive(Clone)]
struct NodeQuestion {
    method: Method,
    uri: Uri,
    accept: Option<HeaderValue>,
    /// The type of the body, and the body.
    content: Option<HeaderValue>,
    body: Bytes,
    patience: Duration,
}

/// Answers a request for what is other nodes', or of all; lets everything else through.
pub(super) async fn answer(
    State(api): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let asked = asked_for(request.method().as_str(), request.uri().path());
    let (Some(asked), Some((node, uri))) = (asked, wanted(request.uri())) else {
        return next.run(request).await;
    };
    if node == "all" && asked == AskedFor::OfOne {
        let why = "this is of one node, and lists alone are of all";
        return Problem::new(StatusCode::BAD_REQUEST, why).fix("name the node").into_response();
    }
    let mut question = NodeQuestion {
        method: request.method().clone(),
        uri: uri.clone(),
        accept: request.headers().get(header::ACCEPT).cloned(),
        content: request.headers().get(header::CONTENT_TYPE).cloned(),
        body: Bytes::new(),
        patience: if asked == AskedFor::List { PATIENCE } else { PATIENCE_FOR_ONE },
    };
    *request.uri_mut() = uri.clone();
    let asked = api.ask(|gateway, _| {
        let cluster = gateway.cluster()?;
        let asked = |m: &crate::cluster::member::Member| AskedNode {
            name: m.node.clone(),
            at: m.advertise,
            own: m.node == cluster.node(),
        };
        Some(cluster.members().map(asked).collect::<Vec<_>>())
    });
    let nodes = match asked.await {
        Ok(Some(nodes)) => nodes,
        Ok(None) => {
            let why = "this gateway is no node of a cluster";
            return Problem::new(StatusCode::BAD_REQUEST, why)
                .fix("leave node out, or set [cluster]")
                .into_response();
        }
        Err(problem) => return problem.into_response(),
    };
    let Some(tls) = api.nodes.clone() else { return next.run(request).await };
    if node == "all" {
        return of_all(nodes, &tls, &question, next.run(request)).await;
    }
    match nodes.into_iter().find(|n| n.name == node) {
        None => Problem::missing("node", &node).fix("`webtrunk nodes` lists them").into_response(),
        Some(found) if found.own => next.run(request).await,
        Some(found) => {
            match body::read(request).await {
                Ok((_, body)) => question.body = body,
                Err(problem) => return problem.into_response(),
            }
            ask(&tls, found.at, &question).await.unwrap_or_else(|why| {
                let why = format!("node {node} does not answer: {why}");
                Problem::new(StatusCode::GATEWAY_TIMEOUT, why).into_response()
            })
        }
    }
}

/// What all nodes list; each entry says of which it is.
async fn of_all(
    nodes: Vec<AskedNode>,
    tls: &NodeTls,
    question: &NodeQuestion,
    own: impl Future<Output = Response>,
) -> Response {
    let mut asked = JoinSet::new();
    let mut own_name = String::new();
    for AskedNode { name, at, own } in nodes {
        if own {
            own_name = name;
            continue;
        }
        let (tls, question) = (tls.clone(), question.clone());
        asked.spawn(async move {
            let answered = match ask(&tls, at, &question).await {
                Ok(response) => list_of(response).await,
                Err(why) => Err(why),
            };
            (name, answered.ok())
        });
    }
    let own = own.await;
    // What is wrong with the question is wrong at every node.
    if !own.status().is_success() {
        return own;
    }
    let mut answers = asked.join_all().await;
    answers.push((own_name, list_of(own).await.ok()));
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut all, mut unanswered) = (Vec::new(), Vec::new());
    for (name, answer) in answers {
        let Some(list) = answer else {
            unanswered.push(name);
            continue;
        };
        all.extend(list.into_iter().map(|mut entry| {
            if let Value::Object(fields) = &mut entry {
                fields.insert("node".to_owned(), json!(name));
            }
            entry
        }));
    }
    let mut response = axum::Json(Value::Array(all)).into_response();
    if let Ok(names) = HeaderValue::from_str(&unanswered.join(", "))
        && !unanswered.is_empty()
    {
        response.headers_mut().insert(UNANSWERED, names);
    }
    response
}

async fn list_of(response: Response) -> Result<Vec<Value>, String> {
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    let bytes = to_bytes(response.into_body(), LONGEST).await.map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| e.to_string())
}

/// Asks the node at `at`.
async fn ask(tls: &NodeTls, at: SocketAddr, question: &NodeQuestion) -> Result<Response, String> {
    let asked = async {
        let stream = tls.asking(at).await.map_err(|e| e.to_string())?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let mut request = hyper::Request::builder()
            .method(&question.method)
            .uri(format!("/api/v1{}", question.uri))
            .header(header::HOST, "node");
        if let Some(accept) = &question.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(content) = &question.content {
            request = request.header(header::CONTENT_TYPE, content);
        }
        let body = Full::new(question.body.clone());
        let request = request.body(body).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(|e| e.to_string())?;
        driver.abort();
        Ok(Response::from_parts(parts, Body::from(body.to_bytes())))
    };
    let late = || Err(format!("nothing within {} s", question.patience.as_secs()));
    timeout(question.patience, asked).await.unwrap_or_else(|_| late())
}

/// Lets nodes ask for what they may, and for nothing else.
async fn of_nodes_only(request: Request, next: Next) -> Response {
    let path = request.uri().path().strip_prefix("/api/v1").unwrap_or_default();
    let asks_on =
        request.uri().query().is_some_and(|q| q.split('&').any(|p| p.starts_with("node=")));
    if asked_for(request.method().as_str(), path).is_none() || asks_on {
        let why = "no node asks another for this";
        return Problem::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// Serves one connection of another node.
pub(crate) async fn serve(stream: tokio_rustls::server::TlsStream<TcpStream>, api: ApiState) {
    let router: Router =
        super::router(api).layer(axum::Extension(ByControlSocket)).layer(from_fn(of_nodes_only));
    let api = TowerToHyperService::new(router);
    let service =
        service_fn(move |request: Request<hyper::body::Incoming>| api.call(request.map(Body::new)));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SERVED).keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), service);
    let _ = timeout(SERVED, served).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_that_is_too_long_is_none() {
        let list = |bytes: usize| {
            let text = format!("[\"{}\"]", "x".repeat(bytes - 4));
            list_of(Response::new(Body::from(text)))
        };
        assert_eq!(list(LONGEST).await.map(|list| list.len()), Ok(1));
        assert!(list(LONGEST + 1).await.is_err());
    }

    #[test]
    fn nodes_ask_for_what_they_may_and_for_nothing_else() {
        use AskedFor::{List, OfOne};
        for (method, path, asked) in [
            (Method::GET, "/calls", Some(List)),
            (Method::POST, "/calls", None),
            (Method::GET, "/calls/7", Some(OfOne)),
            (Method::GET, "/calls/7/ladder", Some(OfOne)),
            (Method::GET, "/calls/7/dtmf", None),
            (Method::DELETE, "/calls/7", Some(OfOne)),
            (Method::POST, "/calls/7/transfer", Some(OfOne)),
            (Method::DELETE, "/calls/7/hold", Some(OfOne)),
            (Method::GET, "/calls/7/hold", None),
            (Method::DELETE, "/registrations/bob", Some(OfOne)),
            (Method::POST, "/drain", Some(OfOne)),
            (Method::POST, "/reload", None),
            (Method::GET, "/config", None),
            (Method::POST, "/credentials", None),
            (Method::POST, "/trunks/far/disable", Some(OfOne)),
            (Method::DELETE, "/trunks/far", None),
            (Method::GET, "/nodes", None),
        ] {
            assert_eq!(asked_for(method.as_str(), path), asked, "{method} {path}");
        }
    }

    #[test]
    fn a_query_is_taken_apart() {
        for (uri, node, rest) in [
            ("/calls?node=b", "b", "/calls"),
            ("/calls?limit=5&node=all&state=live", "all", "/calls?limit=5&state=live"),
        ] {
            let (found, without) = wanted(&uri.parse().expect("a URI")).expect("a node");
            assert_eq!((found.as_str(), without.to_string().as_str()), (node, rest), "{uri}");
        }
        assert!(wanted(&"/calls?nodes=b".parse().expect("a URI")).is_none());
        assert!(wanted(&"/calls".parse().expect("a URI")).is_none());
    }
}
