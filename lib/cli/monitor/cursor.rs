//! The selected row of a list that changes. The selection follows the item, not the position.

#[derive(Clone, Debug)]
pub struct Cursor<Id> {
    /// The selected item. None selects the first row, whatever it is.
    at: Option<Id>,
    index: usize,
    /// The first visible row, kept between frames.
    pub offset: usize,
}

impl<Id> Default for Cursor<Id> {
    fn default() -> Self {
        Self {
            at: None,
            index: 0,
            offset: 0,
        }
    }
}

impl<Id: Copy + PartialEq> Cursor<Id> {
    /// Updates the selection for a new list. If the selected item is gone, its position is kept.
    pub fn refresh(&mut self, ids: &[Id]) {
        if let Some(at) = self.at {
            self.index = ids
                .iter()
                .position(|id| *id == at)
                .unwrap_or(self.index.min(ids.len().saturating_sub(1)));
            self.at = ids.get(self.index).copied();
        } else {
            self.index = 0;
        }
    }

    /// The selected row; none in an empty list.
    pub fn index(&self, ids: &[Id]) -> Option<usize> {
        (self.index < ids.len()).then_some(self.index)
    }

    /// Moves `by` rows, within the list. On the first row, the selection stays there when new
    /// items arrive above.
    pub fn move_by(&mut self, by: isize, ids: &[Id]) {
        self.refresh(ids);
        self.index = self
            .index
            .saturating_add_signed(by)
            .min(ids.len().saturating_sub(1));
        self.at = if by < 0 && self.index == 0 {
            None
        } else {
            ids.get(self.index).copied()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_follows_its_item_and_keeps_the_position_of_a_removed_one() {
        let mut cursor = Cursor::default();
        cursor.move_by(1, &[10, 20, 30]);
        assert_eq!(cursor.index(&[10, 20, 30]), Some(1));

        cursor.refresh(&[5, 10, 20, 30]);
        assert_eq!(cursor.index(&[5, 10, 20, 30]), Some(2));

        cursor.refresh(&[5, 10, 30]);
        assert_eq!(
            cursor.index(&[5, 10, 30]),
            Some(2),
            "30 has that position now"
        );

        cursor.refresh(&[5, 10, 15, 30]);
        assert_eq!(
            cursor.index(&[5, 10, 15, 30]),
            Some(3),
            "and is selected from then on"
        );

        cursor.refresh(&[5]);
        assert_eq!(cursor.index(&[5]), Some(0));

        cursor.refresh(&[]);
        assert_eq!(cursor.index(&[]), None);
    }

    #[test]
    fn the_first_row_stays_selected_until_the_user_moves_and_after_moving_back() {
        let mut cursor = Cursor::default();
        cursor.refresh(&[1, 2]);
        cursor.refresh(&[7, 1, 2]);
        assert_eq!(cursor.index(&[7, 1, 2]), Some(0));

        cursor.move_by(9, &[7, 1, 2]);
        assert_eq!(cursor.index(&[7, 1, 2]), Some(2), "stops at the end");

        cursor.move_by(-9, &[7, 1, 2]);
        cursor.refresh(&[8, 7, 1, 2]);
        assert_eq!(cursor.index(&[8, 7, 1, 2]), Some(0));
    }
}
