//! Which host a request names, and which page makes it: names that are not served, and origins.

use super::edge::Client;
use super::{WebPort, text};
use crate::api::access::PageOrigin;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header;
use hyper::{Request, Response, StatusCode, Version};
use std::net::SocketAddr;
use std::sync::PoisonError;

pub(super) fn host_of<T>(request: &Request<T>) -> Option<String> {
    request.headers().get(header::HOST)?.to_str().ok().map(str::to_ascii_lowercase)
}

/// The refusal of a request to a name that is not served. A page elsewhere whose name was led to
/// this address would otherwise be a page of ours (DNS rebinding); only names with a dot can be.
pub(super) fn misdirected<T>(request: &Request<T>, web: &WebPort) -> Option<Response<Full<Bytes>>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, more) = (hosts.next(), hosts.next());
    // Probes of load balancers speak HTTP/1.0, which asks for none.
    if first.is_none() && request.version() == Version::HTTP_10 {
        return None;
    }
    let Some(host) = first.and_then(|h| h.to_str().ok()).filter(|_| more.is_none()) else {
        return Some(text(StatusCode::BAD_REQUEST, "one Host, and a readable one\n"));
    };
    let host = host.to_ascii_lowercase();
    let literal = host.parse::<SocketAddr>().is_ok()
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let domain = web.domain.to_ascii_lowercase();
    let below = name.strip_suffix(domain.as_str());
    let served = below.is_some_and(|below| below.is_empty() || below.ends_with('.'));
    let local = !name.contains('.') || name.ends_with(".localhost");
    let listed = || {
        let origins = web.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let exact = |o: &String| {
            let at = o.split_once("://").map_or("", |(_, at)| at);
            at.rsplit_once(':').map_or(at, |(name, _)| name).eq_ignore_ascii_case(name)
        };
        origins.iter().any(exact)
    };
    let public = || web.edge().public.as_ref().is_some_and(|p| p.host == name);
    (!literal && !served && !local && !listed() && !public()).then(|| {
        let why = format!(
            "{name} is not served here: the names of [server] domain and below it are, and those \
             of web.origins and web.public_url\n"
        );
        text(StatusCode::MISDIRECTED_REQUEST, why)
    })
}

/// The page that makes a request: exact scheme, host and port are compared. Where something in
/// front of a port without TLS adds it and does not announce it, the browser says https.
pub(super) fn page_of<T>(request: &Request<T>, web: &WebPort, client: Client) -> PageOrigin {
    let mut all = request.headers().get_all(header::ORIGIN).iter();
    let Some(origin) = all.next() else { return PageOrigin::Unnamed };
    let Some(origin) = origin.to_str().ok().filter(|_| all.next().is_none()) else {
        return PageOrigin::Other;
    };
    let schemes: &[&str] = match client.secure {
        Some(true) => &["https"],
        Some(false) => &["http"],
        None if web.tls.is_some() => &["https"],
        None => &["http", "https"],
    };
    let host = host_of(request).unwrap_or_default();
    let is_own = |scheme: &&str| origin.eq_ignore_ascii_case(&format!("{scheme}://{host}"));
    let is_public =
        web.edge().public.as_ref().is_some_and(|p| p.origin.eq_ignore_ascii_case(origin));
    if is_public || schemes.iter().any(is_own) { PageOrigin::Own } else { PageOrigin::Other }
}

/// The page's own origin, or one on the list. A client without Origin is no browser.
pub(super) fn origin_allowed(
    request: &Request<hyper::body::Incoming>,
    web: &WebPort,
    client: Client,
) -> bool {
    let mut all = request.headers().get_all(header::ORIGIN).iter();
    let origin = all.next().filter(|_| all.next().is_none()).and_then(|o| o.to_str().ok());
    let listed = |origin: &str| {
        let origins = web.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.iter().any(|o| o.eq_ignore_ascii_case(origin))
    };
    page_of(request, web, client) != PageOrigin::Other || origin.is_some_and(listed)
}
