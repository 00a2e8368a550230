//! The selected row of a list that changes: it stays on its thing, not at its place.

/// Which row is selected.
#[derive(Clone, Debug)]
pub struct Cursor<Id> {
    /// What somebody went to; none follows the first row.
    at: Option<Id>,
    index: usize,
    /// The first row that is shown, kept from one picture to the next.
    pub offset: usize,
}

impl<Id> Default for Cursor<Id> {
    fn default() -> Self {
        Self { at: None, index: 0, offset: 0 }
    }
}

impl<Id: Copy + PartialEq> Cursor<Id> {
    /// Takes in what the list is now. A thing that is gone leaves the selection at its place.
    pub fn refresh(&mut self, ids: &[Id]) {
        if let Some(at) = self.at {
            self.index = ids.iter().position(|id| *id == at).unwrap_or(self.index.min(ids.len().saturating_sub(1)));
            self.at = ids.get(self.index).copied();
        } else {
            self.index = 0;
        }
    }

    /// The selected row; none in an empty list.
    #[must_use]
    pub fn index(&self, ids: &[Id]) -> Option<usize> {
        (self.index < ids.len()).then_some(self.index)
    }

    /// Goes `by` rows down, or up, as far as there are rows. The first row is the one that is followed: whatever comes to
    /// stand there is selected.
    pub fn go(&mut self, by: isize, ids: &[Id]) {
        self.refresh(ids);
        self.index = self.index.saturating_add_signed(by).min(ids.len().saturating_sub(1));
        self.at = if by < 0 && self.index == 0 { None } else { ids.get(self.index).copied() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_stays_on_its_thing_and_takes_its_place_when_it_is_gone() {
        let mut cursor = Cursor::default();
        cursor.go(1, &[10, 20, 30]);
        assert_eq!(cursor.index(&[10, 20, 30]), Some(1));
        cursor.refresh(&[5, 10, 20, 30]);
        assert_eq!(cursor.index(&[5, 10, 20, 30]), Some(2));
        cursor.refresh(&[5, 10, 30]);
        assert_eq!(cursor.index(&[5, 10, 30]), Some(2), "30 stands there now");
        cursor.refresh(&[5, 10, 15, 30]);
        assert_eq!(cursor.index(&[5, 10, 15, 30]), Some(3), "and is followed from then on");
        cursor.refresh(&[5]);
        assert_eq!(cursor.index(&[5]), Some(0));
        cursor.refresh(&[]);
        assert_eq!(cursor.index(&[]), None);
    }

    #[test]
    fn the_first_row_is_followed_until_somebody_goes_elsewhere_and_after_they_came_back() {
        let mut cursor = Cursor::default();
        cursor.refresh(&[1, 2]);
        cursor.refresh(&[7, 1, 2]);
        assert_eq!(cursor.index(&[7, 1, 2]), Some(0));
        cursor.go(9, &[7, 1, 2]);
        assert_eq!(cursor.index(&[7, 1, 2]), Some(2), "no further than the end");
        cursor.go(-9, &[7, 1, 2]);
        cursor.refresh(&[8, 7, 1, 2]);
        assert_eq!(cursor.index(&[8, 7, 1, 2]), Some(0));
    }
}
