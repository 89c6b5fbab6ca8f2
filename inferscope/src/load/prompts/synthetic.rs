//! Synthetic prompts of a given length in tokens.
//!
//! Owns the text behind a key: the same key gives the same words, and two keys differ within the first eight words.
//! Never keeps a text. Called by `prompts`.
//!
//! There is no tokenizer here. Each word of the list is one token for the tokenizers in use. If the server counts
//! otherwise (a chat template, another tokenizer), `words_per_token` corrects the length.

use super::wordlist::WORDS;

/// Words that one 64-bit number gives.
const GROUP: u64 = 8;
/// An odd number, so that it maps numbers one to one, and the lowest bytes too: 256 ids in a row all differ in their
/// first word.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Identifies a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// The `n`th text of a family. All texts of a family are different.
    pub(super) const fn new(family: u64, n: u64) -> Self {
        Self(n.wrapping_mul(SPREAD).wrapping_add(mix(family)))
    }

    /// Appends the first `words` words of the text to `out`.
    pub(super) fn write(self, words: u64, out: &mut String) {
        let mut bytes = [0; 8];
        for i in 0..words {
            if i % GROUP == 0 {
                let group = i / GROUP;
                // The first group is the key itself, so no two keys begin alike.
                let number = if group == 0 { self.0 } else { mix(self.0 ^ group.wrapping_mul(SPREAD)) };
                bytes = number.to_le_bytes();
            }
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(WORDS[usize::from(bytes[(i % GROUP) as usize])]);
        }
    }
}

/// `SplitMix64`'s output function. It is one to one and the same in every release; a library's generator need not be.
const fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(SPREAD);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
