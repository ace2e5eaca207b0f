//! Finds the oxy to measure, building it if none is given.

use std::path::PathBuf;

use oxy_benches::binary;

use crate::Options;

/// How oxy is started.
const ARGUMENTS: &str = "{mode} --listen {listen} --to {origin} --workers {workers}";

/// What stands for Oxy.
#[derive(Debug)]
pub(crate) struct Oxy {
    /// The binary, unless something else is in its place.
    pub(crate) program: Option<PathBuf>,
    /// The command line, with `{mode}`, `{listen}`, `{origin}` and `{workers}` in it.
    pub(crate) template: Vec<String>,
}

impl Oxy {
    /// As the options say.
    pub(crate) fn find(options: &Options) -> Result<Self, String> {
        if let Some(template) = &options.oxy_cmd {
            return Ok(Self {
                program: None,
                template: words(template).collect(),
            });
        }
        let program = match &options.oxy {
            Some(path) => path.clone(),
            None => binary::oxy()?,
        };
        let template = std::iter::once(program.display().to_string())
            .chain(words(ARGUMENTS))
            .collect();
        Ok(Self {
            program: Some(program),
            template,
        })
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}
