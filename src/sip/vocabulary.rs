//! Conversions between our vocabulary and the `rsip` crate's, for users who speak rsip.
//!
//! rsip is not on the wire path: README holds the table of what it misreads and why.

use super::status::Method;

impl From<Method> for rsip::Method {
    fn from(method: Method) -> rsip::Method {
        match method {
            Method::Invite => rsip::Method::Invite,
            Method::Ack => rsip::Method::Ack,
            Method::Bye => rsip::Method::Bye,
            Method::Cancel => rsip::Method::Cancel,
            Method::Register => rsip::Method::Register,
            Method::Info => rsip::Method::Info,
            Method::Prack => rsip::Method::PRack,
            Method::Update => rsip::Method::Update,
            Method::Message => rsip::Method::Message,
            Method::Subscribe => rsip::Method::Subscribe,
            Method::Notify => rsip::Method::Notify,
            Method::Refer => rsip::Method::Refer,
            Method::Publish => rsip::Method::Publish,
            Method::Options | Method::Other => rsip::Method::Options,
        }
    }
}

impl From<&rsip::Method> for Method {
    fn from(method: &rsip::Method) -> Method {
        Method::from_token(&method.to_string())
    }
}

/// The status code in rsip's words.
pub fn status_code(status: u16) -> rsip::StatusCode {
    rsip::StatusCode::from(status)
}
