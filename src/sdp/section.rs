//! Which audio section of a peer's description is used: the first that fits, not the first.

use super::crypto::{Crypto, Policy};
use super::description::{Description, Format, MediaDescription, SdpError};
use super::negotiated::Remote;
use super::offer_answer::Negotiation;
use crate::codec::Codec;

/// A section that fits, and what follows from it.
pub(super) struct Chosen<'a> {
    /// Its place in the description.
    pub at: usize,
    /// The section.
    pub audio: &'a MediaDescription,
    /// The codec of ours.
    pub codec: Codec,
    /// Its format there.
    pub format: &'a Format,
    /// Where its media goes, and how it is secured.
    pub remote: Remote,
}

impl Negotiation {
    /// The first audio section that has a codec (`codec_of`) and a transport of ours; one with keys
    /// if they are wished for. `beside` finds our key for one of the peer's; `missing` is said
    /// if there is no audio at all.
    ///
    /// # Errors
    /// Why the first one does not fit.
    pub(super) fn choose<'a>(
        &self,
        description: &'a Description,
        codec_of: impl Fn(&'a MediaDescription) -> Result<(Codec, &'a Format), SdpError>,
        beside: impl Fn(&Crypto) -> Option<Crypto>,
        missing: &str,
    ) -> Result<Chosen<'a>, SdpError> {
        let (mut chosen, mut unfit) = (None, None);
        for (at, audio) in description.audio() {
            let fit = codec_of(audio).and_then(|(codec, format)| {
                let remote = self.remote(audio, &beside)?;
                Ok(Chosen { at, audio, codec, format, remote })
            });
            match fit {
                Ok(fit) if self.local.srtp != Policy::Optional || fit.is_keyed() => return Ok(fit),
                Ok(fit) => {
                    chosen.get_or_insert(fit);
                }
                Err(why) => {
                    unfit.get_or_insert(why);
                }
            }
        }
        chosen.ok_or_else(|| unfit.unwrap_or_else(|| SdpError::new(304, missing)))
    }
}

impl Chosen<'_> {
    fn is_keyed(&self) -> bool {
        !matches!(self.remote, Remote::Rtp { sdes: None, .. })
    }
}

/// The first of `prefer` that a section has.
///
/// # Errors
/// It has none of them.
pub(super) fn preferred<'a>(
    audio: &'a MediaDescription,
    prefer: &[Codec],
    ours: impl Fn() -> Vec<Format>,
) -> Result<(Codec, &'a Format), SdpError> {
    let find = |codec: &Codec| {
        let format = audio.formats.iter().find(|f| f.codec() == Some(*codec))?;
        Some((*codec, format))
    };
    prefer.iter().find_map(find).ok_or_else(|| no_common(audio, &ours()))
}

/// A section whose formats hold no codec of ours.
pub(super) fn no_common(audio: &MediaDescription, ours: &[Format]) -> SdpError {
    let names = |f: &[Format]| {
        named(f.iter().filter(|f| !f.is_telephone_event() && !f.is_comfort_noise())).join(", ")
    };
    let (theirs, ours) = (names(&audio.formats), names(ours));
    let why = format!("no common audio codec: the peer has {theirs}, this leg has {ours}");
    SdpError::new(305, why)
}

/// Formats by name and clock.
pub(super) fn named<'a>(formats: impl Iterator<Item = &'a Format>) -> Vec<String> {
    formats.map(|f| format!("{}/{}", f.name, f.clock)).collect()
}
