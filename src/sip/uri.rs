//! SIP URIs, borrowed from the message (RFC 3261 §19.1, RFC 5118 for IPv6, RFC 3966 for tel).

use super::parse::ParseError;
use super::scan::{HOST, NOT_URI, cut, split_outside_quotes};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Longest URI we read, bytes.
pub(crate) const MAX_URI: usize = 1_024;

/// The scheme of a URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    /// Anything else: kept, never routed to.
    Other,
}

/// What carries a request to a server (RFC 3261 §18, RFC 3263 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum UriTransport {
    Udp,
    Tcp,
    Tls,
}

impl UriTransport {
    /// The transport a URI's parameter names.
    pub(crate) fn from_param(text: &str) -> Option<UriTransport> {
        [UriTransport::Udp, UriTransport::Tcp, UriTransport::Tls]
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
    }

    /// Its name in a URI.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            UriTransport::Udp => "udp",
            UriTransport::Tcp => "tcp",
            UriTransport::Tls => "tls",
        }
    }

    /// The port if a URI names none (RFC 3261 §19.1.2).
    pub(crate) fn default_port(self) -> u16 {
        if self == UriTransport::Tls { 5061 } else { 5060 }
    }
}

/// A parsed URI; every part is a slice of the text it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uri<'a> {
    /// All of it.
    pub text: &'a str,
    /// `sip`, `sips`, `tel` or another.
    pub scheme: Scheme,
    /// Still escaped; see [`unescape`].
    pub user: Option<&'a str>,
    /// Host without brackets; for tel the number.
    pub host: &'a str,
    /// `None` if it has none.
    pub port: Option<u16>,
    /// After the host.
    pub params: Params<'a>,
    /// Text after `?`.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Reads one URI that fills `text`, as peers write it: a user or a port that is empty, and
    /// a port 0, are none.
    ///
    /// # Errors
    /// Not a URI by RFC 3261 §25.1, or longer than 1024 bytes.
    pub fn parse(text: &'a str) -> Result<Uri<'a>, ParseError> {
        Uri::read(text, false)
    }

    /// As [`parse`](Self::parse), but all of it must be sound: what an operator writes.
    ///
    /// # Errors
    /// See [`parse`](Self::parse).
    pub(crate) fn parse_strict(text: &'a str) -> Result<Uri<'a>, ParseError> {
        Uri::read(text, true)
    }

    fn read(text: &'a str, strict: bool) -> Result<Uri<'a>, ParseError> {
        let err = |what| ParseError::new(what, 0);
        if text.len() > MAX_URI {
            return Err(ParseError::status("URI longer than 1024 bytes", MAX_URI, 414));
        }
        if let Some(at) = NOT_URI.find(text.as_bytes()) {
            return Err(ParseError::new("URI holds a character it may not", at));
        }
        let (scheme_text, rest) = cut(text, b':').ok_or(err("URI has no scheme"))?;
        let sound = scheme_text.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme_text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !sound {
            return Err(err("URI scheme is malformed"));
        }
        let scheme = match () {
            () if scheme_text.eq_ignore_ascii_case("sip") => Scheme::Sip,
            () if scheme_text.eq_ignore_ascii_case("sips") => Scheme::Sips,
            () if scheme_text.eq_ignore_ascii_case("tel") => Scheme::Tel,
            () => Scheme::Other,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => Uri::sip(text, scheme, rest, strict),
            Scheme::Tel => {
                let (number, params) = cut(rest, b';').unwrap_or((rest, ""));
                if number.is_empty() || number.contains('@') {
                    return Err(err("tel URI has no number"));
                }
                let params = Params::parse(params)?;
                Ok(Uri {
                    text,
                    scheme,
                    user: Some(number),
                    host: "",
                    port: None,
                    params,
                    headers: None,
                })
            }
            Scheme::Other => Ok(Uri {
                text,
                scheme,
                user: None,
                host: rest,
                port: None,
                params: Params(""),
                headers: None,
            }),
        }
    }

    /// An invalid URI: what can be read of it, for headers whose
    /// URI decides nothing. It is never routed to.
    pub(super) fn opaque(text: &'a str) -> Uri<'a> {
        let (_, rest) = cut(text, b':').unwrap_or(("", text));
        let (user, host) = cut(rest, b'@').map_or((None, rest), |(user, host)| (Some(user), host));
        let params = Params::default();
        Uri { text, scheme: Scheme::Other, user, host, port: None, params, headers: None }
    }

    fn sip(
        text: &'a str,
        scheme: Scheme,
        rest: &'a str,
        strict: bool,
    ) -> Result<Uri<'a>, ParseError> {
        let err = |what| ParseError::new(what, 0);
        let (user, hostpart) = match user_end(rest, strict) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let user = user.map(|u| cut(u, b':').map_or(u, |(name, _)| name));
        if strict && user.is_some_and(str::is_empty) {
            return Err(err("URI user is empty"));
        }
        let user = user.filter(|u| !u.is_empty());
        // Many write a `%` that escapes nothing; it is one, then (see `unescape`).
        if strict && user.is_some_and(|u| !escapes_sound(u)) {
            return Err(err("URI user has a broken escape"));
        }
        let (hostpart, headers) = match cut(hostpart, b'?') {
            Some((host, headers)) => (host, Some(headers)),
            None => (hostpart, None),
        };
        let (hostport, params) = match cut(hostpart, b';') {
            Some((host, params)) => (host, params),
            None => (hostpart, ""),
        };
        let (host, port) = match (host_port(hostport), hostport.rsplit_once(':')) {
            (Err(_), Some((host, port))) if !strict && port.bytes().all(|b| b == b'0') => {
                (host_port(host)?.0, None)
            }
            (found, _) => found?,
        };
        Ok(Uri { text, scheme, user, host, port, params: Params::parse(params)?, headers })
    }

    /// The user part with escapes resolved; empty if there is none.
    pub(crate) fn user_unescaped(&self) -> Cow<'a, str> {
        unescape(self.user.unwrap_or_default())
    }

    /// The host as an address, if it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether both name the same resource for our purposes: scheme, user, host, port.
    ///
    /// Deviation from RFC 3261 §19.1.4: parameters are not compared, because registrar and dialog
    /// keys never depend on them.
    pub(crate) fn same_address(&self, other: &Uri<'_>) -> bool {
        self.scheme == other.scheme
            && self.user_unescaped() == other.user_unescaped()
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

/// Where the `@` stands that ends the user part. It may not stand raw after that except in headers,
/// so the first one does; but names that are e-mail addresses are written raw too, and of an `@`
/// before the host's end the last one is meant.
fn user_end(rest: &str, strict: bool) -> Option<usize> {
    let first = memchr::memchr(b'@', rest.as_bytes())?;
    let host = &rest[first + 1..];
    let end = memchr::memchr2(b';', b'?', host.as_bytes()).unwrap_or(host.len());
    let last = memchr::memrchr(b'@', &host.as_bytes()[..end]).filter(|_| !strict);
    Some(last.map_or(first, |at| first + 1 + at))
}

/// An address as a URI's host: IPv6 in brackets (RFC 3261 §25.1).
pub(crate) fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Splits `host[:port]`, with brackets round IPv6.
///
/// # Errors
/// Empty or malformed host, port not 1 to 65535.
pub(crate) fn host_port(text: &str) -> Result<(&str, Option<u16>), ParseError> {
    let err = |what| ParseError::new(what, 0);
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = cut(inner, b']').ok_or(err("IPv6 address has no closing bracket"))?;
        // A zone (RFC 4007 §11, RFC 6874) means something to its own host only.
        let host = cut(host, b'%').map_or(host, |(host, _)| host);
        host.parse::<Ipv6Addr>().map_err(|_| err("IPv6 address is malformed"))?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(err("text after an IPv6 address")),
        }
    } else {
        let (host, port) = cut(text, b':').map_or((text, None), |(h, p)| (h, Some(p)));
        let sound = !host.is_empty() && host.len() <= 253 && HOST.holds(host.as_bytes());
        if !sound {
            return Err(err("host is malformed"));
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(p) if p.bytes().all(|b| b.is_ascii_digit()) => {
            Some(p.parse::<u16>().ok().filter(|&n| n > 0).ok_or(err("port is not 1 to 65535"))?)
        }
        Some(_) => return Err(err("port is not a number")),
    };
    Ok((host, port))
}

fn escapes_sound(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes)
        .all(|n| bytes.get(n + 1..n + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

/// Resolves %-escapes; a `%` that begins none stays, and a text that is not UTF-8 afterwards is
/// returned as it was.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|h| h.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(b)) => {
                out.push(b);
                at += 3;
            }
            (b, _) => {
                out.push(b);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Escapes a text for the user part of a URI (RFC 3261 §25.1 `user`).
pub(crate) fn escape_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        let plain = b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b);
        if plain {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// `;name=value` parameters, read in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// Checks and wraps a parameter list without its leading `;`. Empty pieces, such as a `;` at
    /// the end leaves, are no parameters and no error.
    ///
    /// # Errors
    /// A quoted value does not end: nobody knows which parameters stand in it.
    pub(crate) fn parse(text: &'a str) -> Result<Params<'a>, ParseError> {
        let params = Params(text.trim_ascii());
        if memchr::memchr(b'"', text.as_bytes()).is_some()
            && split_outside_quotes(params.0, b';')
                .any(|piece| piece.bytes().filter(|&b| b == b'"').count() == 1)
        {
            return Err(ParseError::new("quoted value does not end", 0));
        }
        Ok(params)
    }

    /// As [`parse`](Self::parse), as far as the list can be read: it ends before a piece whose
    /// quoted value does not end.
    pub(crate) fn readable(text: &'a str) -> Params<'a> {
        let text = text.trim_ascii();
        if Params::parse(text).is_ok() {
            return Params(text);
        }
        let mut end = 0;
        for piece in split_outside_quotes(text, b';') {
            if Params::parse(piece).is_err() {
                break;
            }
            end += piece.len() + 1;
        }
        Params(&text[..end.min(text.len())])
    }

    /// Wraps a list that was checked before.
    pub(super) fn checked(text: &'a str) -> Params<'a> {
        Params(text)
    }

    /// Name and value pairs; a quoted value is returned without its quotes.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let text = self.0;
        split_outside_quotes(text, b';').map(str::trim_ascii).filter(|p| !p.is_empty()).map(
            |piece| match cut(piece, b'=') {
                Some((name, value)) => (name.trim_ascii(), Some(unquote(value.trim_ascii()))),
                None => (piece, None),
            },
        )
    }

    /// The value of `name` (empty for a flag), any case.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.unwrap_or_default())
    }

    /// Whether `name` stands here, with or without a value.
    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The text as it was.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }
}

/// The inside of a quoted string, or the text itself; escapes stay.
pub(crate) fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// Whether two Contacts, as they were given, are one address.
pub(crate) fn same_contact(a: &str, b: &str) -> bool {
    Uri::parse(a).ok().zip(Uri::parse(b).ok()).is_some_and(|(a, b)| a.same_address(&b))
}
