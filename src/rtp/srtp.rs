//! SRTP and SRTCP in place, over aws-lc-rs (RFC 3711, RFC 6188, RFC 7714): nothing is allocated per
//! packet.
//!
//! Rule: the tag is checked before any state changes, and per-SSRC state exists only for sources
//! that have authenticated. Tested against rtc-srtp and the RFCs' vectors.

mod master;
mod session_keys;
mod tests;
mod window;

use self::session_keys::{SrtpKeys, aes_cm, cm_iv, gcm_rtp_nonce};
pub use master::{LONGEST, MasterKey};

use super::reserve::{Reserve, ReserveHold};
use aws_lc_rs::aead::Aad;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Instant;
use window::ReplayWindow;

/// A protection profile (RFC 5764 §4.1.2, RFC 4568 §6.2, RFC 7714 §14).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Profile {
    /// 80-bit tags.
    Aes128CmHmacSha1_80,
    /// 32-bit tags for RTP.
    Aes128CmHmacSha1_32,
    /// RFC 6188.
    Aes192CmHmacSha1_80,
    /// RFC 6188.
    Aes192CmHmacSha1_32,
    /// RFC 6188.
    Aes256CmHmacSha1_80,
    /// RFC 6188.
    Aes256CmHmacSha1_32,
    /// RFC 7714.
    AeadAes128Gcm,
    /// RFC 7714.
    AeadAes256Gcm,
}

impl fmt::Display for Profile {
    /// Its name in the registry of crypto suites.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Profile {
    /// All of them, best first.
    pub(crate) const ALL: [Profile; 8] = [
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::Aes128CmHmacSha1_80,
        Profile::Aes128CmHmacSha1_32,
        Profile::Aes192CmHmacSha1_80,
        Profile::Aes192CmHmacSha1_32,
        Profile::Aes256CmHmacSha1_80,
        Profile::Aes256CmHmacSha1_32,
    ];

    /// Its name in the registry of crypto suites (RFC 4568 §6.2, RFC 6188 §4, RFC 7714 §14.2).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Aes128CmHmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Profile::Aes128CmHmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Profile::Aes192CmHmacSha1_80 => "AES_192_CM_HMAC_SHA1_80",
            Profile::Aes192CmHmacSha1_32 => "AES_192_CM_HMAC_SHA1_32",
            Profile::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Profile::Aes256CmHmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Master key length, bytes.
    pub(crate) fn key_len(self) -> usize {
        match self {
            Profile::Aes128CmHmacSha1_80
            | Profile::Aes128CmHmacSha1_32
            | Profile::AeadAes128Gcm => 16,
            Profile::Aes192CmHmacSha1_80 | Profile::Aes192CmHmacSha1_32 => 24,
            Profile::Aes256CmHmacSha1_80
            | Profile::Aes256CmHmacSha1_32
            | Profile::AeadAes256Gcm => 32,
        }
    }

    /// Master salt length, bytes.
    pub(crate) fn salt_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 12,
            _ => 14,
        }
    }
}

/// Why a packet was not accepted. It is dropped and counted; nothing else happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SrtpError {
    /// Too short, or not RTP or RTCP.
    #[error("too short or not RTP")]
    Malformed,
    /// Of somebody without the key, or changed on the way.
    #[error("authentication tag is wrong")]
    BadTag,
    /// It came before, or is too old to tell.
    #[error("packet was seen before, or is too old")]
    Replayed,
    /// More SSRCs than a session has with one key.
    #[error("too many sources")]
    TooManySources,
}

/// Sources one context keeps: one audio stream, and many that start again with another SSRC, as
/// each transfer behind a peer may. None is forgotten for another: its packets could be replayed.
const MAX_SOURCES: usize = 64;
/// Indices of one rollover.
const CYCLE: u64 = 1 << 16;
/// The last index of a key (RFC 3711 §9.2).
const LAST: u64 = (1 << 48) - 1;
/// The last SRTCP index of a key (RFC 3711 §3.4).
const MAX_RTCP: u32 = 0x7fff_ffff;

// One per leg and direction, boxed with its context: the sizes do not matter.
/// Header length and SSRC of an RTP packet.
fn rtp_header(packet: &[u8]) -> Option<(usize, u16, u32)> {
    let header = super::Packet::parse(packet, false)?;
    Some((header.header_len, header.sequence, header.ssrc))
}

fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*packet.get(4..8)?.first_chunk()?))
}

/// Where a stream of ours continues: the first index of RTP and of RTCP that was never used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reserved {
    /// The first SRTP index that is not.
    pub rtp: u64,
    /// The first SRTCP index that is not, up to 2^31 - 1.
    pub rtcp: u32,
}

/// What holds back RTP and RTCP of a stream whose very next indices go to a successor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SrtpHold {
    rtp: ReserveHold,
    rtcp: ReserveHold,
}

/// Protects what we send: one RTP source, counted from the first packet.
pub struct Protect {
    master: MasterKey,
    keys: SrtpKeys,
    rollover: super::packet::Unwrapper,
    /// Indices already used: a nonce never serves twice, whatever the caller numbers.
    window: ReplayWindow,
    rtcp_index: u32,
    /// What a successor of this process may use.
    reserve: Reserve,
    rtcp_reserve: Reserve,
}

impl Protect {
    /// A context from the master key and salt, of the profile's lengths.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Protect {
        Protect::of(MasterKey::new(profile, key, salt))
    }

    pub(crate) fn of(master: MasterKey) -> Protect {
        Protect {
            keys: SrtpKeys::new(&master),
            master,
            rollover: Default::default(),
            window: ReplayWindow::new(),
            rtcp_index: 0,
            reserve: Reserve::default(),
            rtcp_reserve: Reserve::default(),
        }
    }

    /// Goes on where `reserved` says: no earlier index is used, and none at all before a record
    /// that is newer than the one of this number, taken then, is confirmed.
    pub(crate) fn resume(
        master: MasterKey,
        reserved: Reserved,
        number: u64,
        taken: Instant,
    ) -> Protect {
        let mut context = Protect::from(master, reserved);
        context.reserve = Reserve::resume(number, taken, reserved.rtp);
        context.rtcp_reserve = Reserve::resume(number, taken, reserved.rtcp.into());
        context
    }

    /// Goes on with the very next indices, of a context that was [handed over](Self::hand_over) at
    /// `taken` and is used no more.
    pub(crate) fn take_over(
        master: MasterKey,
        reserved: Reserved,
        held: SrtpHold,
        taken: Instant,
    ) -> Protect {
        let mut context = Protect::from(master, reserved);
        context.reserve = Reserve::take_over(held.rtp, taken, reserved.rtp);
        context.rtcp_reserve = Reserve::take_over(held.rtcp, taken, reserved.rtcp.into());
        context
    }

    /// With nothing reserved.
    fn from(master: MasterKey, reserved: Reserved) -> Protect {
        let mut context = Protect::of(master);
        if let Some(last) = reserved.rtp.min(LAST).checked_sub(1) {
            context.rollover = super::packet::Unwrapper::after(last + CYCLE);
            context.window = ReplayWindow::used_up_to(last);
        }
        context.rtcp_index = reserved.rtcp.saturating_sub(1);
        context
    }

    /// The SRTCP index continues from `before`'s: it is in each packet, and keys may come back.
    pub(crate) fn after(mut self, before: &Protect) -> Protect {
        self.rtcp_index = before.rtcp_index;
        self
    }

    /// The master key and salt.
    pub(crate) fn master(&self) -> &MasterKey {
        &self.master
    }

    /// Where this context stands; `sequence` is the next packet's.
    fn position(&self, sequence: u16) -> (u64, u32) {
        let mut ahead = self.rollover;
        (ahead.extend(sequence).saturating_sub(CYCLE), self.rtcp_index + 1)
    }

    /// What a successor may use by a record of this number that is taken now; `sequence` is the
    /// next packet's.
    pub(crate) fn reserve(&mut self, now: Instant, number: u64, sequence: u16) -> Reserved {
        let (rtp, rtcp) = self.position(sequence);
        Reserved {
            rtp: self.reserve.record(now, number, rtp),
            rtcp: self.rtcp_reserve.record(now, number, rtcp.into()).min(MAX_RTCP.into()) as u32,
        }
    }

    /// What a successor may use if this context is used no more.
    pub(crate) fn hand_over(&self, now: Instant, sequence: u16) -> (Reserved, SrtpHold) {
        let (rtp, rtcp) = self.position(sequence);
        let held =
            SrtpHold { rtp: self.reserve.held_back(now), rtcp: self.rtcp_reserve.held_back(now) };
        // Packets may have been numbered and sent out of order.
        (Reserved { rtp: rtp.max(self.window.highest().map_or(0, |h| h + 1)), rtcp }, held)
    }

    /// A newer record is wanted soon.
    pub(crate) fn is_low(&self) -> bool {
        self.reserve.is_low() || self.rtcp_reserve.is_low()
    }

    /// A successor finds the record of this number or a newer one.
    pub(crate) fn confirm(&mut self, number: u64) {
        self.reserve.confirm(number);
        self.rtcp_reserve.confirm(number);
    }

    /// Forgets the records that are refused by now.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.reserve.expire(now);
        self.rtcp_reserve.expire(now);
    }

    /// When the oldest record is refused from then on.
    pub(crate) fn lease_ends(&self) -> Option<Instant> {
        self.reserve.next_timeout().into_iter().chain(self.rtcp_reserve.next_timeout()).min()
    }

    /// Protects the packet in `buf[..len]` in place; returns the new length, or nothing if `buf`
    /// has no room for the tag, holds no RTP, or its index was used before or is a successor's.
    pub fn rtp(&mut self, buf: &mut [u8], len: usize) -> Option<usize> {
        let (header, sequence, ssrc) = rtp_header(&buf[..len])?;
        // The unwrapper starts one cycle up; SRTP's index starts in cycle 0.
        let index = self
            .rollover
            .extend(sequence)
            .checked_sub(CYCLE)
            .filter(|i| self.window.is_new(*i) && self.reserve.allows(*i))?;
        self.window.record(index);
        self.reserve.used(index);
        let (packet, rest) = buf.split_at_mut(len);
        let (head, body) = packet.split_at_mut(header);
        match &self.keys {
            SrtpKeys::Gcm { rtp, rtp_salt, .. } => {
                let tag_out = rest.get_mut(..16)?;
                let nonce = gcm_rtp_nonce(rtp_salt, ssrc, index);
                let tag = rtp.seal_in_place_separate_tag(nonce, Aad::from(&*head), body).ok()?;
                tag_out.copy_from_slice(tag.as_ref());
                Some(len + 16)
            }
            SrtpKeys::Cm { rtp, rtp_auth, rtp_salt, tag, .. } => {
                let tag_out = rest.get_mut(..*tag)?;
                aes_cm(rtp, cm_iv(rtp_salt, ssrc, index), body);
                tag_out.copy_from_slice(&cm_tag(rtp_auth, packet, (index >> 16) as u32)[..*tag]);
                Some(len + tag)
            }
        }
    }

    /// Protects a compound RTCP packet (RFC 3711 §3.4, RFC 7714 §9). Returns `None` if it is not
    /// one, or its index would be one too many for the key, or is a successor's.
    pub fn rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let ssrc = rtcp_ssrc(packet)?;
        let next = self.rtcp_index + 1;
        if next > MAX_RTCP || !self.rtcp_reserve.allows(next.into()) {
            return None;
        }
        self.rtcp_index = next;
        self.rtcp_reserve.used(next.into());
        let word = (self.rtcp_index | 0x8000_0000).to_be_bytes();
        let mut out = packet.to_vec();
        match &self.keys {
            SrtpKeys::Gcm { rtcp, rtcp_salt, .. } => {
                let nonce = gcm_rtp_nonce(rtcp_salt, ssrc, u64::from(self.rtcp_index));
                let mut aad = [0u8; 12];
                aad[..8].copy_from_slice(&packet[..8]);
                aad[8..].copy_from_slice(&word);
                let tag =
                    rtcp.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[8..]).ok()?;
                out.extend_from_slice(tag.as_ref());
                out.extend_from_slice(&word);
            }
            SrtpKeys::Cm { rtcp, rtcp_auth, rtcp_salt, .. } => {
                aes_cm(rtcp, cm_iv(rtcp_salt, ssrc, u64::from(self.rtcp_index)), &mut out[8..]);
                out.extend_from_slice(&word);
                let tag = hmac::sign(rtcp_auth, &out);
                out.extend_from_slice(&tag.as_ref()[..10]);
            }
        }
        Some(out)
    }
}

fn cm_tag(key: &hmac::Key, packet: &[u8], roc: u32) -> [u8; 10] {
    let mut context = hmac::Context::with_key(key);
    context.update(packet);
    context.update(&roc.to_be_bytes());
    *context.sign().as_ref().first_chunk().expect("SHA-1 gives 20 bytes")
}

struct SrtpSource {
    ssrc: u32,
    window: ReplayWindow,
}

/// How far the sources of a peer had come: SSRC and highest index, of RTP and of RTCP.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReceivedState {
    /// The highest index of each source.
    pub rtp: Vec<(u32, u64)>,
    /// The highest index of each source.
    pub rtcp: Vec<(u32, u64)>,
}

/// Checks and decrypts what we receive.
pub struct Unprotect {
    master: MasterKey,
    keys: SrtpKeys,
    /// The master key identifier in each packet, if the peer sends one (RFC 3711 §3.1).
    mki: Vec<u8>,
    sources: Vec<SrtpSource>,
    rtcp: Vec<SrtpSource>,
    /// Packets were missed: a source's rollover counter may be one more than it looks.
    missed: bool,
}

impl Unprotect {
    /// A context from the peer's master key and salt.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Unprotect {
        Unprotect::of(MasterKey::new(profile, key, salt))
    }

    pub(crate) fn of(master: MasterKey) -> Unprotect {
        Unprotect {
            keys: SrtpKeys::new(&master),
            master,
            mki: Vec::new(),
            sources: Vec::with_capacity(1),
            rtcp: Vec::new(),
            missed: false,
        }
    }

    /// Goes on after `received`, and whatever came since and is not known of.
    pub(crate) fn resume(master: MasterKey, received: &ReceivedState) -> Unprotect {
        let known = |sources: &[(u32, u64)]| {
            let source =
                |&(ssrc, highest)| SrtpSource { ssrc, window: ReplayWindow::used_up_to(highest) };
            sources.iter().take(MAX_SOURCES).map(source).collect()
        };
        Unprotect {
            sources: known(&received.rtp),
            rtcp: known(&received.rtcp),
            missed: true,
            ..Unprotect::of(master)
        }
    }

    /// The master key and salt.
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// How far its sources have come.
    pub(crate) fn received(&self) -> ReceivedState {
        let highest = |sources: &[SrtpSource]| {
            let of = |s: &SrtpSource| Some((s.ssrc, s.window.highest()?));
            sources.iter().filter_map(of).collect()
        };
        ReceivedState { rtp: highest(&self.sources), rtcp: highest(&self.rtcp) }
    }

    /// The same for a peer that names its master key in each packet.
    pub(crate) fn with_mki(mut self, mki: &[u8]) -> Unprotect {
        self.mki = mki.to_vec();
        self
    }

    /// Takes the master key identifier out of a packet whose last `tag` bytes follow it; returns
    /// how long it is without.
    fn strip_mki(&self, packet: &mut [u8], tag: usize) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.mki.len()).ok_or(SrtpError::Malformed)?;
        let at = len.checked_sub(tag).ok_or(SrtpError::Malformed)?;
        if packet.get(at..at + self.mki.len()) != Some(&self.mki[..]) {
            return Err(SrtpError::BadTag);
        }
        packet.copy_within(at + self.mki.len().., at);
        Ok(len)
    }

    /// How many sources have state.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// RFC 3711 §3.3.1: the index nearest to the highest authenticated one.
    fn guess(&self, ssrc: u32, sequence: u16) -> (u64, Option<usize>) {
        let Some(at) = self.sources.iter().position(|s| s.ssrc == ssrc) else {
            return (u64::from(sequence), None);
        };
        let highest = self.sources[at].window.highest().unwrap_or(u64::from(sequence));
        let delta = sequence.wrapping_sub(highest as u16) as i16;
        // In cycle 0 nothing is older than index 0: such a packet belongs to this cycle's end.
        let guess = highest.checked_add_signed(i64::from(delta)).unwrap_or(u64::from(sequence));
        (guess, Some(at))
    }

    /// Decrypts the packet in place; returns its length without the tag.
    ///
    /// # Errors
    /// See [`Refused`]; no state has changed.
    pub fn rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let tag = match &self.keys {
            // The tag is the end of what is encrypted (RFC 7714 §8.1).
            SrtpKeys::Gcm { .. } => 0,
            SrtpKeys::Cm { tag, .. } => *tag,
        };
        let len = self.strip_mki(packet, tag)?;
        let packet = &mut packet[..len];
        let (header, sequence, ssrc) = rtp_header(packet).ok_or(SrtpError::Malformed)?;
        let (index, known) = self.guess(ssrc, sequence);
        match known {
            Some(at) if !self.sources[at].window.is_new(index) => return Err(SrtpError::Replayed),
            None if self.sources.len() >= MAX_SOURCES => return Err(SrtpError::TooManySources),
            _ => {}
        }
        // What cannot be opened is spoilt by trying.
        let copy = self.missed.then(|| packet.to_vec());
        let (index, len) = match (self.open(packet, header, ssrc, index), copy) {
            (Err(SrtpError::BadTag), Some(copy)) => {
                packet.copy_from_slice(&copy);
                let next = index + CYCLE;
                (next, self.open(packet, header, ssrc, next)?)
            }
            (opened, _) => (index, opened?),
        };
        let at = known.unwrap_or_else(|| {
            self.sources.push(SrtpSource { ssrc, window: ReplayWindow::new() });
            self.sources.len() - 1
        });
        self.sources[at].window.record(index);
        self.missed = false;
        Ok(len)
    }

    /// Decrypts a packet of this index in place.
    fn open(
        &self,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        match &self.keys {
            SrtpKeys::Gcm { rtp, rtp_salt, .. } => {
                let len = packet
                    .len()
                    .checked_sub(16)
                    .filter(|l| *l >= header)
                    .ok_or(SrtpError::Malformed)?;
                let nonce = gcm_rtp_nonce(rtp_salt, ssrc, index);
                let (head, body) = packet.split_at_mut(header);
                rtp.open_in_place(nonce, Aad::from(&*head), body).map_err(|_| SrtpError::BadTag)?;
                Ok(len)
            }
            SrtpKeys::Cm { rtp, rtp_auth, rtp_salt, tag, .. } => {
                let len = packet
                    .len()
                    .checked_sub(*tag)
                    .filter(|l| *l >= header)
                    .ok_or(SrtpError::Malformed)?;
                let expected = cm_tag(rtp_auth, &packet[..len], (index >> 16) as u32);
                verify_slices_are_equal(&expected[..*tag], &packet[len..])
                    .map_err(|_| SrtpError::BadTag)?;
                aes_cm(rtp, cm_iv(rtp_salt, ssrc, index), &mut packet[header..len]);
                Ok(len)
            }
        }
    }

    /// Decrypts a compound RTCP packet in place; returns its length.
    ///
    /// # Errors
    /// See [`Refused`]; no state has changed.
    pub fn rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let tag = if matches!(self.keys, SrtpKeys::Gcm { .. }) { 0 } else { 10 };
        let len = self.strip_mki(packet, tag)?;
        let packet = &mut packet[..len];
        let ssrc = rtcp_ssrc(packet).ok_or(SrtpError::Malformed)?;
        let trailer = match &self.keys {
            SrtpKeys::Gcm { .. } => 4,
            SrtpKeys::Cm { .. } => 14,
        };
        let split =
            packet.len().checked_sub(trailer).filter(|l| *l >= 8).ok_or(SrtpError::Malformed)?;
        let word = *packet[split..].first_chunk::<4>().ok_or(SrtpError::Malformed)?;
        let (encrypted, index) =
            (word[0] & 0x80 != 0, u64::from(u32::from_be_bytes(word) & 0x7fff_ffff));
        let known = self.rtcp.iter().position(|s| s.ssrc == ssrc);
        match known {
            Some(at) if !self.rtcp[at].window.is_new(index) => return Err(SrtpError::Replayed),
            None if self.rtcp.len() >= MAX_SOURCES => return Err(SrtpError::TooManySources),
            _ => {}
        }
        let len = match &self.keys {
            SrtpKeys::Gcm { rtcp, rtcp_salt, .. } => {
                let len = split
                    .checked_sub(16)
                    .filter(|l| *l >= 8 && encrypted)
                    .ok_or(SrtpError::Malformed)?;
                let nonce = gcm_rtp_nonce(rtcp_salt, ssrc, index);
                let mut aad = [0u8; 12];
                aad[..8].copy_from_slice(&packet[..8]);
                aad[8..].copy_from_slice(&word);
                rtcp.open_in_place(nonce, Aad::from(aad), &mut packet[8..split])
                    .map_err(|_| SrtpError::BadTag)?;
                len
            }
            SrtpKeys::Cm { rtcp, rtcp_auth, rtcp_salt, .. } => {
                let expected = hmac::sign(rtcp_auth, &packet[..split + 4]);
                verify_slices_are_equal(&expected.as_ref()[..10], &packet[split + 4..])
                    .map_err(|_| SrtpError::BadTag)?;
                if encrypted {
                    aes_cm(rtcp, cm_iv(rtcp_salt, ssrc, index), &mut packet[8..split]);
                }
                split
            }
        };
        let at = known.unwrap_or_else(|| {
            self.rtcp.push(SrtpSource { ssrc, window: ReplayWindow::new() });
            self.rtcp.len() - 1
        });
        self.rtcp[at].window.record(index);
        Ok(len)
    }
}
