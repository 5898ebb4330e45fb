//! A master key and salt, kept so that a successor of the process can continue with them.

use super::Profile;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// Longest master key and salt, bytes.
pub const LONGEST: usize = 46;

/// A master key and salt of one profile; wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    profile: Profile,
    bytes: [u8; LONGEST],
}

impl MasterKey {
    /// From a key and a salt of the profile's lengths; what is missing is zero.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> MasterKey {
        let mut master = MasterKey { profile, bytes: [0; LONGEST] };
        let (own_key, rest) = master.bytes.split_at_mut(profile.key_len());
        own_key.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        rest[..profile.salt_len()].iter_mut().zip(salt).for_each(|(to, from)| *to = *from);
        master
    }

    /// What of `bytes` the profile needs: a key and then a salt.
    pub fn from_bytes(profile: Profile, bytes: &[u8; LONGEST]) -> MasterKey {
        let (key, salt) = bytes.split_at(profile.key_len());
        MasterKey::new(profile, key, salt)
    }

    /// What it protects with.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.profile.key_len()]
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.bytes[self.profile.key_len()..][..self.profile.salt_len()]
    }

    /// The key and then the salt.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.profile.key_len() + self.profile.salt_len()]
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({:?})", self.profile)
    }
}

impl Serialize for MasterKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.profile, self.bytes()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for MasterKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<MasterKey, D::Error> {
        let (profile, bytes) = <(Profile, Vec<u8>)>::deserialize(from)?;
        let bytes = Zeroizing::new(bytes);
        if bytes.len() != profile.key_len() + profile.salt_len() {
            return Err(D::Error::custom("a master key of another length than its profile's"));
        }
        let (key, salt) = bytes.split_at(profile.key_len());
        Ok(MasterKey::new(profile, key, salt))
    }
}
