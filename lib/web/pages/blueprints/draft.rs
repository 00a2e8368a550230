//! A blueprint as typed into the form: kept verbatim until it is valid.

use std::fmt::Display;

use crate::base::names::{BlueprintName, OverlayName};
use crate::db::blueprints::{Content, Stored};
use crate::domain::blueprint::{ConfigLine, check};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The edited blueprint; empty for a new one.
    pub id: String,
    /// When the form was loaded: [`crate::db::blueprints::Blueprint::updated_at`] as of then.
    pub updated_at: String,
    pub name: String,
    /// The overlays of the catalog, and their positions.
    pub rows: Vec<Row>,
    /// Launch arguments, one per line.
    pub arguments: String,
    /// The lines of server.cfg.
    pub config: String,
}

/// An overlay in the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub overlay: String,
    /// Its position, 1 for the topmost; empty if it is not used.
    pub position: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftErrors {
    pub all: Option<String>,
    pub name: Option<String>,
    pub overlays: Option<String>,
    pub arguments: Option<String>,
    pub config: Option<String>,
}

impl DraftErrors {
    /// The first field with an error, in the form's order; empty if there is none.
    pub fn first(&self) -> &'static str {
        let fields = [
            (&self.name, "name"),
            (&self.overlays, "overlays"),
            (&self.arguments, "arguments"),
            (&self.config, "config"),
        ];

        fields
            .into_iter()
            .find(|(trouble, _)| trouble.is_some())
            .map_or("", |(_, field)| field)
    }
}

impl Draft {
    /// Reads the form's fields. `overlay` and `position` come in pairs.
    pub fn read(fields: Vec<(String, String)>) -> Self {
        let mut draft = Draft::default();
        for (field, value) in fields {
            match field.as_str() {
                "id" => draft.id = value,
                "updated_at" => draft.updated_at = value,
                "name" => draft.name = value,
                "overlay" => draft.rows.push(Row {
                    overlay: value,
                    position: String::new(),
                }),
                "position" => {
                    if let Some(row) = draft.rows.last_mut() {
                        row.position = value;
                    }
                }
                "arguments" => draft.arguments = value,
                "config" => draft.config = value,
                _ => {}
            }
        }

        draft
    }

    /// The form of a stored blueprint.
    pub fn of(name: &str, stored: &Stored) -> Self {
        let rows = stored.overlays.iter().enumerate();

        Self {
            name: name.to_owned(),
            rows: rows
                .map(|(at, overlay)| Row {
                    overlay: overlay.clone(),
                    position: (at + 1).to_string(),
                })
                .collect(),
            arguments: lines(&stored.arguments),
            config: lines(&stored.config),
            ..Self::default()
        }
    }

    /// Sorts the rows, and appends those of `catalog` that are missing.
    pub fn with_catalog(mut self, catalog: impl IntoIterator<Item = String>) -> Self {
        for overlay in catalog {
            if !self.rows.iter().any(|row| row.overlay == overlay) {
                self.rows.push(Row {
                    overlay,
                    position: String::new(),
                });
            }
        }

        // A bad number sorts before the unused rows, where it is visible.
        let place = |row: &Row| match row.position.trim() {
            "" => (2, 0),
            text => text.parse::<i64>().map_or((1, 0), |number| (0, number)),
        };

        self.rows.sort_by_key(place);

        self
    }

    pub fn parse(&self) -> Result<(BlueprintName, Content), Box<DraftErrors>> {
        let name = self.name.trim().parse::<BlueprintName>();
        let overlays = self.overlays();
        let arguments = numbered(
            self.arguments
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty()),
        );

        let arguments =
            arguments.and_then(
                |arguments| match check::<OverlayName>(&[], &arguments, &[]) {
                    Ok(()) => Ok(arguments),
                    Err(bad) => Err(bad.to_string()),
                },
            );

        let config = numbered::<ConfigLine>(self.config.lines().enumerate());
        let config = config.and_then(|config| match check::<OverlayName>(&[], &[], &config) {
            Ok(()) => Ok(config),
            Err(bad) => Err(bad.to_string()),
        });

        match (name, overlays, arguments, config) {
            (Ok(name), Ok(overlays), Ok(arguments), Ok(config)) => Ok((
                name,
                Content {
                    overlays,
                    arguments,
                    config,
                },
            )),
            (name, overlays, arguments, config) => Err(Box::new(DraftErrors {
                all: None,
                name: name.err().map(|bad| bad.to_string()),
                overlays: overlays.err(),
                arguments: arguments.err(),
                config: config.err(),
            })),
        }
    }

    fn overlays(&self) -> Result<Vec<OverlayName>, String> {
        let mut wanted = Vec::new();
        for row in &self.rows {
            let position = row.position.trim();
            if position.is_empty() {
                continue;
            }

            let name = row
                .overlay
                .parse::<OverlayName>()
                .map_err(|bad| bad.to_string())?;
            let bad = || format!("the position of '{name}' is not a number from 0 to 9999");

            let position = position
                .parse::<i64>()
                .ok()
                .filter(|number| (0..=9999).contains(number))
                .ok_or_else(bad)?;
            if let Some((_, other)) = wanted.iter().find(|(taken, _)| *taken == position) {
                return Err(format!(
                    "'{other}' and '{name}' have the same position {position}"
                ));
            }

            wanted.push((position, name));
        }

        wanted.sort_unstable_by_key(|(position, _)| *position);

        let wanted: Vec<OverlayName> = wanted.into_iter().map(|(_, name)| name).collect();
        check(&wanted, &[], &[]).map_err(|bad| bad.to_string())?;
        Ok(wanted)
    }
}

fn lines(lines: &[String]) -> String {
    // Each line has a newline, so that blank ones at the end are kept.
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Parses each line. An error names the line's number.
fn numbered<'a, T>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<T>, String>
where
    T: std::str::FromStr<Err: Display>,
{
    lines
        .map(|(at, line)| {
            line.parse()
                .map_err(|bad: T::Err| format!("line {}: {bad}", at + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::blueprint::Argument;

    fn draft(fields: &[(&str, &str)]) -> Draft {
        Draft::read(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn overlays_are_taken_in_the_order_of_their_numbers() {
        let draft = draft(&[
            ("csrf", "x"),
            ("name", " coop "),
            ("overlay", "a"),
            ("position", "3"),
            ("overlay", "b"),
            ("position", ""),
            ("overlay", "c"),
            ("position", " 0 "),
            ("arguments", "+map\r\n\r\nc1m1_hotel"),
            ("config", "hostname \"x\"\r\n\r\n// end\r\n"),
        ]);

        let (name, content) = draft.parse().unwrap();
        let texts =
            |names: &[OverlayName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();

        assert_eq!(
            (name.as_str(), texts(&content.overlays)),
            ("coop", vec!["c".to_owned(), "a".to_owned()])
        );

        assert_eq!(
            content
                .arguments
                .iter()
                .map(Argument::as_str)
                .collect::<Vec<_>>(),
            ["+map", "c1m1_hotel"]
        );

        assert_eq!(
            content
                .config
                .iter()
                .map(ConfigLine::as_str)
                .collect::<Vec<_>>(),
            ["hostname \"x\"", "", "// end"]
        );
    }

    #[test]
    fn a_stored_blueprint_survives_the_form_unchanged() {
        let content = Content {
            overlays: vec!["b".parse().unwrap(), "a".parse().unwrap()],
            arguments: vec!["+x".parse().unwrap()],
            config: ["", "a", "", ""].map(|line| line.parse().unwrap()).to_vec(),
        };

        let draft = Draft::of("coop", &content.clone().into())
            .with_catalog(["a", "b", "c"].map(str::to_owned));

        assert_eq!(
            draft
                .rows
                .iter()
                .map(|row| row.overlay.as_str())
                .collect::<Vec<_>>(),
            ["b", "a", "c"]
        );

        assert_eq!(draft.parse().unwrap().1, content);
    }

    #[test]
    fn each_field_has_its_own_error_and_no_input_is_lost() {
        let typed = draft(&[
            ("name", "42"),
            ("overlay", "a"),
            ("position", "1"),
            ("overlay", "b"),
            ("position", "1"),
            ("arguments", "+map\n+hostport\n"),
            ("config", "ok\nbad\u{1b}[0m"),
        ]);

        let troubles = typed.parse().unwrap_err();

        assert!(troubles.name.unwrap().contains("42"));
        assert!(troubles.overlays.unwrap().contains("'a' and 'b'"));
        assert!(
            troubles
                .arguments
                .unwrap()
                .starts_with("line 2: argument '+hostport'")
        );

        assert!(troubles.config.unwrap().starts_with("line 2: "));

        let again = typed
            .clone()
            .with_catalog(["a", "b", "c"].map(str::to_owned));
        assert_eq!(
            (&again.name, &again.arguments, &again.config),
            (&typed.name, &typed.arguments, &typed.config)
        );

        assert_eq!(again.rows[..2], typed.rows[..]);
    }

    #[test]
    fn a_position_is_a_number() {
        for bad in ["x", "-1", "10000", "1.5", "99999999999999999999"] {
            let typed = draft(&[("name", "x"), ("overlay", "a"), ("position", bad)]);
            assert!(
                typed.parse().unwrap_err().overlays.unwrap().contains("'a'"),
                "{bad}"
            );
        }

        let typed = draft(&[("name", "x"), ("overlay", "../a"), ("position", "1")]);
        assert!(typed.parse().unwrap_err().overlays.is_some());
        assert!(
            draft(&[("name", "x"), ("position", "1")]).parse().is_ok(),
            "a position of nothing"
        );
    }
}
