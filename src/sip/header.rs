//! Typed header values, borrowed from the message (RFC 3261 §20).

use super::parse::ParseError;
use super::scan::{TOKEN, cut, cut_blank, find_outside_quotes, split_outside_quotes};
use super::uri::{Params, Uri, host_port};
use std::borrow::Cow;

fn err(what: &'static str) -> ParseError {
    ParseError::new(what, 0)
}

/// `"display" <uri>;params` or `uri;params` (RFC 3261 §20.10: without brackets, parameters are the
/// header's).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The display name as written, with its quotes.
    pub display: &'a str,
    /// Between the angle brackets.
    pub uri: Uri<'a>,
    /// Of the header, not of the URI.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value. A display name without quotes may hold what it likes, and what stands
    /// between the bracket and the parameters is looked past.
    ///
    /// # Errors
    /// Unbalanced quotes or brackets, a malformed URI.
    pub(crate) fn parse(text: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let (display, uri, params) = NameAddr::split(text)?;
        Ok(NameAddr { display, uri: Uri::parse(uri)?, params })
    }

    /// Reads a value whose quotes may not be balanced, as devices write that pass a name on as
    /// somebody typed it: the last address in brackets counts (RFC 4475 §3.1.2.6).
    ///
    /// # Errors
    /// Unbalanced brackets, a malformed URI.
    pub(crate) fn parse_lenient(text: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let (display, uri, params) = NameAddr::split_lenient(text)?;
        Ok(NameAddr { display, uri: Uri::parse(uri)?, params })
    }

    /// Reads a value as leniently, where a URI without brackets may have headers: in a header with
    /// no parameters of its own nothing else can be meant.
    ///
    /// # Errors
    /// Unbalanced brackets, a malformed URI.
    pub(crate) fn parse_bare(text: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let text = text.trim_ascii();
        if memchr::memchr3(b'<', b'>', b'"', text.as_bytes()).is_some() {
            return NameAddr::parse_lenient(text);
        }
        Ok(NameAddr { display: "", uri: Uri::parse(text)?, params: Params::default() })
    }

    /// Reads a From or To, as leniently: their tag counts, and their URI only if somebody asks for
    /// it.
    ///
    /// # Errors
    /// Unbalanced brackets, no address.
    pub(super) fn parse_tagged(text: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let (display, uri, params) = NameAddr::split_lenient(text)?;
        if uri.is_empty() {
            return Err(err("no address"));
        }
        let uri = Uri::parse(uri).unwrap_or_else(|_| Uri::opaque(uri));
        Ok(NameAddr { display, uri, params })
    }

    /// Display name, URI and parameters.
    fn split(text: &'a str) -> Result<(&'a str, &'a str, Params<'a>), ParseError> {
        let text = text.trim_ascii();
        let open =
            find_outside_quotes(text, b'<').map_err(|()| err("quoted string does not end"))?;
        let (display, uri, params) = NameAddr::cut_at(text, open)?;
        Ok((display, uri, Params::parse(params)?))
    }

    /// As [`split`](Self::split), but quoted strings need not end.
    fn split_lenient(text: &'a str) -> Result<(&'a str, &'a str, Params<'a>), ParseError> {
        let text = text.trim_ascii();
        let open = match find_outside_quotes(text, b'<') {
            Ok(open) => open,
            Err(()) => Some(text.rfind('<').ok_or(err("quoted string does not end"))?),
        };
        let (display, uri, params) = NameAddr::cut_at(text, open)?;
        Ok((display, uri, Params::readable(params)))
    }

    /// The parts of a value whose bracket stands at `open`, or that has none.
    fn cut_at(
        text: &'a str,
        open: Option<usize>,
    ) -> Result<(&'a str, &'a str, &'a str), ParseError> {
        let Some(open) = open else {
            let (uri, params) = cut(text, b';').unwrap_or((text, ""));
            if memchr::memchr2(b'?', b',', uri.as_bytes()).is_some() {
                return Err(err("a URI with ? or , needs angle brackets"));
            }
            return Ok(("", uri.trim_end(), params));
        };
        let close = memchr::memchr(b'>', &text.as_bytes()[open..])
            .map(|n| n + open)
            .ok_or(err("angle bracket is not closed"))?;
        let params = cut(&text[close + 1..], b';').map_or("", |(_, params)| params);
        Ok((text[..open].trim_ascii(), text[open + 1..close].trim_ascii(), params))
    }

    /// The tag parameter.
    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").filter(|t| !t.is_empty())
    }

    /// The display name without quotes and escapes.
    pub fn display_name(&self) -> Cow<'a, str> {
        let mut inner = super::uri::unquote(self.display);
        if inner.len() == self.display.len() {
            // A lone quote is not part of the name.
            inner = inner.trim_matches('"').trim_ascii();
        }
        if !inner.contains('\\') {
            return Cow::Borrowed(inner);
        }
        let mut out = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
        }
        Cow::Owned(out)
    }
}

/// Splits a header value at commas outside quotes and brackets; empty pieces are dropped.
pub(crate) fn comma_list(text: &str) -> impl Iterator<Item = &str> {
    split_outside_quotes(text, b',').map(str::trim_ascii).filter(|p| !p.is_empty())
}

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `WS`, …
    pub transport: &'a str,
    /// Without a port; a literal IPv6 address in brackets.
    pub host: &'a str,
    /// 1 to 65535; 5060 or 5061 if `None`.
    pub port: Option<u16>,
    /// With `branch`, `received` and `rport`.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Reads one value; white space round the slashes and before the host is allowed (§25.1 SLASH,
    /// LWS).
    ///
    /// # Errors
    /// Not SIP/2.0, no transport, malformed host.
    pub(crate) fn parse(text: &'a str) -> Result<Via<'a>, ParseError> {
        let (name, rest) = cut(text, b'/').ok_or(err("Via has no protocol"))?;
        let (version, rest) = cut(rest, b'/').ok_or(err("Via has no transport"))?;
        if !name.trim_ascii().eq_ignore_ascii_case("SIP") || version.trim_ascii() != "2.0" {
            return Err(err("Via is not SIP/2.0"));
        }
        let (transport, rest) =
            cut_blank(rest.trim_ascii_start()).ok_or(err("Via has no sent-by"))?;
        if transport.is_empty() || !TOKEN.holds(transport.as_bytes()) {
            return Err(err("Via transport is not a token"));
        }
        let (sent_by, params) = cut(rest, b';').unwrap_or((rest, ""));
        let sent_by = sent_by.trim_ascii();
        // RFC 3261 §25.1 lets white space surround the colon of sent-by (4475 §3.1.1.1).
        let (host, port) = match cut(sent_by, b':') {
            Some((h, p))
                if !sent_by.starts_with('[')
                    && h.ends_with([' ', '\t']) | p.starts_with([' ', '\t']) =>
            {
                let (host, _) = host_port(h.trim())?;
                (host, Some(p.trim().parse::<u16>().map_err(|_| err("Via port is malformed"))?))
            }
            _ => match (host_port(sent_by), sent_by.rsplit_once(':')) {
                (Ok(found), _) => found,
                // An invalid port: responses go where the request came from.
                (Err(_), Some((host, port))) if port.bytes().all(|b| b.is_ascii_digit()) => {
                    (host_port(host)?.0, None)
                }
                (Err(e), _) => return Err(e),
            },
        };
        Ok(Via { transport, host, port, params: Params::readable(params) })
    }

    /// The branch parameter.
    pub fn branch(&self) -> Option<&'a str> {
        self.params.get("branch").filter(|b| !b.is_empty())
    }
}

/// CSeq: a number below 2^31 and a method token (RFC 3261 §8.1.1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeq<'a> {
    /// Up to 2^31 - 1.
    pub number: u32,
    /// As written.
    pub method: &'a str,
}

impl<'a> CSeq<'a> {
    /// Reads the header value.
    ///
    /// # Errors
    /// No number, 2^31 or more, or no method.
    pub(crate) fn parse(text: &'a str) -> Result<CSeq<'a>, ParseError> {
        let (number, method) = cut_blank(text).ok_or(err("CSeq has no method"))?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse::<u32>().ok().filter(|&n| digits && n < 1 << 31);
        let method = method.trim_ascii();
        if method.is_empty() || !TOKEN.holds(method.as_bytes()) {
            return Err(err("CSeq method is not a token"));
        }
        Ok(CSeq { number: number.ok_or(err("CSeq number is not below 2^31"))?, method })
    }
}

/// Most parameters of a challenge or of credentials that are read.
const MAX_DIGEST: usize = 20;

/// `Digest name=value, …`, read in place, once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DigestParams<'a> {
    pairs: [(&'a str, &'a str); MAX_DIGEST],
    count: usize,
}

impl<'a> DigestParams<'a> {
    /// The parameters of a challenge or credentials, if the scheme is Digest.
    pub(crate) fn parse(text: &'a str) -> Option<DigestParams<'a>> {
        let (scheme, rest) = cut_blank(text)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let mut params = DigestParams { pairs: [("", ""); MAX_DIGEST], count: 0 };
        for (name, value) in comma_list(rest).filter_map(|piece| cut(piece, b'=')).take(MAX_DIGEST)
        {
            params.pairs[params.count] =
                (name.trim_ascii(), super::uri::unquote(value.trim_ascii()));
            params.count += 1;
        }
        Some(params)
    }

    /// The value of `name` without quotes.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs[..self.count]
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// Digits of a seconds value such as Expires; anything above 2^32-1 saturates (RFC 3261 §20.19).
pub(crate) fn delta_seconds(text: &str) -> Option<u32> {
    let digits = text.split([';', ' ', '(']).next()?.trim();
    let sound = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    sound.then(|| digits.parse().unwrap_or(u32::MAX))
}
