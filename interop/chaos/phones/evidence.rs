//! What a phone's keys prove of the packets that came: each is authentic, and no index of a stream
//! comes twice under one key. It is read by another implementation of SRTP than the gateway's.

use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use std::collections::{HashMap, HashSet};
use webtrunk::rtp::srtp::{MasterKey, Profile};

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) keys: u64,
    pub(crate) packets: u64,
    pub(crate) repeated: u64,
    pub(crate) unauthentic: u64,
    /// The furthest a stream's sequence number jumped forward.
    pub(crate) jump: u64,
}

/// The packets of one key.
pub(crate) struct Evidence {
    rtp: Context,
    rtcp: Context,
    /// By SSRC, of RTP: the highest index, and all.
    streams: HashMap<u32, (u64, HashSet<u64>)>,
    reports: HashSet<(u32, u32)>,
    /// Bytes of the tag behind a report's index.
    tag: usize,
}

fn profile(of: Profile) -> anyhow::Result<(ProtectionProfile, usize)> {
    Ok(match of {
        Profile::Aes128CmHmacSha1_80 => (ProtectionProfile::Aes128CmHmacSha1_80, 10),
        Profile::AeadAes128Gcm => (ProtectionProfile::AeadAes128Gcm, 0),
        Profile::AeadAes256Gcm => (ProtectionProfile::AeadAes256Gcm, 0),
        other => anyhow::bail!("no browser negotiates {other:?}"),
    })
}

/// The index of a sequence number that is near the highest (RFC 3711 appendix A).
fn index(highest: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(highest as u16) as i16;
    highest.saturating_add_signed(i64::from(ahead))
}

impl Evidence {
    pub(crate) fn new(master: &MasterKey, counts: &mut Counts) -> anyhow::Result<Evidence> {
        let (profile, tag) = profile(master.profile())?;
        let provider = rtc_crypto::default_provider().map_err(|e| anyhow::anyhow!("{e}"))?;
        let context =
            || Context::new(master.key(), master.salt(), profile, None, None, provider.crypto());
        counts.keys += 1;
        Ok(Evidence {
            rtp: context()?,
            rtcp: context()?,
            streams: HashMap::new(),
            reports: HashSet::new(),
            tag,
        })
    }

    /// Opens a packet of RTP.
    pub(crate) fn rtp(&mut self, packet: &[u8], counts: &mut Counts) -> Option<Vec<u8>> {
        counts.packets += 1;
        let Ok(opened) = self.rtp.decrypt_rtp(packet) else {
            counts.unauthentic += 1;
            return None;
        };
        let ssrc = u32::from_be_bytes(packet.get(8..12)?.try_into().ok()?);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let first = || (u64::from(sequence), HashSet::new());
        let (highest, seen) = self.streams.entry(ssrc).or_insert_with(first);
        let index = index(*highest, sequence);
        counts.repeated += u64::from(!seen.insert(index));
        counts.jump = counts.jump.max(index.saturating_sub(*highest));
        *highest = index.max(*highest);
        Some(opened.to_vec())
    }

    /// Opens a packet of RTCP.
    pub(crate) fn rtcp(&mut self, packet: &[u8], counts: &mut Counts) -> Option<Vec<u8>> {
        counts.packets += 1;
        let Ok(opened) = self.rtcp.decrypt_rtcp(packet) else {
            counts.unauthentic += 1;
            return None;
        };
        let at = packet.len() - self.tag - 4;
        let number = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        // Without the bit that says it is encrypted.
        let report = (number(4)?, number(at)? & 0x7fff_ffff);
        counts.repeated += u64::from(!self.reports.insert(report));
        Some(opened.to_vec())
    }
}
