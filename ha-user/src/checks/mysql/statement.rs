//! What is asked, and what the answer must be.

use crate::{checks::words::clean, config::Mysql};

/// Rows of an answer that are kept.
pub(crate) const ROWS: usize = 64;

/// InnoDB fills this in under the locks of its log and its monitor, for any account: `SELECT 1` would never
/// come to the storage engine.
const DEFAULT: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_total'";

/// The first rows of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether there can be rows: a statement that only does something has no columns.
    pub(crate) has_columns: bool,
    /// The values, `None` = NULL.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// The statement of a check.
#[derive(Clone, Debug)]
pub(super) struct Query {
    statement: String,
    expect: Option<String>,
}

impl Query {
    pub(super) fn new(config: &Mysql) -> Self {
        Self {
            statement: config.query.clone().unwrap_or_else(|| DEFAULT.to_owned()),
            expect: config.expect.clone(),
        }
    }

    pub(super) fn statement(&self) -> &str {
        &self.statement
    }

    /// In words what is right, or what is wrong.
    pub(super) fn judge(&self, answer: &Answer) -> Result<String, String> {
        let Some(row) = answer.rows.first() else {
            return if answer.has_columns || self.expect.is_some() {
                Err("the query returned no row".to_owned())
            } else {
                Ok("carries the query out".to_owned())
            };
        };
        let Some(expected) = &self.expect else {
            return Ok("answers the query".to_owned());
        };
        let value = row.first().and_then(Option::as_ref);
        if value == Some(expected) {
            return Ok(format!("answers the query with {}", shown(value)));
        }
        Err(format!(
            "the query returned {} instead of {}",
            shown(value),
            shown(Some(expected))
        ))
    }
}

fn shown(value: Option<&String>) -> String {
    match value {
        Some(value) => format!("\"{}\"", clean(value)),
        None => "NULL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MysqlPlace, MysqlServer};

    fn query(expect: Option<&str>) -> Query {
        Query::new(&Mysql {
            server: MysqlServer {
                place: MysqlPlace::Socket("/nowhere".into()),
                user: "root".to_owned(),
                password: None,
                database: None,
                tls: None,
                keep_open: true,
            },
            query: None,
            expect: expect.map(str::to_owned),
        })
    }

    fn rows(values: &[Option<&str>]) -> Answer {
        Answer {
            has_columns: true,
            rows: values
                .iter()
                .map(|value| vec![value.map(str::to_owned)])
                .collect(),
        }
    }

    #[test]
    fn whole_values_are_compared() {
        assert!(
            query(Some("Primary"))
                .judge(&rows(&[Some("Primary")]))
                .is_ok()
        );
        for other in [Some("non-Primary"), Some("primary"), Some(""), None] {
            let error = query(Some("Primary")).judge(&rows(&[other])).unwrap_err();
            assert!(error.ends_with("instead of \"Primary\""), "{error}");
        }
    }

    #[test]
    fn an_answer_has_a_row() {
        assert!(query(None).judge(&rows(&[None])).is_ok());
        assert!(query(None).judge(&rows(&[])).is_err());
        assert!(query(None).judge(&Answer::default()).is_ok());
        assert!(query(Some("1")).judge(&Answer::default()).is_err());
    }
}
