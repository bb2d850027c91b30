//! Checks many Ed25519 signatures by few keys. The verdicts are equal to those of `verify_strict`, and a check takes
//! about half the time.
//!
//! `verify_strict` accepts a signature `(R, s)` of `M` by the key `A` if `s` is reduced, neither `A` nor `R` is of
//! small order, and `sB - kA` is encoded as the bytes of `R`, where `k` is the SHA-512 of `R`, `A`, and `M`. This
//! module checks the same equation and saves work in three places:
//!
//! - The multiples of `A` and `B` are computed once for each key, so that a check only adds points.
//! - Points are encoded together, with one inversion for all of them.
//! - `R` is not decoded. If the bytes of `R` are the encoding of the computed point, they decode to
//!   that point, and both have the same order.
//!
//! This is not batch verification, because batch verification accepts signatures that
//! `verify_strict` rejects. Each signature has its own equation here. A signature that this module
//! does not accept goes to `verify_strict`, so that only `verify_strict` rejects a signature.
use std::fmt;
use std::ops::Neg;
use std::sync::LazyLock;

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha512};

const BITS: usize = 6;
/// The largest digit. Digits are signed.
const LARGEST: usize = 1 << (BITS - 1);
/// Digits of a scalar of at most 253 bits, with room for the last carry.
const DIGITS: usize = 43;

static BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));

/// For each digit, the multiples of a point by 1 to [`LARGEST`] at the place of the digit. The
/// scalar determines which of the multiples are read, so all values must be public.
struct Multiples(Vec<[EdwardsPoint; LARGEST]>);

#[expect(
    clippy::arithmetic_side_effects,
    reason = "points are added, which cannot overflow"
)]
impl Multiples {
    fn of(point: EdwardsPoint) -> Self {
        let mut at_place = point;
        let row = |_| {
            let mut sum = EdwardsPoint::identity();
            let row = std::array::from_fn(|_| {
                sum += at_place;
                sum
            });
            at_place = sum + sum;
            row
        };
        Self((0..DIGITS).map(row).collect())
    }

    /// Adds the product of the point and `scalar` to `sum`.
    fn add(&self, scalar: &Scalar, mut sum: EdwardsPoint) -> EdwardsPoint {
        for (row, digit) in self.0.iter().zip(digits(scalar)) {
            let size = usize::from(digit.unsigned_abs());
            let Some(multiple) = size.checked_sub(1).and_then(|at| row.get(at)) else {
                continue;
            };
            if digit > 0 {
                sum += multiple;
            } else {
                sum -= multiple;
            }
        }
        sum
    }
}

/// Returns the signed digits of a scalar in base 64, the least significant first.
fn digits(scalar: &Scalar) -> [i8; DIGITS] {
    let bytes = scalar.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().map_or(0, u16::from);
    let mut carry = 0;
    std::array::from_fn(|place| {
        let bit = place.saturating_mul(BITS);
        let at = bit / 8;
        let two = byte(at) | (byte(at.saturating_add(1)) << 8);
        // The value is at most 64: six bits and a carry.
        let low = u8::try_from((two >> (bit % 8)) & 0x3f).unwrap_or(0);
        let digit = i8::try_from(low).unwrap_or(0).saturating_add(carry);
        carry = i8::from(digit > 32);
        digit.saturating_sub(carry.saturating_mul(64))
    })
}

/// A public key, prepared for the check of many signatures.
pub(crate) struct Key {
    key: VerifyingKey,
    /// Multiples of `-A`. `None` for a key of small order, because such a key has no valid
    /// signatures.
    multiples: Option<Multiples>,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Key").field(&self.key).finish()
    }
}

impl Key {
    pub(crate) fn new(key: VerifyingKey) -> Self {
        let point = key.to_edwards();
        let multiples = (!point.is_small_order()).then(|| Multiples::of(point.neg()));
        Self { key, multiples }
    }

    /// Returns the point whose encoding is `R` if the signature is valid. The point is never of small order.
    fn expected(&self, message: &[u8], signature: &Signature) -> Option<EdwardsPoint> {
        let multiples = self.multiples.as_ref()?;
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(*signature.s_bytes()))?;
        let mut hash = Sha512::new();
        hash.update(signature.r_bytes());
        hash.update(self.key.as_bytes());
        hash.update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let point = multiples.add(&k, BASE.add(&s, EdwardsPoint::identity()));
        (!point.is_small_order()).then_some(point)
    }
}

/// A key, a message, and a signature.
pub(crate) type Signed<'s> = (&'s Key, &'s [u8], Signature);

/// Returns for each signature whether it is valid.
pub(crate) fn check(signed: &[Signed<'_>]) -> Vec<bool> {
    let points: Vec<Option<EdwardsPoint>> = signed
        .iter()
        .map(|(key, message, signature)| key.expected(message, signature))
        .collect();
    let all: Vec<EdwardsPoint> = points
        .iter()
        .map(|point| point.unwrap_or_else(EdwardsPoint::identity))
        .collect();
    let encoded = EdwardsPoint::compress_batch_alloc(&all);
    signed
        .iter()
        .zip(points.iter().zip(encoded))
        .map(|((key, message, signature), (point, encoded))| {
            let fits = point.is_some() && encoded.as_bytes() == signature.r_bytes();
            fits || key.key.verify_strict(message, signature).is_ok()
        })
        .collect()
}

#[cfg(test)]
#[allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    reason = "scalars and points do not overflow"
)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use ed25519_dalek::{Signer, Verifier};

    use super::*;
    use crate::keys;

    /// Returns the verdict of only this module, without `verify_strict`.
    fn accepts(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
        let point = Key::new(*key).expected(message, signature);
        point.is_some_and(|point| point.compress().as_bytes() == signature.r_bytes())
    }

    fn assert_same(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
        let strict = key.verify_strict(message, signature).is_ok();
        assert_eq!(accepts(key, message, signature), strict, "{signature:?}");
        let ready = Key::new(*key);
        let both = [(&ready, message, *signature); 2];
        assert_eq!(check(&both), [strict, strict]);
        strict
    }

    fn hashed(r: EdwardsPoint, a: &VerifyingKey, message: &[u8]) -> Scalar {
        let mut hash = Sha512::new();
        hash.update(r.compress().as_bytes());
        hash.update(a.as_bytes());
        hash.update(message);
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }

    fn signature(r: EdwardsPoint, s: Scalar) -> Signature {
        Signature::from_components(*r.compress().as_bytes(), s.to_bytes())
    }

    #[test]
    fn multiples_are_those_of_the_library() {
        let mut edges: Vec<Scalar> = (0..253)
            .map(|bit| {
                let mut bytes = [0; 32];
                bytes[bit / 8] = 1 << (bit % 8);
                Scalar::from_bytes_mod_order(bytes)
            })
            .collect();
        edges.extend((0..80_u64).map(Scalar::from));
        edges.extend((0..80_u64).map(|less| -Scalar::from(less)));
        edges.extend((0..=255_u8).map(|byte| Scalar::from_bytes_mod_order([byte; 32])));
        edges.extend((0..500_u16).map(|number| {
            let hash = Sha512::digest(number.to_be_bytes());
            Scalar::from_bytes_mod_order_wide(&hash.into())
        }));
        for small in [EIGHT_TORSION[0], EIGHT_TORSION[3]] {
            let point = ED25519_BASEPOINT_POINT + small;
            let multiples = Multiples::of(point);
            for scalar in &edges {
                let sum = multiples.add(scalar, small);
                assert_eq!(sum, point * scalar + small, "{scalar:?}");
                assert!(
                    digits(scalar)
                        .iter()
                        .all(|digit| (-31..=32).contains(digit))
                );
            }
        }
    }

    #[test]
    fn every_flipped_bit_has_the_verdict_of_verify_strict() {
        let key = keys::generate().unwrap();
        let public = key.verifying_key();
        let sound = key.sign(b"message");
        assert!(assert_same(&public, b"message", &sound));
        assert!(!assert_same(&public, b"massage", &sound));
        for bit in 0..512 {
            let mut bytes = sound.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!assert_same(
                &public,
                b"message",
                &Signature::from_bytes(&bytes)
            ));
        }
    }

    #[test]
    fn a_commitment_of_small_order_holds_for_others_and_not_here() {
        let secret = Scalar::from_bytes_mod_order([9; 32]);
        let public = VerifyingKey::from(EdwardsPoint::mul_base(&secret));
        let r = EdwardsPoint::identity();
        let forged = signature(r, hashed(r, &public, b"message") * secret);
        assert!(public.verify(b"message", &forged).is_ok());
        assert!(!assert_same(&public, b"message", &forged));
    }

    #[test]
    fn keys_and_commitments_with_a_small_part_have_the_verdict_of_verify_strict() {
        let [secret, nonce] = [[9; 32], [5; 32]].map(Scalar::from_bytes_mod_order);
        let mut held = 0;
        for small in EIGHT_TORSION {
            let public = VerifyingKey::from(EdwardsPoint::mul_base(&secret) + small);
            for other in EIGHT_TORSION {
                let r = EdwardsPoint::mul_base(&nonce) + other;
                for message in 0..16_u8 {
                    let s = nonce + hashed(r, &public, &[message]) * secret;
                    held += u32::from(assert_same(&public, &[message], &signature(r, s)));
                }
            }
        }
        assert!(held > 64, "{held}");
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        for small in EIGHT_TORSION {
            let public = VerifyingKey::from(small);
            let nonce = Scalar::from_bytes_mod_order([5; 32]);
            let r = EdwardsPoint::mul_base(&nonce);
            let mut held = 0;
            for message in 0..16_u8 {
                let forged = signature(r, nonce);
                held += u32::from(public.verify(&[message], &forged).is_ok());
                assert!(!assert_same(&public, &[message], &forged));
            }
            assert!(held > 0, "a check that is not strict accepts some");
        }
    }

    #[test]
    fn a_scalar_that_is_not_reduced_is_refused() {
        /// The order of the base point.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let key = keys::generate().unwrap();
        let sound = key.sign(b"message");
        let mut s = *sound.s_bytes();
        let mut carry = 0;
        for (byte, more) in s.iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            *byte = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        assert_eq!(Scalar::from_bytes_mod_order(s).to_bytes(), *sound.s_bytes());
        let again = Signature::from_components(*sound.r_bytes(), s);
        assert!(!assert_same(&key.verifying_key(), b"message", &again));
    }
}
