//! The rooms of `pointmaze-rooms`: four, one in each corner, around a hall; an episode is asked for one of them
//! in words.
//!
//! The environment knows the room by two words of the instruction ("upper" or "north", "left" or "west", ...),
//! which is all it takes to pay reward and to judge. A policy never sees the room, only the instruction.

use trajformer_core::error::{Error, Result};

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
    /// What stands for `{upper}`, `{top}`, `{north}`, `{up}`, `{left}` and `{west}` in [`PLACES`].
    words: [&'static str; 6],
}

/// All of them.
pub const ROOMS: [Room; 4] = [
    Room {
        name: "upper left room",
        middle: (2, 8),
        words: ["upper", "top", "north", "up", "left", "west"],
    },
    Room {
        name: "upper right room",
        middle: (8, 8),
        words: ["upper", "top", "north", "up", "right", "east"],
    },
    Room {
        name: "lower left room",
        middle: (2, 2),
        words: ["lower", "bottom", "south", "down", "left", "west"],
    },
    Room {
        name: "lower right room",
        middle: (8, 2),
        words: ["lower", "bottom", "south", "down", "right", "east"],
    },
];

/// What [`PLACES`] holds instead of a room's own words.
const BLANKS: [&str; 6] = ["{upper}", "{top}", "{north}", "{up}", "{left}", "{west}"];

/// How data asks for a place.
const REQUESTS: [&str; 31] = [
    "go to {}",
    "move to {}",
    "{} is your goal",
    "head for {}",
    "find {}",
    "please take me to {}",
    "enter {}",
    "travel to {}",
    "your target is {}",
    "steer the ball into {}",
    "what you want is {}",
    "roll to {}",
    "reach {}",
    "get into {}",
    "stop in {}",
    "the place to be is {}",
    "could you move to {}?",
    "would you kindly head for {}",
    "I would like to be in {}",
    "{}, please",
    "{}",
    "goal: {}",
    "we will meet in {}",
    "let us go to {}",
    "hurry to {}!",
    "there are four rooms: go to {}",
    "take the shortest way to {}",
    "robot, roll over to {}",
    "you should end up in {}",
    "somebody is waiting for you in {}",
    "when the episode is over, be in {}",
];

/// How data calls a room. As many as have no divisor in common with [`REQUESTS`]: see [`Room::instructions`].
const PLACES: [&str; 32] = [
    "the {upper} {left} room",
    "the room at the {top} {left}",
    "the {top} {left} corner of the maze",
    "the room in the {north}{west}",
    "the {north}{west} room",
    "the room on the {left} side, at the {top}",
    "the {top} {left} room",
    "the {left} room of the {upper} row",
    "the {north}{west} corner",
    "the {upper} room on the {left}",
    "the {upper} {left} corner",
    "the room to the {north} and {west}",
    "the room in the {upper} {left}",
    "the {left} one of the {upper} rooms",
    "the {north}{west}",
    "the {north}{west}ern room",
    "the {left} room at the {top}",
    "the {top}-{left} room",
    "the {top} {left}",
    "the {left}most room at the {top}",
    "the room in the {north}ern half, on the {west} side",
    "the chamber in the {upper} {left}",
    "the {upper} room, the one on the {left}",
    "the room that lies {north} and {west} of the hall",
    "the {west}ern one of the two rooms in the {north}",
    "the {north}-{west}ern corner",
    "the {left} side of the {top} row",
    "the room where the {top} and the {left} wall meet",
    "the corner room, {upper} {left}",
    "the {north} {west} room",
    "the room that is {up} and to the {left}",
    "the room {up} and {west}",
];

/// Words that say a half of the maze: whether it is the upper one, the right one. "up" and "down" don't, which end up
/// anywhere, but before "and", "left" or "right" in a sentence that has none of these.
const UP: [&str; 5] = ["upper", "top", "north", "northern", "above"];
const DOWN: [&str; 5] = ["lower", "bottom", "south", "southern", "below"];
const LEFT: [&str; 4] = ["left", "west", "western", "leftmost"];
const RIGHT: [&str; 4] = ["right", "east", "eastern", "rightmost"];

impl Room {
    /// How episodes ask for it in data that is collected: every request with every place. The first 31 have 31
    /// requests and places.
    pub fn instructions(&self) -> impl Iterator<Item = String> + '_ {
        (0..REQUESTS.len() * PLACES.len()).map(|number| {
            let request = REQUESTS[number % REQUESTS.len()];
            let place = PLACES[number % PLACES.len()];
            let own = BLANKS.iter().zip(self.words);
            let place = own.fold(place.to_owned(), |text, (blank, word)| {
                text.replace(blank, word)
            });
            request.replace("{}", &place)
        })
    }

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
        let on_the_way = |way: &str| {
            let next = ["and", "left", "right"];
            words
                .windows(2)
                .any(|pair| pair[0] == way && next.contains(&pair[1]))
        };
        let vertical = match (
            says(&UP) || says(&DOWN),
            on_the_way("up"),
            on_the_way("down"),
        ) {
            (false, true, false) => Some(true),
            (false, false, true) => Some(false),
            _ => half(&UP, &DOWN),
        };
        let (Some(up), Some(right)) = (vertical, half(&RIGHT, &LEFT)) else {
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
pub fn instructions() -> Vec<String> {
    let of_rooms: Vec<Vec<String>> = ROOMS.iter().map(|r| r.instructions().collect()).collect();
    let number = 0..REQUESTS.len() * PLACES.len();
    number
        .flat_map(|i| of_rooms.iter().map(move |texts| texts[i].clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_named_by_its_words_in_whatever_sentence() {
        for room in &ROOMS {
            for text in room.instructions() {
                assert_eq!(Room::named_in(&text).expect(&text), room);
            }
            assert_eq!(Room::named_in(room.name).expect("its name"), room);
        }
        for (text, name) in [
            ("Please walk into the NORTHWEST room.", "upper left room"),
            ("south-eastern chamber, now", "lower right room"),
            ("down and to the right of the hall", "lower right room"),
            ("go up left", "upper left room"),
            (
                "end up and stay in the bottom right corner",
                "lower right room",
            ),
            (
                "the lower left room is where you should end up",
                "lower left room",
            ),
        ] {
            assert_eq!(Room::named_in(text).expect(text).name, name);
        }
    }

    #[test]
    fn every_wording_is_another_and_the_first_of_each_room_cover_all_requests() {
        let all = instructions();
        assert_eq!(all.len(), 4 * 31 * 32);
        let distinct: std::collections::HashSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(
            all[..5],
            [
                "go to the upper left room",
                "go to the upper right room",
                "go to the lower left room",
                "go to the lower right room",
                "move to the room at the top left",
            ]
        );
        for (number, request) in REQUESTS.iter().enumerate() {
            let (before, after) = request.split_once("{}").expect("a place");
            let text = &all[4 * number];
            assert!(text.starts_with(before) && text.ends_with(after), "{text}");
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
            "end up in the left room",
            "left, up and right, down",
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
