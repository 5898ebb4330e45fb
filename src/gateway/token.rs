//! JSON Web Tokens as logins (RFC 8898, RFC 7519): read, verified by a key set, judged by our own
//! clock. Pure.

use crate::config::JwtSettings;
use crate::config::grant::Grant;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::time::Duration;

/// Seconds another server's clock may differ from ours.
pub(super) const CLOCK_SKEW: u64 = 60;
/// The longest a token may live that is good for one login: as long it is remembered.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Keys of one set.
const MAX_KEYS: usize = 100;

/// A token, by a hash of its issuer and `jti`.
pub(crate) type TokenId = u128;

/// The keys tokens are verified by (RFC 7517).
#[derive(Debug)]
pub struct TokenKeys(Vec<(Option<String>, Vec<Algorithm>, DecodingKey)>);

/// What a token says.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(crate) struct Claims {
    /// The user.
    pub sub: String,
    /// When it expires, seconds since 1970.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: u64,
    /// When it begins to hold, seconds since 1970.
    #[serde(default, deserialize_with = "some_numeric_date")]
    pub nbf: Option<u64>,
    /// Its issuer: a string, if present.
    pub iss: Option<serde_json::Value>,
    /// Which of theirs it is: likewise a string.
    pub jti: Option<serde_json::Value>,
    /// What its user may do.
    #[serde(default)]
    pub webtrunk: Grant,
}

impl Claims {
    /// Which token it is, if each is good for one login.
    ///
    /// # Errors
    /// It cannot be distinguished from others, or would have to be remembered for too long.
    pub(crate) fn single(&self, unix: u64) -> Result<TokenId, String> {
        let Some(jti) = self.jti.as_ref().and_then(|jti| jti.as_str()) else {
            return Err("it has no jti, and is to be good for one login".to_owned());
        };
        let (left, longest) = (self.exp.saturating_sub(unix), LONGEST.as_secs());
        if left > longest {
            return Err(format!(
                "it is valid for {left} s, one for a single login for {longest} s"
            ));
        }
        let issuer = self.iss.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = format!("{}:{issuer}{jti}", issuer.len());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let (first, _) = hash.as_ref().split_at(16);
        Ok(TokenId::from_be_bytes(first.try_into().unwrap_or_default()))
    }
}

/// Whole seconds of a NumericDate, which may have a fraction (RFC 7519 §2), as that of
/// `Date.now() / 1000` does.
fn seconds(date: &serde_json::Value) -> Option<u64> {
    let fraction = || date.as_f64().filter(|date| (0.0..1e12).contains(date));
    date.as_u64().or_else(|| fraction().map(|date| date as u64))
}

fn numeric_date<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let date = serde_json::Value::deserialize(from)?;
    seconds(&date).ok_or_else(|| serde::de::Error::custom("exp is no time"))
}

fn some_numeric_date<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::Null => Ok(None),
        date => match seconds(&date) {
            None => Err(serde::de::Error::custom("nbf is no time")),
            known => Ok(known),
        },
    }
}

/// Why a token is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TokenError {
    /// A newer set may hold the key it names.
    UnknownKey(String),
    Wrong(String),
}

impl TokenKeys {
    /// Reads a key set; keys of kinds that sign nothing we verify are passed over.
    ///
    /// # Errors
    /// It cannot be read, or holds no usable key.
    pub fn parse(text: &str) -> Result<TokenKeys, String> {
        let set: JwkSet =
            serde_json::from_str(text).map_err(|e| format!("it is no JWK set: {e}"))?;
        let usable = set.keys.iter().take(MAX_KEYS).filter_map(|k| {
            Some((k.common.key_id.clone(), algorithms(k)?, DecodingKey::from_jwk(k).ok()?))
        });
        let keys: Vec<_> = usable.collect();
        if keys.is_empty() {
            Err("it holds no public key of a kind that is accepted (RSA, P-256, P-384, Ed25519)"
                .to_owned())
        } else {
            Ok(TokenKeys(keys))
        }
    }

    /// Verifies `token` at `unix`, seconds since 1970.
    ///
    /// # Errors
    /// Why not, for its bearer and the log; never any part of it.
    pub(crate) fn verify(
        &self,
        token: &str,
        settings: &JwtSettings,
        unix: u64,
    ) -> Result<Claims, TokenError> {
        let claims: Claims = self.read(token, &settings.audience, settings.issuer.as_deref())?;
        timely(claims.exp, claims.nbf, unix).map(|()| claims)
    }

    /// Verifies `token` likewise; returns all that it says.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(crate) fn claims(
        &self,
        token: &str,
        audience: &str,
        issuer: Option<&str>,
        unix: u64,
    ) -> Result<serde_json::Value, TokenError> {
        let claims: serde_json::Value = self.read(token, audience, issuer)?;
        let Some(exp) = seconds(&claims["exp"]) else {
            return Err(TokenError::Wrong("its exp is no time".to_owned()));
        };
        timely(exp, seconds(&claims["nbf"]), unix).map(|()| claims)
    }

    fn read<T: serde::de::DeserializeOwned + Clone>(
        &self,
        token: &str,
        audience: &str,
        issuer: Option<&str>,
    ) -> Result<T, TokenError> {
        let wrong = |why: &str| TokenError::Wrong(why.to_owned());
        let header = decode_header(token).map_err(|_| wrong("it is no JSON Web Token"))?;
        if is_critical(token) {
            return Err(wrong("its header names extensions (crit), and none is known here"));
        }
        let named = |kid: &Option<String>| header.kid.is_none() || *kid == header.kid;
        let candidates: Vec<_> = self
            .0
            .iter()
            .filter(|(kid, algorithms, _)| named(kid) && algorithms.contains(&header.alg))
            .collect();
        if candidates.is_empty() {
            let kid: String = header
                .kid
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .take(40)
                .collect();
            return Err(TokenError::UnknownKey(format!(
                "no key {kid:?} for {:?} is in the key set",
                header.alg
            )));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[audience]);
        issuer.iter().for_each(|issuer| validation.set_issuer(&[issuer]));
        validation.set_required_spec_claims(if issuer.is_some() {
            &["exp", "sub", "aud", "iss"][..]
        } else {
            &["exp", "sub", "aud"]
        });
        // Time is judged by who asks, by the clock everything else here goes by.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let mut why = wrong("its signature is wrong");
        for (_, _, key) in candidates {
            match decode::<T>(token, key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(e) if *e.kind() == ErrorKind::InvalidSignature => {}
                Err(e) => why = TokenError::Wrong(sentence(e.kind(), audience, issuer)),
            }
        }
        Err(why)
    }
}

/// Whether the header names what must be understood (RFC 7515 §4.1.11).
fn is_critical(token: &str) -> bool {
    let header = token.split('.').next().and_then(|head| URL_SAFE_NO_PAD.decode(head).ok());
    let header = header.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    header.is_none_or(|header| header.get("crit").is_some())
}

fn timely(exp: u64, nbf: Option<u64>, unix: u64) -> Result<(), TokenError> {
    if unix >= exp.saturating_add(CLOCK_SKEW) {
        return Err(TokenError::Wrong(format!("it expired {} s ago", unix - exp)));
    }
    match nbf.filter(|nbf| *nbf > unix + CLOCK_SKEW) {
        Some(nbf) => Err(TokenError::Wrong(format!(
            "it is valid in {} s only: do the clocks differ?",
            nbf - unix
        ))),
        None => Ok(()),
    }
}

fn sentence(kind: &ErrorKind, audience: &str, issuer: Option<&str>) -> String {
    match kind {
        ErrorKind::InvalidAudience => format!("its aud does not name {audience:?}"),
        ErrorKind::InvalidIssuer => {
            format!("its iss is not {:?}", issuer.unwrap_or_default())
        }
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no {claim}"),
        ErrorKind::Json(e) => format!("its claims cannot be read: {e}"),
        _ => "it cannot be verified".to_owned(),
    }
}

/// What a key may have signed with: by its kind, so that no token chooses (RFC 8725 §3.1). Nothing
/// symmetric.
fn algorithms(key: &Jwk) -> Option<Vec<Algorithm>> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => vec![ES256],
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P384 => vec![ES384],
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => vec![EdDSA],
        _ => return None,
    };
    let named = |algorithm: &Algorithm| {
        key.common.key_algorithm.is_none_or(|own| own == KeyAlgorithm::from(*algorithm))
    };
    Some(kind.into_iter().filter(named).collect())
}
