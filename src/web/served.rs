//! The page's files as browsers want them: compressed, and not once more if they have them already.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use hyper::{Response, StatusCode};
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What is known of a file of this binary, by its address: there are so many of them and no more.
static PREPARED: LazyLock<Mutex<HashMap<usize, Arc<Prepared>>>> = LazyLock::new(Mutex::default);

struct Prepared {
    /// Of the content.
    tag: HeaderValue,
    /// If that is shorter.
    gzip: Option<Bytes>,
}

impl Prepared {
    fn of(body: &'static [u8]) -> Arc<Prepared> {
        let mut all = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(body.as_ptr() as usize).or_insert_with(|| Arc::new(Prepared::new(body))).clone()
    }

    fn new(body: &'static [u8]) -> Prepared {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
        let tag: String = digest.as_ref()[..12].iter().map(|b| format!("{b:02x}")).collect();
        // Weak: the same content, compressed or not.
        let tag = HeaderValue::from_str(&format!("W/\"{tag}\""));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = encoder.write_all(body).and_then(|()| encoder.finish()).ok();
        Prepared {
            tag: tag.unwrap_or(HeaderValue::from_static("W/\"\"")),
            gzip: gzip.filter(|gzip| gzip.len() < body.len() * 9 / 10).map(Bytes::from),
        }
    }
}

/// Puts a file of the page into `response`, as the client asks for it.
pub(super) fn fill(response: &mut Response<Full<Bytes>>, asked: &HeaderMap, body: &'static [u8]) {
    let prepared = Prepared::of(body);
    let headers = response.headers_mut();
    headers.insert(ETAG, prepared.tag.clone());
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if names(asked, IF_NONE_MATCH, |tag| prepared.tag.as_bytes() == tag.as_bytes()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return;
    }
    let wanted = |word: &str| {
        let (name, quality) = word.split_once(';').unwrap_or((word, ""));
        let never = quality.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !never
    };
    match &prepared.gzip {
        Some(gzip) if names(asked, ACCEPT_ENCODING, wanted) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            *response.body_mut() = Full::new(gzip.clone());
        }
        _ => *response.body_mut() = Full::new(Bytes::from_static(body)),
    }
}

/// Whether one of the words of a header is a `wanted` one.
fn names(
    asked: &HeaderMap,
    header: hyper::header::HeaderName,
    wanted: impl Fn(&str) -> bool,
) -> bool {
    let values = asked.get_all(header);
    let mut words = values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    words.any(|word| wanted(word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;

    const BODY: &[u8] = &[b'a'; 4_000];

    fn ask(asked: &[(hyper::header::HeaderName, &'static str)]) -> Response<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut response = Response::new(Full::default());
        fill(&mut response, &headers, BODY);
        response
    }

    async fn body(response: Response<Full<Bytes>>) -> Bytes {
        response.into_body().collect().await.expect("whole").to_bytes()
    }

    #[tokio::test]
    async fn who_asks_for_gzip_gets_it_and_others_do_not() {
        for asked in ["gzip", "br, GZIP;q=0.5", "deflate,gzip"] {
            let response = ask(&[(ACCEPT_ENCODING, asked)]);
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip", "{asked}");
            let (packed, mut plain) = (body(response).await, Vec::new());
            assert!(packed.len() < BODY.len() / 10);
            GzDecoder::new(&packed[..]).read_to_end(&mut plain).expect("gzip");
            assert_eq!(plain, BODY);
        }
        for asked in ["br", "gzip;q=0", "identity", "gzipped"] {
            let response = ask(&[(ACCEPT_ENCODING, asked)]);
            assert!(!response.headers().contains_key(CONTENT_ENCODING), "{asked}");
            assert_eq!(body(response).await, BODY);
        }
    }

    #[tokio::test]
    async fn who_has_it_is_not_sent_it_again() {
        let first = ask(&[]);
        assert_eq!(first.headers()[VARY], "accept-encoding");
        let tag: &'static str = first.headers()[ETAG].to_str().expect("text").to_owned().leak();
        let again = ask(&[(IF_NONE_MATCH, "W/\"other\""), (IF_NONE_MATCH, tag)]);
        assert_eq!(again.status(), 304);
        assert!(body(again).await.is_empty());
        assert_eq!(ask(&[(IF_NONE_MATCH, "W/\"other\"")]).status(), 200);
    }

    /// All that is loaded before anybody can telephone, but JsSIP.
    #[tokio::test]
    async fn the_page_is_at_most_150_kilobytes_before_jssip() {
        let mut sum = 0;
        for path in ["/", "/page.css", "/page.js", "/charts.js"] {
            let (_, bytes) = super::super::asset(path).expect("it is served");
            let asked = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
            let mut response = Response::new(Full::default());
            fill(&mut response, &asked, bytes);
            sum += body(response).await.len();
        }
        assert!(sum <= 150_000, "{sum} bytes");
    }
}
