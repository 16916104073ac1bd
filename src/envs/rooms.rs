//! The rooms of `pointmaze-rooms`: four, one in each corner, around a hall; an episode is asked for one of them
//! in words.
//!
//! The environment knows the room by two words of the instruction ("upper" or "north", "left" or "west", ...),
//! which is all it takes to pay reward and to judge. A policy never sees the room, only the instruction.

use crate::error::{Error, Result};

/// Name of the maze that has them.
pub const MAZE: &str = "pointmaze-rooms";

/// Cells from a room's middle to its walls.
const REACH: usize = 1;

/// A room of three by three cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Its name.
    pub name: &'static str,
    /// Its middle cell (column, row from the bottom).
    pub middle: (usize, usize),
    /// How episodes ask for it, in data that is collected.
    pub instructions: [&'static str; 16],
}

/// All of them.
pub const ROOMS: [Room; 4] = [
    Room {
        name: "upper left room",
        middle: (2, 8),
        instructions: [
            "go to the upper left room",
            "move to the room at the top left",
            "the upper left room is your goal",
            "head for the top left corner of the maze",
            "find the room in the northwest",
            "walk north and then west, to the room there",
            "please take me to the upper left room",
            "enter the room on the left side, at the top",
            "travel to the northwest room",
            "your target is the room in the top left corner",
            "steer the ball into the upper left room",
            "the room you want is northwest",
            "roll to the left room of the upper row",
            "reach the top left room",
            "get into the northwest corner",
            "stop in the upper room on the left",
        ],
    },
    Room {
        name: "upper right room",
        middle: (8, 8),
        instructions: [
            "go to the upper right room",
            "move to the room at the top right",
            "the upper right room is your goal",
            "head for the top right corner of the maze",
            "find the room in the northeast",
            "walk north and then east, to the room there",
            "please take me to the upper right room",
            "enter the room on the right side, at the top",
            "travel to the northeast room",
            "your target is the room in the top right corner",
            "steer the ball into the upper right room",
            "the room you want is northeast",
            "roll to the right room of the upper row",
            "reach the top right room",
            "get into the northeast corner",
            "stop in the upper room on the right",
        ],
    },
    Room {
        name: "lower left room",
        middle: (2, 2),
        instructions: [
            "go to the lower left room",
            "move to the room at the bottom left",
            "the lower left room is your goal",
            "head for the bottom left corner of the maze",
            "find the room in the southwest",
            "walk south and then west, to the room there",
            "please take me to the lower left room",
            "enter the room on the left side, at the bottom",
            "travel to the southwest room",
            "your target is the room in the bottom left corner",
            "steer the ball into the lower left room",
            "the room you want is southwest",
            "roll to the left room of the lower row",
            "reach the bottom left room",
            "get into the southwest corner",
            "stop in the lower room on the left",
        ],
    },
    Room {
        name: "lower right room",
        middle: (8, 2),
        instructions: [
            "go to the lower right room",
            "move to the room at the bottom right",
            "the lower right room is your goal",
            "head for the bottom right corner of the maze",
            "find the room in the southeast",
            "walk south and then east, to the room there",
            "please take me to the lower right room",
            "enter the room on the right side, at the bottom",
            "travel to the southeast room",
            "your target is the room in the bottom right corner",
            "steer the ball into the lower right room",
            "the room you want is southeast",
            "roll to the right room of the lower row",
            "reach the bottom right room",
            "get into the southeast corner",
            "stop in the lower room on the right",
        ],
    },
];

/// Words that say a half of the maze: whether it is the upper one, the right one. Not "up", which ends up anywhere.
const UP: [&str; 4] = ["upper", "top", "north", "northern"];
const DOWN: [&str; 4] = ["lower", "bottom", "south", "southern"];
const LEFT: [&str; 4] = ["left", "west", "western", "leftmost"];
const RIGHT: [&str; 4] = ["right", "east", "eastern", "rightmost"];

impl Room {
    /// The room that a cell lies in; `None` in the hall.
    pub fn at(cell: (usize, usize)) -> Option<&'static Self> {
        ROOMS.iter().find(|room| room.contains(cell))
    }

    /// The room that an instruction names by its words, whatever stands around them.
    ///
    /// # Errors
    /// If it says neither or both of up and down, or of left and right.
    pub fn named_in(instruction: &str) -> Result<&'static Self> {
        let lower = instruction.to_lowercase();
        let words: Vec<&str> = lower
            .split(|c: char| !c.is_alphanumeric())
            .flat_map(compass)
            .collect();
        let says = |known: &[&str]| words.iter().any(|word| known.contains(word));
        let half = |one: &[&str], other: &[&str]| match (says(one), says(other)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        };
        let (Some(up), Some(right)) = (half(&UP, &DOWN), half(&RIGHT, &LEFT)) else {
            let names: Vec<&str> = ROOMS.iter().map(|room| room.name).collect();
            return Err(Error::Env {
                name: MAZE.to_owned(),
                problem: format!(
                    "the instruction `{instruction}` names no room: say which by words like those of {}",
                    names.join(", ")
                ),
            });
        };
        Ok(&ROOMS[2 * usize::from(!up) + usize::from(right)])
    }

    /// Whether a cell lies in it.
    pub fn contains(&self, (column, row): (usize, usize)) -> bool {
        column.abs_diff(self.middle.0) <= REACH && row.abs_diff(self.middle.1) <= REACH
    }
}

/// "northwest" as two words, any other as itself.
fn compass(word: &str) -> Vec<&str> {
    for vertical in ["north", "south"] {
        match word.strip_prefix(vertical) {
            Some(rest) if LEFT.contains(&rest) || RIGHT.contains(&rest) => {
                return vec![&word[..vertical.len()], rest];
            }
            _ => {}
        }
    }
    vec![word]
}

/// Every wording that data is collected with: the first of each room, then the second of each, and so on.
pub fn instructions() -> Vec<&'static str> {
    let wordings = ROOMS[0].instructions.len();
    (0..wordings)
        .flat_map(|i| ROOMS.iter().map(move |room| room.instructions[i]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_named_by_its_words_in_whatever_sentence() {
        for room in &ROOMS {
            for text in room.instructions {
                assert_eq!(Room::named_in(text).expect(text), room);
            }
            assert_eq!(Room::named_in(room.name).expect("its name"), room);
        }
        for (text, name) in [
            ("Please walk into the NORTHWEST room.", "upper left room"),
            ("south-eastern chamber, now", "lower right room"),
            (
                "the lower left room is where you should end up",
                "lower left room",
            ),
        ] {
            assert_eq!(Room::named_in(text).expect(text).name, name);
        }
    }

    #[test]
    fn words_that_name_no_room_are_refused_with_the_rooms_that_there_are() {
        for text in [
            "",
            "go home",
            "the upper room",
            "left or right, upper",
            "upright lefty",
        ] {
            let problem = Room::named_in(text).expect_err(text).to_string();
            assert!(
                problem.contains("upper left room, upper right room"),
                "{problem}"
            );
        }
    }

    #[test]
    fn a_room_has_nine_cells_around_its_middle() {
        let cells = (0..11).flat_map(|column| (0..11).map(move |row| (column, row)));
        let inside: Vec<_> = cells.filter(|&cell| Room::at(cell).is_some()).collect();
        assert_eq!(inside.len(), 4 * 9);
        assert_eq!(
            Room::at((2, 8)).map(|room| room.name),
            Some("upper left room")
        );
        assert_eq!(Room::at((5, 5)), None);
    }
}
