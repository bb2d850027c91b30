//! Numbers that identify persons, cards, accounts, and keys. All of them except the numbers of persons have check
//! digits.
use sha2::{Digest, Sha256};

use super::tokens::is_inside_word;

/// Code of each country that has International Bank Account Numbers, and the length of its numbers (ISO 13616).
const IBAN_LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24\
    FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24\
    ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SN28SO23ST25SV28TL23\
    TN24TR26UA29VA22VG24XK20YE30";
/// The digits of base58, in order.
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// The first byte of a private key of Bitcoin.
const BITCOIN: u8 = 0x80;

/// Whether a text contains one of these numbers.
pub(super) fn are_in(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut is_word_start = true;
    for (at, byte) in bytes.iter().enumerate() {
        let rest = bytes.get(at..).unwrap_or_default();
        if is_word_start && (is_social_security(rest) || is_card(rest) || is_iban(rest)) {
            return true;
        }
        if is_bitcoin_key(rest) {
            return true;
        }
        is_word_start = !is_inside_word(*byte);
    }
    false
}

/// Whether a word ends here.
fn is_word_end(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| !is_inside_word(*byte))
}

/// Matches a Social Security number of the United States: 3, 2, and 4 digits.
fn is_social_security(bytes: &[u8]) -> bool {
    let Some((number, rest)) = bytes.split_at_checked(11) else {
        return false;
    };
    let is_there = |(at, byte): (usize, &u8)| match at {
        3 | 6 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    number.iter().enumerate().all(is_there) && is_word_end(rest)
}

/// Matches the number of a payment card: 15 to 19 digits, perhaps with single spaces or hyphens between them.
fn is_card(bytes: &[u8]) -> bool {
    let mut digits = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [digit, rest @ ..] if digit.is_ascii_digit() => {
                digits.push(digit - b'0');
                rest
            }
            // The first four digits are together.
            [b' ' | b'-', rest @ ..]
                if digits.len() >= 4 && rest.first().is_some_and(u8::is_ascii_digit) =>
            {
                rest
            }
            _ => return false,
        };
        if digits.len() > 19 {
            return false;
        }
        if digits.len() >= 15 && is_word_end(rest) && is_issued(&digits) && has_luhn(&digits) {
            return true;
        }
    }
}

/// Whether a network issues cards with this length and these first digits.
fn is_issued(digits: &[u8]) -> bool {
    let first = digits.iter().take(4);
    let first = first.fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        15 => matches!(first, 3400..=3499 | 3700..=3799),
        16 => matches!(
            first,
            2221..=2720 | 3528..=3589 | 4000..=4999 | 5100..=5599 | 6011 | 6440..=6599
        ),
        17 | 18 => matches!(first, 3528..=3589),
        19 => matches!(first, 3528..=3589 | 4000..=4999 | 6011 | 6440..=6599),
        _ => false,
    }
}

/// Checks the last digit by Luhn's formula (ISO/IEC 7812-1).
fn has_luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().map(|(at, digit)| {
        let digit = u32::from(*digit);
        match (at % 2, digit) {
            (0, _) => digit,
            (_, 0..=4) => digit * 2,
            _ => digit * 2 - 9,
        }
    });
    sum.sum::<u32>() % 10 == 0
}

/// Matches an International Bank Account Number (ISO 13616).
fn is_iban(bytes: &[u8]) -> bool {
    let [first, second, digits @ ..] = bytes else {
        return false;
    };
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    if !country.iter().all(u8::is_ascii_uppercase) || !digits.iter().take(2).all(u8::is_ascii_digit)
    {
        return false;
    }
    let rows = IBAN_LENGTHS.as_bytes().as_chunks::<4>().0;
    let row = rows.iter().find(|row| row.starts_with(&country));
    let length = row.map_or(0, |row| {
        let [.., tens, ones] = *row;
        usize::from(tens - b'0') * 10 + usize::from(ones - b'0')
    });
    let Some((number, rest)) = bytes.split_at_checked(length) else {
        return false;
    };
    let Some((head, tail)) = number.split_at_checked(4) else {
        return false;
    };
    let remainder = tail.iter().chain(head).try_fold(0, |sum, byte| {
        let digit = char::from(*byte).to_digit(36)?;
        let factor = if digit < 10 { 10 } else { 100 };
        Some((sum * factor + digit) % 97)
    });
    is_word_end(rest) && remainder == Some(1)
}

/// Matches a private key of Bitcoin in its import format: base58 with a checksum.
fn is_bitcoin_key(bytes: &[u8]) -> bool {
    let length = match bytes.first() {
        Some(b'5') => 51,
        Some(b'K' | b'L') => 52,
        _ => return false,
    };
    let digits = bytes.get(..length).and_then(|digits| {
        let value = |byte: &u8| BASE58.iter().position(|one| one == byte);
        digits.iter().map(value).collect::<Option<Vec<_>>>()
    });
    let Some(digits) = digits else {
        return false;
    };
    // The number, with its lowest byte first.
    let mut number: Vec<u8> = Vec::new();
    for digit in digits {
        let mut carry = digit;
        for byte in &mut number {
            carry += usize::from(*byte) * 58;
            *byte = u8::try_from(carry & 0xff).unwrap_or_default();
            carry >>= 8;
        }
        while carry > 0 {
            number.push(u8::try_from(carry & 0xff).unwrap_or_default());
            carry >>= 8;
        }
    }
    number.reverse();
    let Some((payload, checksum)) = number
        .len()
        .checked_sub(4)
        .and_then(|at| number.split_at_checked(at))
    else {
        return false;
    };
    let digest = Sha256::digest(Sha256::digest(payload));
    payload.first() == Some(&BITCOIN) && digest.starts_with(checksum)
}
