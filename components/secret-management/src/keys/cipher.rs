//! AES-256-GCM over one value, bound to its place. Pure code: key and nonce come from outside.

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

/// The length of a data key.
pub(crate) const KEY_BYTES: usize = 32;
/// The length of a nonce: 96 bits, fresh for each version.
pub(crate) const NONCE_BYTES: usize = 12;

/// Where a value belongs; a ciphertext opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub secret_id: &'a str,
    pub version: i64,
    /// Empty for scope GLOBAL.
    pub organization_id: &'a str,
    pub kind: &'a str,
}

impl Place<'_> {
    /// `secretId|version|organizationId|type`. None of the parts can hold a bar: ids have none, and types are choices.
    fn bytes(self) -> Vec<u8> {
        format!("{}|{}|{}|{}", self.secret_id, self.version, self.organization_id, self.kind).into_bytes()
    }
}

/// Encrypts; none only for a key or nonce of a wrong length.
pub(crate) fn seal(key: &[u8], nonce: &[u8], place: Place<'_>, plaintext: &[u8]) -> Option<Vec<u8>> {
    let nonce: &[u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let associated = place.bytes();
    let cipher = Aes256Gcm::new_from_slice(key).ok()?;
    cipher.encrypt(nonce.into(), Payload { msg: plaintext, aad: &associated }).ok()
}

/// Decrypts; none when a bit of anything differs.
pub(crate) fn open(key: &[u8], nonce: &[u8], place: Place<'_>, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let nonce: &[u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let associated = place.bytes();
    let cipher = Aes256Gcm::new_from_slice(key).ok()?;
    cipher.decrypt(nonce.into(), Payload { msg: ciphertext, aad: &associated }).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];
    const NONCE: [u8; NONCE_BYTES] = [3; NONCE_BYTES];

    fn place() -> Place<'static> {
        Place { secret_id: "s1", version: 2, organization_id: "o1", kind: "GENERIC" }
    }

    #[test]
    fn a_ciphertext_opens_in_its_own_place_only() {
        let sealed = seal(&KEY, &NONCE, place(), b"value").unwrap();
        assert_eq!(open(&KEY, &NONCE, place(), &sealed).unwrap().as_slice(), b"value");
        for other in [
            Place { secret_id: "s2", ..place() },
            Place { version: 1, ..place() },
            Place { organization_id: "o2", ..place() },
            Place { organization_id: "", ..place() },
            Place { kind: "API_KEY", ..place() },
        ] {
            assert!(open(&KEY, &NONCE, other, &sealed).is_none(), "{other:?}");
        }
        assert!(open(&[8; KEY_BYTES], &NONCE, place(), &sealed).is_none());
        assert!(seal(&KEY[1..], &NONCE, place(), b"value").is_none());
    }

    proptest! {
        #[test]
        fn one_changed_bit_is_noticed(text in proptest::collection::vec(any::<u8>(), 0..200), bit in any::<usize>()) {
            let mut sealed = seal(&KEY, &NONCE, place(), &text).unwrap();
            prop_assert_eq!(open(&KEY, &NONCE, place(), &sealed).unwrap().to_vec(), text);
            let bit = bit % (sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&KEY, &NONCE, place(), &sealed).is_none());
        }
    }
}
