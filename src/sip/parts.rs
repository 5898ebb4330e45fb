//! The values nearly every step asks for, read once and kept as places in the head.
//!
//! A message's top Via, From, To, first Contact and CSeq are asked for ten times on its way through
//! admission, transaction, dialog and call. What is kept here turns each of these into slices
//! instead of a reading.

use super::header::{CSeq, NameAddr, Via};
use super::parse::{ParseError, Span};
use super::uri::{Params, Scheme, Uri};

/// What became of a value; none if the header is missing.
pub(super) type Part<T> = Option<Result<T, ParseError>>;

/// The five values' places.
pub(super) struct Parts {
    /// The topmost Via.
    pub via: Part<ViaAt>,
    /// From.
    pub from: Part<AddressAt>,
    /// To.
    pub to: Part<AddressAt>,
    /// The first Contact.
    pub contact: Part<AddressAt>,
    /// CSeq.
    pub cseq: Part<CSeqAt>,
}

/// Where `part`, a slice of `head`, stands in it.
fn place(head: &str, part: &str) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
    // A text that is no slice of the head (the empty default of a missing part) is an empty place.
    if part.is_empty() || start + part.len() > head.len() {
        Span::default()
    } else {
        Span::new(start, start + part.len())
    }
}

/// The text at a place.
pub(super) fn at(head: &str, span: Span) -> &str {
    // Spans lie on ASCII delimiters, so always on characters.
    head.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default()
}

/// A Via, as places.
#[derive(Clone, Copy)]
pub(super) struct ViaAt {
    transport: Span,
    host: Span,
    port: Option<u16>,
    params: Span,
}

impl ViaAt {
    /// Reads the topmost Via.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn read(head: &str, text: &str) -> Result<ViaAt, ParseError> {
        let via = Via::parse(text)?;
        let place = |part| place(head, part);
        Ok(ViaAt {
            transport: place(via.transport),
            host: place(via.host),
            port: via.port,
            params: place(via.params.as_str()),
        })
    }

    pub(super) fn of(self, head: &str) -> Via<'_> {
        let params = Params::checked(at(head, self.params));
        Via {
            transport: at(head, self.transport),
            host: at(head, self.host),
            port: self.port,
            params,
        }
    }
}

/// A name-addr, as places.
#[derive(Clone, Copy)]
pub(super) struct AddressAt {
    display: Span,
    text: Span,
    scheme: Scheme,
    user: Option<Span>,
    host: Span,
    port: Option<u16>,
    uri_params: Span,
    headers: Option<Span>,
    params: Span,
}

impl AddressAt {
    /// A Contact, or another address whose URI counts.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn read(head: &str, text: &str) -> Result<AddressAt, ParseError> {
        Ok(AddressAt::place(head, &NameAddr::parse_lenient(text)?))
    }

    /// A From or To.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn read_tagged(head: &str, text: &str) -> Result<AddressAt, ParseError> {
        Ok(AddressAt::place(head, &NameAddr::parse_tagged(text)?))
    }

    fn place(head: &str, address: &NameAddr<'_>) -> AddressAt {
        let NameAddr { display, uri, params } = address;
        let place = |part| place(head, part);
        AddressAt {
            display: place(display),
            text: place(uri.text),
            scheme: uri.scheme,
            user: uri.user.map(place),
            host: place(uri.host),
            port: uri.port,
            uri_params: place(uri.params.as_str()),
            headers: uri.headers.map(place),
            params: place(params.as_str()),
        }
    }

    pub(super) fn of(self, head: &str) -> NameAddr<'_> {
        let uri = Uri {
            text: at(head, self.text),
            scheme: self.scheme,
            user: self.user.map(|user| at(head, user)),
            host: at(head, self.host),
            port: self.port,
            params: Params::checked(at(head, self.uri_params)),
            headers: self.headers.map(|headers| at(head, headers)),
        };
        NameAddr {
            display: at(head, self.display),
            uri,
            params: Params::checked(at(head, self.params)),
        }
    }
}

/// A CSeq, as places.
#[derive(Clone, Copy)]
pub(super) struct CSeqAt {
    number: u32,
    method: Span,
}

impl CSeqAt {
    /// Reads a CSeq.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn read(head: &str, text: &str) -> Result<CSeqAt, ParseError> {
        CSeq::parse(text)
            .map(|CSeq { number, method }| CSeqAt { number, method: place(head, method) })
    }

    pub(super) fn of(self, head: &str) -> CSeq<'_> {
        CSeq { number: self.number, method: at(head, self.method) }
    }
}
