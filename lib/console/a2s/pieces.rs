//! Puts the pieces of a long answer together. It does no I/O, and holds at most [`LARGEST`] bytes.

use super::packet::{BadPacket, Piece};

/// The largest answer, in bytes.
pub const LARGEST: usize = 64 * 1024;

/// The most pieces of an answer: more than the largest one has at the usual 1,248 bytes.
const MOST: u8 = 64;

/// The pieces of one answer.
#[derive(Debug)]
pub struct Pieces {
    id: u32,
    pieces: Vec<Option<Vec<u8>>>,
    size: usize,
}

impl Pieces {
    /// Begins an answer with any of its pieces.
    pub fn begin(piece: &Piece<'_>) -> Result<Self, BadPacket> {
        if !(1..=MOST).contains(&piece.total) {
            return Err(BadPacket::Pieces);
        }

        Ok(Self {
            id: piece.id,
            pieces: vec![None; piece.total.into()],
            size: 0,
        })
    }

    /// Whether the piece belongs to this answer. The game gives each answer a new id.
    pub fn is_of(&self, piece: &Piece<'_>) -> bool {
        self.id == piece.id
    }

    /// Adds a piece. Returns the whole answer with the last one.
    pub fn add(&mut self, piece: &Piece<'_>) -> Result<Option<Vec<u8>>, BadPacket> {
        let is_whole = usize::from(piece.total) == self.pieces.len();
        let place = self.pieces.get_mut(usize::from(piece.number));
        let Some(place) = place.filter(|_| is_whole) else {
            return Err(BadPacket::Pieces);
        };

        match place {
            // Sent twice.
            Some(bytes) if bytes == piece.bytes => return Ok(None),
            Some(_) => return Err(BadPacket::Pieces),
            None => self.size += piece.bytes.len(),
        }
        if self.size > LARGEST {
            return Err(BadPacket::Large);
        }
        *place = Some(piece.bytes.to_vec());

        let whole: Option<Vec<&[u8]>> = self.pieces.iter().map(Option::as_deref).collect();
        Ok(whole.map(|pieces| pieces.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u32, total: u8, number: u8, bytes: &[u8]) -> Piece<'_> {
        Piece {
            id,
            total,
            number,
            bytes,
        }
    }

    #[test]
    fn pieces_are_put_together_in_any_order_and_duplicates_count_once() {
        let mut pieces = Pieces::begin(&piece(7, 3, 2, b"c")).unwrap();
        assert_eq!(pieces.add(&piece(7, 3, 2, b"c")), Ok(None));
        assert_eq!(pieces.add(&piece(7, 3, 0, b"a")), Ok(None));
        assert_eq!(pieces.add(&piece(7, 3, 0, b"a")), Ok(None));
        assert_eq!(pieces.add(&piece(7, 3, 1, b"b")), Ok(Some(b"abc".to_vec())));
        assert!(pieces.is_of(&piece(7, 3, 0, b"")) && !pieces.is_of(&piece(8, 3, 0, b"")));
    }

    #[test]
    fn pieces_that_do_not_fit_and_too_many_bytes_are_refused() {
        for total in [0, MOST + 1, 255] {
            assert!(Pieces::begin(&piece(7, total, 0, b"")).is_err());
        }

        let mut pieces = Pieces::begin(&piece(7, 2, 0, b"a")).unwrap();
        pieces.add(&piece(7, 2, 0, b"a")).unwrap();
        for bad in [
            piece(7, 3, 1, b"b"),
            piece(7, 2, 2, b"b"),
            piece(7, 2, 0, b"other"),
        ] {
            assert_eq!(pieces.add(&bad), Err(BadPacket::Pieces));
        }

        let much = vec![0; LARGEST / 2 + 1];
        let mut pieces = Pieces::begin(&piece(7, 3, 0, &much)).unwrap();
        assert_eq!(pieces.add(&piece(7, 3, 0, &much)), Ok(None));
        assert_eq!(pieces.add(&piece(7, 3, 1, &much)), Err(BadPacket::Large));
    }
}
