//! What is wrong with a configuration file, where, and how to mend it.

use std::{fmt, path::PathBuf};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line in the file, from 1; `None` when it concerns the file as a whole.
    pub line: Option<usize>,
    /// That line's text.
    pub excerpt: Option<String>,
    /// The key, with the section that it stands in; empty when it concerns no key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

/// Everything that is wrong with a configuration file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = diagnostic.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": ")?;
            if !diagnostic.key.is_empty() {
                write!(f, "{}: ", diagnostic.key)?;
            }
            write!(f, "{}", diagnostic.message)?;
            if let Some(excerpt) = &diagnostic.excerpt {
                write!(f, "\n    | {excerpt}")?;
            }
            write!(f, "\n    = fix: {}", diagnostic.fix)?;
        }
        Ok(())
    }
}
